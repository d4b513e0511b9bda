"""Which model file --model means: a path, a run folder, a version in the registry, or an address elsewhere."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lesion.errors import LesionError, NotFoundError, OutputError, RemoteError, StoreError
from lesion.evaluation import Evaluation
from lesion.remote import is_remote
from lesion.run import Run, find_model, run_of

if TYPE_CHECKING:
    from lesion.tracking.versions import Version

log = logging.getLogger("lesion.cli")


@dataclass(frozen=True, slots=True)
class Target:
    """A model file, and what it belongs to."""

    path: Path
    run: Run | None
    """The run that made it, if its folder is there."""
    version: "Version | None"
    """Of a registered model."""


def find_target(word: str | None, runs: Path, store: str | None = None) -> Target:
    """The model file meant; NAME@VERSION and NAME@ALIAS are looked up in the registry unless such a file exists.

    The registry's file is checked to be the registered one; a model at an address is fetched into the cache. Raises
    NotFoundError for what no file can be called, and what `Registry.find` and `Depot.fetch` do.
    """
    if word is not None and is_remote(word):
        from lesion.depot import Depot

        return Target(Depot().fetch(word), None, None)
    if word is None or not is_reference(word):
        path = find_model(None if word is None else Path(word), runs)
        if word is not None and not os.path.lexists(word):
            _require_no_name(word, runs, store)
        return Target(path, run_of(path), None)
    from lesion.tracking.registry import Registry

    with Registry.open(store, runs, "read") as registry:
        version = registry.find(word)
        path = registry.locate(version)
    run = Run(Path(version.lineage.get("folder", "")))
    return Target(path, run if run.config.is_file() else None, version)


def is_reference(word: str) -> bool:
    """Whether `word` is NAME@VERSION or NAME@ALIAS rather than a file; NotFoundError for what no file can be called."""
    _require_possible(Path(word))
    return "@" in word and "/" not in word and "\\" not in word and not Path(word).exists()


def record(target: Target, report: Evaluation, runs: Path, store: str | None) -> None:
    """Tell the registry how a version did; `lesion models promote` compares by it. A failure is a warning."""
    if target.version is None:
        return
    from lesion.tracking.registry import Registry

    try:
        with Registry.open(store, runs, "write") as registry:
            registry.record(target.version, report)
    except LesionError as error:
        log.warning("the registry does not know of this evaluation: %s", error.message)


def _require_no_name(word: str, runs: Path, store: str | None) -> None:
    """ConfigError when `word`, which is no file, is the name of a registered model: a version is missing."""
    from lesion.tracking.registry import Registry
    from lesion.tracking.versions import NAME

    if NAME.fullmatch(word):
        with suppress(NotFoundError, StoreError, RemoteError, OutputError), Registry.open(store, runs, "read") as each:
            each.find(word)


def _require_possible(path: Path) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return  # whoever reads it says so
    except (OSError, ValueError) as error:  # too long, a NUL, a folder that may not be entered
        reason = getattr(error, "strerror", None) or error
        raise NotFoundError(f"no such model: {str(path)!r}: {reason}", hint="`lesion models list` shows all") from error
