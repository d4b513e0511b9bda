"""Where a model comes from, and whether there may be another one by now."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from lesion.artifact import Artifact
from lesion.depot import Address, Depot, find_mark
from lesion.errors import ArtifactError, LesionError
from lesion.signature import Signer

if TYPE_CHECKING:
    from lesion.tracking.registry import Registry

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
        _require_file(self.path)
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


@dataclass(slots=True)
class RegistrySource:
    """A registered model, NAME@ALIAS or NAME@VERSION; both methods also raise what `Registry.open` and `find` do.

    The registry stays open between two looks, so that a look is one query, and a server's database sees one connection.
    """

    reference: str
    store: str | None
    runs: Path
    signer: Signer | None = None
    _registry: "Registry | None" = None

    def look(self) -> Hashable:
        """See `Source`."""
        with self._open() as registry:
            sha = registry.find_digest(self.reference)
            return sha, _stamp(registry.folder / f"{sha}.onnx")  # a damaged one may be repaired

    def read(self) -> Artifact:
        """See `Source`."""
        with self._open() as registry:
            path = registry.locate(registry.find(self.reference))
        return Artifact.read(path, self.signer)

    @contextmanager
    def _open(self) -> "Iterator[Registry]":
        """The registry, opened anew after an error."""
        from lesion.tracking.registry import Registry  # loads a library for databases

        registry, self._registry = self._registry or Registry.open(self.store, self.runs, "read"), None
        try:
            yield registry
        except BaseException:
            registry.close()
            raise
        self._registry = registry


def _require_file(path: Path) -> None:
    """ArtifactError for a pipe or a device, which would be waited for; what is missing is left to whoever reads it."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ArtifactError(f"{path} is no regular file", hint="put a model file in its place")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
