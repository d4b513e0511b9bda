"""`lesion data stats`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json, Overrides


def stats(
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for stats.html and contact-sheet.png.", show_default=False),
    ] = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """Count what is in a dataset: diagnoses, malignancy, age, sex, site, splits; and draw it on one page.

    Example: lesion data stats data.root=data/ham10000 --out stats
    """
    from lesion.cli.render import show
    from lesion.cli.settings import merge
    from lesion.data.stats import describe_dataset

    show(describe_dataset(merge(overrides, config, env=env, command="data stats").data, out), as_json)
