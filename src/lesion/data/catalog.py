"""The image files of a folder of any shape, found again by relative path or by stem."""

import unicodedata
from collections import defaultdict
from pathlib import Path

from lesion.errors import DataError, NotFoundError
from lesion.files import open_regular

# What an image file may be called; whether it is one, its first bytes say.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".heic", ".heif", ".avif",
    ".jp2", ".dcm",
)  # fmt: skip
MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}

LeftOut = dict[str, list[str]]  # why → which


def normalize(text: str) -> str:
    """The text as one spelling of its letters: macOS stores "é" as two characters, others as one."""
    return unicodedata.normalize("NFC", text)


def to_name(path: str) -> str:
    r"""A path as text that can be written down: bytes of a file name that are no UTF-8 become escapes such as \xff."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def list_files(folder: Path, left_out: LeftOut) -> list[Path]:
    """All image files below `folder`, relative to it and sorted; folders behind links are entered, once each.

    Hidden entries and files that are named like no image are noted in `left_out`.

    Raises:
        NotFoundError: there is no such folder.
        DataError: a folder within is not readable.
    """
    if not folder.is_dir():
        raise NotFoundError(f"no such folder: {folder}", hint="name the folder that holds the images")
    found: list[Path] = []
    seen: set[Path] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        if here.resolve() in seen:
            left_out["a folder met before, behind a link"].append(to_name(here.relative_to(folder).as_posix()))
            continue
        seen.add(here.resolve())
        try:
            entries = sorted(here.iterdir())
        except OSError as error:
            raise DataError(f"cannot read {here}: {error.strerror or error}", hint="check its permissions") from error
        for path in entries:
            name = path.relative_to(folder)
            if path.name.startswith(".") or path.name == "__MACOSX":
                left_out["hidden"].append(to_name(name.as_posix()))
            elif path.is_dir():
                waiting.append(path)
            elif path.suffix.lower() in SUFFIXES:
                found.append(name)
            else:
                left_out["not named like an image"].append(to_name(name.as_posix()))
    return sorted(found)


def to_stem(name: str) -> str:
    """The last part of a path without an image's suffix: "a/b.c.jpg" → "b.c"."""
    last = name.rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    return stem if dot and stem and f".{suffix.lower()}" in SUFFIXES else last


class Catalog:
    """Files by relative path and by stem."""

    def __init__(self, files: list[Path]) -> None:
        self._paths = {normalize(path.as_posix()): path for path in files}
        self._names: dict[str, list[Path]] = defaultdict(list)
        for text, path in self._paths.items():
            self._names[text.rpartition("/")[2]].append(path)
            if to_stem(text) != text.rpartition("/")[2]:
                self._names[to_stem(text)].append(path)

    def find(self, name: str) -> list[Path]:
        """The files that `name`, a relative path, a file name or a stem, can mean."""
        text = normalize(name.replace("\\", "/").removeprefix("./"))
        if text in self._paths:
            return [self._paths[text]]
        if "/" in text:
            return []
        return self._names.get(text) or self._names.get(to_stem(text), [])


def sniff(path: Path) -> str:
    """The suffix that fits the first bytes of the file, ".jpg" or ".png"; "" when it is neither or not readable."""
    try:
        with open_regular(path) as file:
            head = file.read(8)
    except OSError:
        return ""
    return next((suffix for magic, suffix in MAGIC.items() if head.startswith(magic)), "")
