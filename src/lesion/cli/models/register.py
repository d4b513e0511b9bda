"""`lesion models register`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json
from lesion.cli.runs.opening import Folder, Location


def register(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A run folder, a model file, or its address. Default: the newest finished run.", show_default=False
        ),
    ] = None,
    *,
    name: Annotated[str, typer.Option(help="The name that gets a new version.", show_default=False)],
    artifacts: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Put the file there, like gs://bucket/models. Default: tracking.artifacts."
        ),
    ] = None,
    runs: Folder = None,
    store: Location = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """Keep a copy of a model as the next version of a name.

    Example: lesion models register runs/20261123-101500-baseline --name ham
    """
    from lesion.cli.models.opening import open_registry
    from lesion.cli.models.tables import print_registered
    from lesion.cli.settings import merge
    from lesion.depot import Depot
    from lesion.remote import is_remote
    from lesion.run import find_model

    merged = merge(None, config, env, {"tracking.artifacts": artifacts})
    if model is not None and is_remote(model):
        path = Depot().fetch(model)
    else:
        path = find_model(None if model is None else Path(model), runs or Path(merged.runs))
    with open_registry(runs, store, config, env, "create") as registry:
        print_registered(registry.register(path, name, merged.tracking.artifacts), as_json)
