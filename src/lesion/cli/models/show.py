"""`lesion models show`."""

from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json
from lesion.cli.runs.opening import Folder, Location


def show(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="NAME@VERSION or NAME@ALIAS.")],
    runs: Folder = None,
    store: Location = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """Show where a version comes from, what it can do, and the promotions of its name.

    Example: lesion models show ham@production
    """
    from lesion.cli.models.opening import open_registry
    from lesion.cli.models.tables import print_version

    with open_registry(runs, store, config, env, "read") as registry:
        version = registry.find(reference)
        print_version(version, registry.locate(version), registry.list_promotions(version.name), as_json)
