"""Models that lie elsewhere: fetched once, verified, kept in the cache, and used from there while their store is away.

<cache>/lesion/models/<SHA-256 of the file>.onnx       each content once
<cache>/lesion/models/<SHA-256 of the address>.json    what lay there when it was last fetched
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time
from typing import IO, Any, Self

from lesion.artifact import MAX_BYTES, Artifact
from lesion.errors import ArtifactError, ConfigError, LesionError, NotFoundError, OutputError, RemoteError, brief
from lesion.files import cache_folder, ensure_folder, read_regular, sha256, try_lock, write_atomic
from lesion.redaction import redact
from lesion.remote import ANSWER_S, connect, copy, is_remote, retry, upload, within

log = logging.getLogger(__name__)
WAIT_S = 300.0  # for another process that fetches the same
LARGEST = MAX_BYTES
NOTE_BYTES = 2**16  # of what was remembered about an address; store's answers are shorter
ABANDONED_S = 24 * 3600  # after which a temporary folder is the remains of a killed process
DIGEST = "sha256="
# What tells one content from another, in the words of gcsfs, s3fs, http and others.
MARKS = ("etag", "generation", "md5hash", "content-md5", "mtime", "updated", "lastmodified", "last-modified", "created")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model lies: gs://bucket/model.onnx or, when its digest is known, gs://bucket/model.onnx#sha256=HEX."""

    place: str
    sha256: str | None

    @classmethod
    def parse(cls, word: str) -> Self:
        """ConfigError when what follows # is no digest."""
        place, _, fragment = word.partition("#")
        digest = fragment.removeprefix(DIGEST).lower()
        is_digest = fragment.startswith(DIGEST) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        if fragment and not is_digest:
            raise ConfigError(f"{redact(word)}: #sha256= and 64 hex digits expected", hint="or leave out the #")
        return cls(place, digest or None)

    def __str__(self) -> str:
        return str(redact(self.place))


class Depot:
    """A folder of fetched models, which any number of processes may use at once."""

    def __init__(self, folder: Path | None = None) -> None:
        """Args: folder, by default `models` of the user's cache; OutputError when there is none."""
        self.folder = folder or cache_folder() / "models"

    def fetch(self, word: str) -> Path:
        """A whole, verified copy of the model at the address `word`.

        A known digest is looked for here first. Otherwise the store is asked whether the model has changed; while it
        does not answer, the copy from before counts. Without a copy, what fails for the moment is tried three times.

        Raises:
            ConfigError: `word` is no address.
            NotFoundError: nothing lies there.
            RemoteError: the store does not answer, and there is no copy.
            ArtifactError: what came is no lesion model, is damaged, or has another digest.
            OutputError: the cache cannot be written.
            MissingExtra: the packages for this kind of address are not installed.
        """
        address = Address.parse(word)
        if address.sha256 and (kept := self._find(address.sha256)):
            return kept
        ensure_folder(self.folder)
        with self._alone(address):
            before = self._recall(address)
            known = address.sha256 or before.get("sha256")
            kept = self._find(known) if known else None
            if kept is None:
                return retry(lambda: self._update(address, before, None))
            if address.sha256:  # another process has fetched it meanwhile
                return kept
            try:
                return self._update(address, before, kept)
            except RemoteError as error:
                log.warning("the copy of %s counts: %s", address, error.message)
                return kept

    def _update(self, address: Address, before: Mapping[str, str], kept: Path | None) -> Path:
        """The copy `kept` of before, unless the store has another model by now, which is then fetched."""
        mark = find_mark(address)
        if kept is not None and before.get("mark") == mark:
            return kept
        kept = self._download(address)
        self._remember(address, mark, kept.stem)
        return kept

    def _download(self, address: Address) -> Path:
        log.info("fetching %s", address)
        self._clear()
        with self._open_temporary() as file:
            download(address, file)
            file.seek(0)
            content = file.read()
        digest = sha256(content)
        if address.sha256 not in (None, digest):
            raise ArtifactError(
                f"{address} is not the expected file: sha256 {digest[:12]}…, {str(address.sha256)[:12]}… expected",
                hint="somebody put another one there, or the digest is wrong",
            )
        Artifact.unpack(content, str(address))
        kept = self.folder / f"{digest}.onnx"
        write_atomic(kept, content)
        return kept

    def _open_temporary(self) -> IO[bytes]:
        try:
            # It has no name: whatever ends this process, nothing of it stays. Unbuffered: closing it writes nothing.
            return tempfile.TemporaryFile(dir=self.folder, buffering=0)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def _clear(self) -> None:
        """Remove what killed processes of earlier versions left."""
        for left in self.folder.glob(".fetching-*"):
            with suppress(OSError):
                if time() - left.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(left)

    def _find(self, digest: str) -> Path | None:
        path = self.folder / f"{digest}.onnx"
        try:
            content = read_regular(path, LARGEST)
        except OSError:
            return None
        if sha256(content) == digest:
            return path
        log.warning("the copy %s is damaged", path)
        return None

    def _recall(self, address: Address) -> dict[str, str]:
        try:
            found = json.loads(read_regular(self._beside(address, "json"), NOTE_BYTES))
            return {"mark": str(found["mark"]), "sha256": str(found["sha256"])}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def _remember(self, address: Address, mark: str, digest: str) -> None:
        write_atomic(self._beside(address, "json"), json.dumps({"mark": mark, "sha256": digest}))

    def _beside(self, address: Address, suffix: str) -> Path:
        return self.folder / f"{sha256(address.place.encode())}.{suffix}"  # an address may hold a password

    @contextmanager
    def _alone(self, address: Address) -> Iterator[None]:
        """Others that want the same wait, so that it is fetched once; whoever waits too long fetches it, too."""
        path = self._beside(address, "lock")
        try:
            file = path.open("a+")
        except OSError as error:
            raise _cannot_write(path, error) from error
        with file:
            end = monotonic() + WAIT_S
            while not try_lock(file) and monotonic() < end:
                sleep(0.05)
            yield


