"""Images and tables that are not on this machine, within bounds of time and size."""

import io
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, TextIO, TypeVar, cast

from lesion.errors import DataError, ImageError, LesionError, NotFoundError, OutputError, RemoteError, brief
from lesion.images import MAX_BYTES
from lesion.inference.bulk.items import Item, to_item
from lesion.redaction import redact
from lesion.remote import ANSWER_S, LIST_S, connect, copy, retry, within

T = TypeVar("T")
TABLE_BYTES = 2**30  # ten million paths
ACCESS = "check the network and your access"


def read(address: str) -> bytes:
    """The content of a remote file, or as much of it as shows that it is too large.

    Raises NotFoundError, RemoteError or ImageError; what fails for the moment is tried three times.
    """

    def fetch() -> bytes:
        content = io.BytesIO()
        copy(address, content, MAX_BYTES)
        return content.getvalue()

    try:
        return retry(fetch)
    except LesionError:
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"no such image: {redact(address)}", hint="check the address") from error
    except IsADirectoryError as error:
        raise ImageError(f"cannot read {redact(address)}: it is a folder") from error
    except Exception as error:
        raise RemoteError(f"cannot read {redact(address)}: {redact(brief(error))}", hint=ACCESS) from error


def find(address: str, suffixes: tuple[str, ...]) -> Iterator[Item]:
    """The images that an address means: a file, all below a folder, or those that fit a pattern, by name.

    RemoteError when the store does not list them: within 10 min for a pattern, within 1 min for each folder.
    """
    fs, path = connect(address)
    if any(letter in path for letter in "*["):  # a ? may be part of an address
        found: Iterator[str] = iter(sorted(_ask(address, LIST_S, lambda: fs.glob(path))))
    elif path.lower().endswith(suffixes) or not _ask(address, ANSWER_S, lambda: fs.isdir(path)):
        yield to_item(address)
        return
    else:
        found = _walk(fs, path, address)
    for each in found:
        if each.lower().endswith(suffixes):
            yield to_item(fs.unstrip_protocol(each))


def _walk(fs: Any, path: str, address: str) -> Iterator[str]:
    folders = iter(fs.walk(path))
    while entry := _ask(address, LIST_S, lambda: next(folders, None)):
        here, _, names = entry
        yield from (f"{here}/{name}" for name in sorted(names))


def _ask(address: str, seconds: float, question: Callable[[], T]) -> T:
    try:
        return within(seconds, question, redact(address))
    except LesionError:
        raise
    except Exception as error:  # every file system has its own
        raise RemoteError(f"cannot list {redact(address)}: {redact(brief(error))}", hint=ACCESS) from error


def open_text(address: str, **words: Any) -> TextIO:
    """Open a copy of a remote text of at most 1 GiB; NotFoundError, RemoteError, DataError or OutputError."""
    try:
        file = cast(IO[bytes], tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - its reader closes it
    except OSError as error:
        raise OutputError(
            f"cannot make a temporary file: {error.strerror}",
            hint="free some space, or name another folder with TMPDIR=FOLDER",
        ) from error
    try:
        if copy(address, file, TABLE_BYTES) > TABLE_BYTES:
            raise DataError(f"{redact(address)} has more than {TABLE_BYTES // 2**20} MiB", hint="is it a table?")
        file.seek(0)
        return io.TextIOWrapper(io.BufferedReader(cast(io.RawIOBase, file)), **words)
    except BaseException as error:
        file.close()
        if isinstance(error, LesionError) or not isinstance(error, Exception):
            raise
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"no such table: {redact(address)}", hint="check the address") from error
        raise RemoteError(f"cannot read {redact(address)}: {redact(brief(error))}", hint=ACCESS) from error


def exists(address: str) -> bool:
    """Whether there is something at `address`; RemoteError when that cannot be told within 10 s."""
    fs, path = connect(address)
    try:
        return retry(lambda: bool(within(ANSWER_S, lambda: fs.exists(path), redact(address))))
    except LesionError:
        raise
    except Exception as error:
        raise RemoteError(f"cannot reach {redact(address)}: {redact(brief(error))}", hint=ACCESS) from error
