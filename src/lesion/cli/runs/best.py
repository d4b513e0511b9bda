"""`lesion runs best`."""

from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json
from lesion.cli.runs.opening import Folder, Location


def best(
    metric: Annotated[
        str, typer.Option(help="The figure that decides; of losses and errors the lowest.")
    ] = "val_auroc",
    runs: Folder = None,
    store: Location = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """Name the finished run with the best figure, and what to do with it.

    Example: lesion runs best --metric val_loss
    """
    from lesion.cli.runs.opening import open_store
    from lesion.cli.runs.tables import print_best
    from lesion.tracking.query import rank_runs

    with open_store(runs, store, config, env) as opened:
        print_best(rank_runs(opened, metric), metric, as_json)
