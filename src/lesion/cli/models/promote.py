"""`lesion models promote`."""

from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json
from lesion.cli.runs.opening import Folder, Location


def promote(
    name: Annotated[str, typer.Argument(help="The name of the model.")],
    version: Annotated[str, typer.Argument(help="The number of the version, or the alias that it has.")],
    to: Annotated[str, typer.Option(help="staging or production.")] = "production",
    force: Annotated[bool, typer.Option("--force", help="Even if it is worse, or cannot be compared.")] = False,
    runs: Folder = None,
    store: Location = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """Let an alias mean another version, unless that is worse than the one it replaces.

    Example: lesion models promote ham 3 --to production
    """
    from lesion.cli.models.opening import open_registry
    from lesion.cli.models.tables import print_promotion

    with open_registry(runs, store, config, env, "write") as registry:
        print_promotion(registry.promote(name, version, to, force), as_json)
