"""`lesion eval`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lesion.cli.options import Files, Json, Model, Overrides, Runs


def _option(help_text: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help_text, metavar=metavar, show_default=False)


Split = Annotated[str, typer.Option(help="test, val or train.")]
Other = Annotated[str | None, _option("Another model: what the first does better or worse.", metavar="MODEL")]
Stress = Annotated[bool, typer.Option("--stress", help="Also change every picture: hair, ink, blur, JPEG and more.")]
Tta = Annotated[bool, typer.Option("--tta", help="Answer by the mean over eight views, and show what that gains.")]
Minima = Annotated[list[str] | None, _option("Exit 1 if it is less; repeatable.", "--min", metavar="FIGURE=X")]
Maxima = Annotated[list[str] | None, _option("Exit 1 if it is more; repeatable.", "--max", metavar="FIGURE=X")]
Page = Annotated[Path | None, _option("Write the page there.", metavar="FILE")]
Card = Annotated[Path | None, _option("Write the model card there.", metavar="FILE")]


def evaluate(
    overrides: Overrides = None, model: Model = None, split: Split = "test", compare: Other = None,
    stress: Stress = False, tta: Tta = False, minimum: Minima = None, maximum: Maxima = None, html: Page = None,
    card: Card = None, config: Files = None, runs: Runs = Path("runs"), as_json: Json = False,
) -> None:  # fmt: skip
    """Measure a model file on a split of the data it was trained with.

    Example: lesion eval --model runs/20261123-101500-baseline --stress --min auroc=0.9 --max ece=0.05
    """
    from lesion.cli.bars import Bars
    from lesion.cli.evaluation import show_comparison, show_evaluation
    from lesion.cli.reference import find_target, record
    from lesion.cli.settings import merge
    from lesion.engine.evaluation.comparison import compare_models
    from lesion.engine.evaluation.evaluate import evaluate as measure
    from lesion.engine.evaluation.gate import check_bounds, read_bounds, require
    from lesion.engine.evaluation.outputs import Outputs

    bounds = read_bounds(minimum or (), maximum or ())
    store = merge(overrides, config, command="eval").tracking.store
    target = find_target(model, runs, store)
    settings = merge(overrides, config, first=[target.run.config] if target.run else [])
    if compare is not None:
        _require_alone({"--stress": stress, "--tta": tta, "--min or --max": bounds, "--card": card})
        other = find_target(compare, runs, store)
        show_comparison(compare_models(target.path, other.path, split, settings, Bars(), html), html, as_json)
        return
    found = measure(target.path, split, settings, Bars(), stress=stress, tta=tta, html=html, card=card)
    if not tta:
        record(target, found, runs, store)
    verdicts = check_bounds(found, bounds)
    show_evaluation(found, verdicts, Outputs.of(target.path, split, tta, html, card).paths, as_json)
    require(verdicts)


def _require_alone(others: Mapping[str, object]) -> None:
    from lesion.errors import ConfigError

    if given := [option for option, value in others.items() if value]:
        raise ConfigError(f"--compare does not go with {given[0]}", hint="evaluate each model by itself for that")
