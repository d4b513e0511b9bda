"""Where a model comes from, and whether there may be another one by now."""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lesion.artifact import Artifact


class Source(Protocol):
    """A place that holds one model at a time."""

    def look(self) -> Hashable:
        """What is different as soon as there may be another model; costs milliseconds at most."""

    def read(self) -> Artifact:
        """The model that is there now; NotFoundError or ArtifactError when there is none, or none that is intact."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that another one may take the place of."""

    path: Path

    def look(self) -> Hashable:
        """See `Source`."""
        return _stamp(self.path)

    def read(self) -> Artifact:
        """See `Source`."""
        return Artifact.read(self.path)


@dataclass(frozen=True, slots=True)
class RegistrySource:
    """A registered model, NAME@ALIAS or NAME@VERSION; both methods also raise what `Registry.open` and `find` do."""

    reference: str
    store: str | None
    runs: Path

    def look(self) -> Hashable:
        """See `Source`."""
        from lesion.tracking.registry import Registry  # loads a library for databases

        with Registry.open(self.store, self.runs, "read") as registry:
            sha = registry.find(self.reference).sha256
            return sha, _stamp(registry.folder / f"{sha}.onnx")  # a damaged one may be repaired

    def read(self) -> Artifact:
        """See `Source`."""
        from lesion.tracking.registry import Registry

        with Registry.open(self.store, self.runs, "read") as registry:
            return Artifact.read(registry.locate(registry.find(self.reference)))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
