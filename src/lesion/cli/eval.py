"""`lesion eval`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Files, Json, Model, Overrides, Runs


def evaluate(
    overrides: Overrides = None,
    model: Model = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    config: Files = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Measure a model file on a split of the data it was trained with.

    Example: lesion eval --model runs/20261123-101500-baseline --split test
    """
    from lesion.cli.render import Bars, show
    from lesion.cli.settings import merge
    from lesion.engine.evaluate import evaluate as measure
    from lesion.run import find_model, run_of

    path = find_model(model, runs)
    run = run_of(path)
    settings = merge(overrides, config, first=[run.config] if run else [])
    show(measure(path, split, settings, Bars()), as_json)
