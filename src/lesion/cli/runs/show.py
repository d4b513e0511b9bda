"""`lesion runs show`."""

from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json
from lesion.cli.runs.opening import Folder, Location

Word = Annotated[str, typer.Argument(metavar="RUN", help="A name, the beginning of one, a run folder, or 'latest'.")]


def show(
    run: Word = "latest",
    runs: Folder = None,
    store: Location = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """Show all that is recorded of a run: figures, curves, parameters, files.

    Example: lesion runs show latest
    """
    from lesion.cli.runs.opening import open_store
    from lesion.cli.runs.tables import print_detail
    from lesion.tracking.query import find_run, read_detail

    with open_store(runs, store, config, env) as opened:
        print_detail(read_detail(opened, find_run(opened, run)), as_json)
