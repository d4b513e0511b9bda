"""`lesion models list`."""

from lesion.cli.options import Environment, Files, Json
from lesion.cli.runs.opening import Folder, Location


def list_(
    runs: Folder = None,
    store: Location = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """List registered models, the newest version of each first.

    Example: lesion models list --json
    """
    from lesion.cli.models.opening import open_registry
    from lesion.cli.models.tables import print_versions

    with open_registry(runs, store, config, env, "read") as registry:
        print_versions(registry.list_versions(), as_json)
