"""`lesion runs list`."""

from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json
from lesion.cli.runs.opening import Folder, Location


def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    status: Annotated[
        str | None, typer.Option(help="running, finished, failed, interrupted or died.", show_default=False)
    ] = None,
    tier: Annotated[
        str | None, typer.Option(help="baseline, resnet, efficientnet or ensemble.", show_default=False)
    ] = None,
    runs: Folder = None,
    store: Location = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first.

    Example: lesion runs list --status finished
    """
    from lesion.cli.runs.opening import open_store
    from lesion.cli.runs.tables import print_list
    from lesion.config.schema import TIERS
    from lesion.suggest import lookup
    from lesion.tracking.query import STATUSES, list_runs

    for word, choices, kind in ((status, STATUSES, "status"), (tier, (*TIERS, "ensemble"), "tier")):
        if word is not None:
            lookup({choice: choice for choice in choices}, word, kind)
    with open_store(runs, store, config, env) as opened:
        print_list(list_runs(opened, status, tier, limit), as_json)
