"""Files outside this machine: gs://, s3://, https:// and all else that fsspec knows, within bounds of time and size."""

import math
import random
from collections.abc import Callable
from concurrent.futures import Future, wait
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import IO, Any, TypeVar

from lesion.errors import LesionError, MissingExtra, OutputError, RemoteError, brief
from lesion.escape import to_log
from lesion.redaction import redact

T = TypeVar("T")
ANSWER_S = 10.0  # for a store to say what lies at an address
STALL_S = 60.0  # in which at least HEADWAY bytes of a file have to come
HEADWAY = 2**16
TOTAL_S = 1800.0  # for a whole file
LIST_S = 600.0  # for a listing
UPLOAD_S, UPLOAD_RATE = 60.0, 2**18  # seconds for an upload, and bytes for which it gets another second
ATTEMPTS, FIRST_WAIT_S = 3, 1.0  # of what fails for the moment; the wait is doubled each time
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP status of what may work a moment later
CHUNK = 2**20


def is_remote(place: str) -> bool:
    """Whether `place` is an address such as gs://bucket/image.jpg rather than a path."""
    return "://" in place


def connect(address: str, extra: str = "store") -> tuple[Any, str]:
    """The file system of `address`, and the path in it.

    Raises MissingExtra without fsspec, which `extra` brings, or the part of it for this kind of address; RemoteError
    when it cannot be used.
    """
    shown = redact(address)
    if find_spec("fsspec") is None:
        raise MissingExtra(
            f"{shown} needs the {extra!r} extra: fsspec not installed", hint=f'pip install "lesion[{extra}]"'
        )
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    try:
        if _is_http(address):
            from aiohttp import ClientTimeout

            # What was given up ends, too; aiohttp's own five minutes are too short for a large file.
            options["client_kwargs"] = {"timeout": ClientTimeout(total=TOTAL_S, sock_read=STALL_S)}
        fs, path = url_to_fs(address, **options)
    except ImportError as error:
        raise MissingExtra(f"{shown} needs a package: {brief(error)}", hint='pip install "lesion[store]"') from error
    except Exception as error:  # every file system has its own
        raise RemoteError(f"cannot use {shown}: {brief(error)}", hint="check the address and your access") from error
    return fs, path


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def copy(address: str, out: IO[bytes], limit: int) -> int:
    """Write a remote file to `out`, an unbuffered file, and return how many bytes came.

    Counts what comes, not what the store announces: no more than `limit` + 1 bytes are written.

    Raises:
        MissingExtra, RemoteError: as `connect`.
        RemoteError: fewer than 64 KiB came in 60 s, or not all in 30 minutes, or the content is encoded.
        OutputError: `out` cannot be written.
        Exception: whatever the file system raises; FileNotFoundError when there is no such file.
    """
    received, given_up = 0, False

    def work() -> None:
        nonlocal received
        with _open(address) as source:
            while not given_up and (chunk := source.read(min(CHUNK, limit + 1 - received))):
                received += len(chunk)
                _write(out, chunk, address)

    try:
        within(STALL_S, work, redact(address), lambda: received // HEADWAY, TOTAL_S)
    finally:
        given_up = True
    return received


def _open(address: str) -> Any:
    fs, path = connect(address)
    if not _is_http(address):
        return fs.open(path, "rb", block_size=CHUNK)
    # Without blocks it is one plain GET instead of many of parts.
    stream = fs.open(path, "rb", block_size=0, headers={"Accept-Encoding": "identity"})
    encoding = stream.r.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":  # a few bytes could become any number of them
        stream.close()
        raise RemoteError(
            f"{redact(address)} comes as {to_log(encoding, 40)}, the plain file expected",
            hint="let the server send the file as it is",
        )
    return stream


def _write(out: IO[bytes], chunk: bytes, address: str) -> None:
    rest = memoryview(chunk)
    try:
        while rest:  # a disk that is nearly full takes a part
            rest = rest[out.write(rest) :]
    except OSError as error:
        raise OutputError(
            f"cannot store a copy of {redact(address)}: {error.strerror or error}",
            hint="free some space on the disk of the cache, or set XDG_CACHE_HOME to a folder on another disk",
        ) from error


def upload(file: Path, address: str, hint: str = "check your access") -> None:
    """Put the whole of `file` at `address`, within a minute and 4 s for each MiB.

    Raises MissingExtra, RemoteError as `connect`, OutputError when it cannot be put there.
    """
    fs, path = connect(address)
    seconds = UPLOAD_S + file.stat().st_size / UPLOAD_RATE
    try:
        retry(lambda: within(seconds, lambda: fs.put_file(str(file), path), redact(address)))
    except Exception as error:
        said = error.message if isinstance(error, LesionError) else brief(error)
        raise OutputError(f"cannot write {redact(address)}: {redact(said)}", hint=hint) from error


def retry(work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise its error; one that may pass is waited out twice, 1 s and then 2 s."""
    attempt = 1
    while True:
        try:
            return work()
        except Exception as error:
            if attempt == ATTEMPTS or not is_passing(error):
                raise
        sleep(FIRST_WAIT_S * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5))  # so that many do not come back at once
        attempt += 1


def is_passing(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is of the network or of a busy server, so that a retry makes sense.

    A time-out of `within` is none: it was waited for already.
    """
    while error is not None:
        status = getattr(error, "status", None) or getattr(error, "code", None)
        if isinstance(status, int):
            return status in PASSING
        is_network = type(error).__module__.startswith("aiohttp") and not isinstance(error, ValueError)
        if is_network or isinstance(error, ConnectionError | TimeoutError):
            return True
        error = error.__cause__
    return False


def within(
    seconds: float,
    work: Callable[[], T],
    what: str,
    progress: Callable[[], object] = lambda: None,
    total_s: float = math.inf,
) -> T:
    """What `work` returns or raises; RemoteError when `progress` says the same after `seconds` as before them.

    Also RemoteError when it is not done after `total_s`. Libraries for object stores try for minutes before they give
    up. The work itself goes on, and ends unnoticed.
    """
    outcome: Future[T] = Future()
    Thread(target=_run, args=(work, outcome), name="remote", daemon=True).start()
    end, seen = monotonic() + total_s, progress()
    while wait([outcome], max(0.0, min(seconds, end - monotonic()))).not_done:
        if monotonic() >= end:
            raise RemoteError(f"{what} is not there after {total_s:g} s", hint="check the network")
        if seen == (seen := progress()):
            raise RemoteError(f"{what} has not answered for {seconds:g} s", hint="check the network")
    return outcome.result()


def _run(work: Callable[[], T], outcome: "Future[T]") -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:
        outcome.set_exception(error)
