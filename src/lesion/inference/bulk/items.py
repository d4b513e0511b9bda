"""What goes into a bulk prediction and what comes out: an item per image, an answer per item."""

import os
from dataclasses import dataclass

from lesion.errors import LesionError, NotFoundError
from lesion.records import Prediction
from lesion.remote import is_remote


@dataclass(frozen=True, slots=True)
class Item:
    """One image to be answered."""

    name: str
    """The `source` of its answer."""
    source: str | bytes | LesionError
    """A path, the address of a remote file, encoded bytes, or why there is nothing to read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an image has no answer."""

    code: str
    """The error's class: NotFoundError, NotAnImage, ImageTooLarge, ImageError or RemoteError."""
    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands in the place of a Prediction for an image that could not be read."""

    source: str
    error: Problem

    @classmethod
    def of(cls, name: str, error: LesionError) -> "Unreadable":
        """The record of `error`."""
        return cls(name, Problem(type(error).__name__, error.message))


Answer = Prediction | Unreadable


def to_item(text: str, base: str = "") -> Item:
    """The item for a path or an address; a relative path is relative to the folder or address `base`."""
    # Not pathlib: it interns every name, which Python 3.12 then keeps for ever.
    alone = is_remote(text) or not base or os.path.isabs(text)  # noqa: PTH117
    place = text if alone else f"{base.rstrip('/')}/{text}"
    # Not every file name is text; an answer's name has to be.
    name = place.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    return Item(name, NotFoundError(f"no such image: {name}") if "\0" in place else place)
