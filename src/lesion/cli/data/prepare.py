"""`lesion data prepare`."""

from lesion.cli.options import Environment, Files, Json, Overrides


def prepare(overrides: Overrides = None, config: Files = None, env: Environment = None, as_json: Json = False) -> None:
    """Check a dataset and split it by lesion into train, val and test; a split that exists is read.

    Example: lesion data prepare data.root=data/ham10000
    """
    from lesion.cli.render import show
    from lesion.cli.settings import merge
    from lesion.data.split import open_dataset

    show(open_dataset(merge(overrides, config, env=env, command="data prepare").data).report(), as_json)
