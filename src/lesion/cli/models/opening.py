"""The registry that the options of `lesion models` mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lesion.tracking.database import Mode
    from lesion.tracking.registry import Registry


def open_registry(
    runs: Path | None, store: str | None, files: Sequence[Path] | None, env: str | None, mode: "Mode"
) -> "Registry":
    """That of --store, else beside --runs, else of the configuration."""
    from lesion.cli.settings import merge
    from lesion.tracking.registry import Registry

    config = merge(None, files, env)
    chosen = store or (None if runs else config.tracking.store)
    return Registry.open(chosen, runs or Path(config.runs), mode)