def publish(file: Path, digest: str, folder: str) -> str:
    """Put a model file with the SHA-256 `digest` into the remote `folder`, unless it is there; its address.

    Raises ConfigError for a `folder` that is none or holds a password, RemoteError or OutputError when that fails.
    """
    if not is_remote(folder) or "#" in folder or redact(folder) != folder:
        raise ConfigError(
            f"tracking.artifacts: {redact(folder)!r} is no address to remember", hint="write gs://BUCKET/models, say"
        )
    address = Address(f"{folder.rstrip('/')}/{digest}.onnx", digest)
    try:
        there = find_facts(address).get("size") == file.stat().st_size
    except NotFoundError:
        there = False
    if not there:
        upload(file, address.place)
    return f"{address.place}#{DIGEST}{digest}"


def find_mark(address: Address) -> str:
    """What is different as soon as something else lies at `address`; raises NotFoundError and RemoteError."""
    found = find_facts(address)
    marks = {key.lower(): str(value) for key, value in found.items() if key.lower() in MARKS and value}
    return json.dumps({**marks, "size": found.get("size")}, sort_keys=True)


def find_facts(address: Address) -> Mapping[str, Any]:
    """What the store says of the file at `address`, in words of its own; raises NotFoundError and RemoteError."""

    def look() -> Mapping[str, Any]:
        fs, path = connect(address.place)
        fs.invalidate_cache()
        found: Mapping[str, Any] = fs.info(path)
        return found

    with _explained(address):
        found = within(ANSWER_S, look, str(address))
        if found.get("type") == "directory":
            raise NotFoundError(f"{address} is a folder, a model file expected")
        if (found.get("size") or 0) > LARGEST:
            raise ArtifactError(f"{address} has {found['size']} bytes, at most {LARGEST} expected")
    return found


def download(address: Address, file: IO[bytes]) -> None:
    """Copy what lies at `address` into `file`; raises NotFoundError, RemoteError, OutputError.

    ArtifactError when more than 2 GiB come; the bounds of time are those of `remote.copy`.
    """
    with _explained(address):
        if copy(address.place, file, LARGEST) > LARGEST:
            raise ArtifactError(f"{address} has more than {LARGEST} bytes", hint="it is no model: check the address")


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}",
        hint="free some space, or set XDG_CACHE_HOME to a folder that you may write to",
    )


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    try:
        yield
    except LesionError:
        raise
    except Exception as error:  # every file system has its own
        if isinstance(error, FileNotFoundError) and not _is_away(error.__cause__):
            raise NotFoundError(f"no such model: {address}", hint="check the address") from error
        raise RemoteError(
            f"cannot read {address}: {redact(brief(error.__cause__ or error))}",
            hint="check the network and your access",
        ) from error


def _is_away(cause: BaseException | None) -> bool:
    """Whether what fsspec calls a missing file over HTTP is that nobody answered in time, or not as a server should."""
    if isinstance(cause, TimeoutError | ConnectionError):
        return True
    return type(cause).__module__.startswith("aiohttp") and getattr(cause, "status", None) not in (404, 410)
