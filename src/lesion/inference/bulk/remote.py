"""Images and tables that are not on this machine."""

from collections.abc import Iterator
from typing import TextIO

from lesion.errors import ImageError, NotFoundError, RemoteError, brief
from lesion.images import MAX_BYTES
from lesion.inference.bulk.items import Item, to_item
from lesion.remote import connect


def read(address: str) -> bytes:
    """The content of a remote file, or as much of it as shows that it is too large.

    Raises NotFoundError, RemoteError or ImageError.
    """
    fs, path = connect(address)
    try:
        with fs.open(path, "rb") as file:
            return bytes(file.read(MAX_BYTES + 1))
    except FileNotFoundError as error:
        raise NotFoundError(f"no such image: {address}", hint="check the address") from error
    except IsADirectoryError as error:
        raise ImageError(f"cannot read {address}: it is a folder") from error
    except Exception as error:
        raise RemoteError(f"cannot read {address}: {brief(error)}", hint="check the network and your access") from error


def find(address: str, suffixes: tuple[str, ...]) -> Iterator[Item]:
    """The images that an address means: a file, all below a folder, or those that fit a pattern, by name."""
    fs, path = connect(address)
    try:
        if any(letter in path for letter in "*["):  # a ? may be part of an address
            found: Iterator[str] = iter(sorted(fs.glob(path)))
        elif path.lower().endswith(suffixes) or not fs.isdir(path):
            yield to_item(address)
            return
        else:
            found = (f"{here}/{name}" for here, _, names in fs.walk(path) for name in sorted(names))
        for each in found:
            if each.lower().endswith(suffixes):
                yield to_item(fs.unstrip_protocol(each))
    except OSError as error:
        raise RemoteError(f"cannot list {address}: {brief(error)}", hint="check the address and your access") from error


def open_text(address: str, **words: str) -> TextIO:
    """Open a remote text; NotFoundError or RemoteError."""
    fs, path = connect(address)
    try:
        file: TextIO = fs.open(path, "r", **words)
    except FileNotFoundError as error:
        raise NotFoundError(f"no such table: {address}", hint="check the address") from error
    except Exception as error:
        raise RemoteError(f"cannot read {address}: {brief(error)}", hint="check the network and your access") from error
    return file


def exists(address: str) -> bool:
    """Whether there is something at `address`; RemoteError when that cannot be told."""
    fs, path = connect(address)
    try:
        return bool(fs.exists(path))
    except Exception as error:
        raise RemoteError(
            f"cannot reach {address}: {brief(error)}", hint="check the network and your access"
        ) from error
