"""The options by which every command of `lesion runs` finds the store, and the store they mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lesion.tracking.store import Store

Folder = Annotated[
    Path | None,
    typer.Option("--runs", help="The folder of run folders. Default: `runs` of the configuration.", show_default=False),
]
Location = Annotated[
    str | None,
    typer.Option("--store", help="The store: a file or a URL. Default: tracking.store.", show_default=False),
]


def open_store(runs: Path | None, store: str | None, files: Sequence[Path] | None, env: str | None) -> "Store":
    """The store for reading: --store, else that of --runs, else what the configuration says."""
    from lesion.cli.settings import merge
    from lesion.tracking.database import store_url
    from lesion.tracking.store import Store

    config = merge(None, files, env)
    chosen = store or (None if runs else config.tracking.store)
    return Store.open(store_url(chosen, runs or Path(config.runs)), "read")
