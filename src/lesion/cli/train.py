"""`lesion train`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesion.cli.options import Environment, Files, Json, Overrides

if TYPE_CHECKING:
    from lesion.cli.settings import Flags
    from lesion.config.schema import Config
    from lesion.run import Run

Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with a run: the folder or name that follows, or the newest unfinished one."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Measure a few steps, show what would be trained, and stop.")]
Tune = Annotated[
    str | None,
    typer.Option(help="lr or batch-size: suggest a value from a few steps, and stop.", show_default=False),
]


def train(
    overrides: Overrides = None,
    tier: Annotated[
        str | None, typer.Option(help="baseline (default), resnet or efficientnet: configs/tier/.", show_default=False)
    ] = None,
    subsample: Annotated[
        float | None, typer.Option(help="Share of the training lesions, in (0, 1].", show_default=False)
    ] = None,
    config: Files = None,
    env: Environment = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    tune: Tune = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the merged configuration, stop.")] = False,
    as_json: Json = False,
) -> None:
    """Train a classifier and export its best weights to a model file.

    Example: lesion train --tier baseline --subsample 0.1 trainer.epochs=10
    """
    run, settings = (_resume if resume else _start)(overrides, config, env, {"data.subsample": subsample}, tier)
    if print_config:
        from lesion.config.load import to_yaml

        print(to_yaml(settings), end="")
        return
    from lesion.extras import need

    need("train", "torch", "torchvision", "lightning", "onnx", "onnxscript")
    if tune is not None:
        _suggest(settings, tune, run is not None or dry_run, as_json)
    else:
        _work(settings, run, dry_run, as_json)


def _work(settings: "Config", run: "Run | None", dry_run: bool, as_json: bool) -> None:
    from lesion.cli.bars import Bars
    from lesion.cli.render import show
    from lesion.engine.plan import plan
    from lesion.engine.ranks import is_first
    from lesion.engine.train import train

    report = (plan if dry_run else train)(settings, Bars(), run)
    if is_first():
        show(report, as_json)


def _suggest(settings: "Config", question: str, more: bool, as_json: bool) -> None:
    from lesion.cli.bars import Bars
    from lesion.engine.tune import tune
    from lesion.errors import ConfigError
    from lesion.records import to_json

    if more:
        raise ConfigError("--tune goes with neither --resume nor --dry-run", hint="tune first, then train")
    report = tune(settings, question, Bars())
    print(to_json(report) if as_json else report.override)


def _start(
    words: Sequence[str] | None, config: Sequence[Path] | None, env: str | None, flags: "Flags", tier: str | None
) -> tuple[None, "Config"]:
    from lesion.cli.settings import merge_with_tier

    return None, merge_with_tier(words, config, env, flags, tier)


def _resume(
    words: Sequence[str] | None, config: Sequence[Path] | None, env: str | None, flags: "Flags", tier: str | None
) -> tuple["Run", "Config"]:
    """The run that `words` name, or the newest unfinished one, and its configuration with what else was given."""
    from lesion.cli.settings import merge
    from lesion.errors import ConfigError
    from lesion.run import find_unfinished

    # Path.is_dir() raises for a word that is too long for a path.
    names = [word for word in words or () if "=" not in word or os.path.isdir(word)]  # noqa: PTH112
    overrides = [word for word in words or () if word not in names]
    if len(names) > 1:
        raise ConfigError(f"one run expected after --resume, got {', '.join(names)}", hint="resume one at a time")
    run = find_unfinished(names[0] if names else None, Path(merge(overrides, config, env).runs))
    return run, merge(overrides, config, env, {**flags, "model.tier": tier}, first=[run.config])
