"""Where a model comes from, and whether there may be another one by now."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Protocol

from lesion.artifact import Artifact
from lesion.depot import Address, Depot, find_mark
from lesion.errors import LesionError
from lesion.signature import Signer

EVERY_S = 30.0  # between two questions to an object store, which charges for each


class Source(Protocol):
    """A place that holds one model at a time."""

    def look(self) -> Hashable:
        """What is different as soon as there may be another model; raises a LesionError when nobody can tell."""

    def read(self) -> Artifact:
        """The model that is there now; NotFoundError or ArtifactError when there is none, or none that is intact."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that another one may take the place of."""

    path: Path
    signer: Signer | None = None
    """Who has to vouch for it; None: nobody."""

    def look(self) -> Hashable:
        """See `Source`."""
        return _stamp(self.path)

    def read(self) -> Artifact:
        """See `Source`."""
        return Artifact.read(self.path, self.signer)


@dataclass(slots=True)
class DepotSource:
    """A model at an address, where another one may be put; one with a digest stays the same."""

    word: str
    signer: Signer | None = None
    depot: Depot = field(default_factory=Depot)
    _seen: Hashable = None
    _next: float = 0.0

    def look(self) -> Hashable:
        """See `Source`; the store is asked every half a minute, what it said last counts meanwhile."""
        address = Address.parse(self.word)
        if address.sha256:
            return address.sha256
        if monotonic() >= self._next:
            try:
                self._seen = find_mark(address)
            except LesionError as error:
                self._seen = error
            self._next = monotonic() + EVERY_S
        if isinstance(self._seen, LesionError):
            raise self._seen
        return self._seen

    def read(self) -> Artifact:
        """See `Source`; while the store is away, the copy from before."""
        return Artifact.read(self.depot.fetch(self.word), self.signer)


@dataclass(frozen=True, slots=True)
class RegistrySource:
    """A registered model, NAME@ALIAS or NAME@VERSION; both methods also raise what `Registry.open` and `find` do."""

    reference: str
    store: str | None
    runs: Path
    signer: Signer | None = None

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
            return Artifact.read(registry.locate(registry.find(self.reference)), self.signer)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
