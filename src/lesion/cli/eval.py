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
    from lesion.cli.bars import Bars
    from lesion.cli.reference import find_target, record
    from lesion.cli.render import show
    from lesion.cli.settings import merge
    from lesion.engine.evaluate import evaluate as measure

    store = merge(overrides, config).tracking.store
    target = find_target(model, runs, store)
    settings = merge(overrides, config, first=[target.run.config] if target.run else [])
    report = measure(target.path, split, settings, Bars())
    record(target, report, runs, store)
    show(report, as_json)
