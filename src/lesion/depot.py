"""Models that lie elsewhere: fetched once, verified, kept in the cache, and used from there while their store is away.

<cache>/lesion/models/<SHA-256 of the file>.onnx       each content once
<cache>/lesion/models/<SHA-256 of the address>.json    what lay there when it was last fetched
"""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

from lesion.artifact import MAX_BYTES, Artifact
from lesion.errors import ArtifactError, ConfigError, LesionError, NotFoundError, RemoteError, brief
from lesion.files import cache_folder, ensure_folder, sha256, try_lock, write_atomic
from lesion.redaction import redact
from lesion.remote import connect, is_remote, upload, within

log = logging.getLogger(__name__)
LOOK_S = 10.0  # for a store to say what lies at an address
STALL_S = 60.0  # in which some byte of a file has to come
WAIT_S = 300.0  # for another process that fetches the same
LARGEST = MAX_BYTES
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
        does not answer, the copy from before counts.

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
            try:
                mark = find_mark(address)
                if before.get("mark") == mark and (kept := self._find(before["sha256"])):
                    return kept
                kept = self._download(address)
            except RemoteError as error:
                known = address.sha256 or before.get("sha256")
                if not known or (kept := self._find(known)) is None:
                    raise
                log.warning("the copy of %s counts: %s", address, error.message)
                return kept
            self._remember(address, mark, kept.stem)
        return kept

    def _download(self, address: Address) -> Path:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".fetching-") as folder:
            file = Path(folder) / "model.onnx"
            log.info("fetching %s", address)
            download(address, file)
            content = file.read_bytes()
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

    def _find(self, digest: str) -> Path | None:
        path = self.folder / f"{digest}.onnx"
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if sha256(content) == digest:
            return path
        log.warning("the copy %s is damaged", path)
        return None

    def _recall(self, address: Address) -> dict[str, str]:
        try:
            found = json.loads(self._beside(address, "json").read_text("utf-8"))
            return {"mark": str(found["mark"]), "sha256": str(found["sha256"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _remember(self, address: Address, mark: str, digest: str) -> None:
        write_atomic(self._beside(address, "json"), json.dumps({"mark": mark, "sha256": digest}))

    def _beside(self, address: Address, suffix: str) -> Path:
        return self.folder / f"{sha256(address.place.encode())}.{suffix}"  # an address may hold a password

    @contextmanager
    def _alone(self, address: Address) -> Iterator[None]:
        """Others that want the same wait, so that it is fetched once; whoever waits too long fetches it, too."""
        with self._beside(address, "lock").open("a+") as file:
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
    fs, path = connect(address.place)

    def look() -> Mapping[str, Any]:
        fs.invalidate_cache()
        found: Mapping[str, Any] = fs.info(path)
        return found

    with _explained(address):
        found = within(LOOK_S, look, str(address))
        if found.get("type") == "directory":
            raise NotFoundError(f"{address} is a folder, a model file expected")
        if (found.get("size") or 0) > LARGEST:
            raise ArtifactError(f"{address} has {found['size']} bytes, at most {LARGEST} expected")
    return found


def download(address: Address, file: Path) -> None:
    """Copy what lies at `address` into `file`; raises NotFoundError and RemoteError."""
    fs, path = connect(address.place)

    def measure() -> int:
        return file.stat().st_size if file.exists() else 0

    with _explained(address):
        within(STALL_S, lambda: fs.get_file(path, str(file)), str(address), measure)


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
    """Whether what fsspec calls a missing file over HTTP is that nobody answered, or not as a server should."""
    return type(cause).__module__.startswith("aiohttp") and getattr(cause, "status", None) not in (404, 410)
