"""Find images, one by one: files, folders, patterns, tables, lists on stdin, remote places."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import BinaryIO, TypeVar

from lesion.errors import ConfigError, DataError, ImageError, NotAnImage, NotFoundError
from lesion.images import MAX_BYTES, OPENERS
from lesion.inference.bulk import remote, table
from lesion.inference.bulk.items import Item, to_item
from lesion.remote import is_remote

T = TypeVar("T")
Items = Iterator[Item | None]
"""None says that nothing more may come for a while: what has come so far should not wait for it."""

SUFFIXES = (".jpg", ".jpeg", ".png")
PART = 10_000  # names of a folder that are sorted at a time
CHUNK = 2**16
BOM = b"\xef\xbb\xbf"  # of UTF-8, which some editors write
LONGEST = 2**16  # bytes of a line on stdin


def find_items(words: Sequence[str], column: str | None = None, stdin: BinaryIO | None = None) -> Items:
    """The images that `words` name, in their order; folders and patterns by name, up to 10,000 files of a folder.

    Raises NotFoundError for a word that names no image at all, ConfigError or DataError for an unusable table.
    """
    for word in words:
        found: Items = read_stream(stdin) if word == "-" and stdin else _find(word, column)
        count = 0
        for item in found:
            count += item is not None
            yield item
        if not count:
            looked_for = ", ".join(SUFFIXES)
            what = "nothing came on stdin" if word == "-" else f"no image in {word}"
            raise NotFoundError(what, hint=f"name a file, or a folder or pattern with {looked_for}")


def check_words(words: Sequence[str], column: str | None = None) -> None:
    """Raise what `find_items` would raise at the start of each word, and ConfigError for a needless `column`."""
    for word in words:
        if word != "-":
            next(find_items([word], column))
    if column is not None and not any(_is_table(word) for word in words):
        raise ConfigError("--column goes with a table", hint="name a CSV file")


def _find(word: str, column: str | None) -> Items:
    if _is_table(word):
        return table.read(word, column)
    if is_remote(word):
        return remote.find(word, SUFFIXES)
    if os.path.isdir(word):  # noqa: PTH112  Path.is_dir raises for a word too long for a path
        return walk(word)
    if glob.has_magic(word) and not os.path.lexists(word):
        return _match(word)
    return iter([to_item(word)])


def is_single(words: Sequence[str]) -> bool:
    """Whether `words` are one file that is or should be an image."""
    if len(words) != 1 or words[0] == "-" or is_remote(words[0]) or _is_table(words[0]):
        return False
    return not os.path.isdir(words[0]) and (not glob.has_magic(words[0]) or os.path.lexists(words[0]))  # noqa: PTH112


def _is_table(word: str) -> bool:
    return word.lower().endswith(table.SUFFIXES) and not os.path.isdir(word)  # noqa: PTH112


def walk(folder: str) -> Iterator[Item]:
    """The images below `folder`, at any depth; hidden files and linked folders are passed over.

    A folder that cannot be read is an item of its own: what lies in it must not be missed unnoticed.
    """
    pending = [folder]
    while pending:
        here, below = pending.pop(), list[str]()
        try:
            with os.scandir(here) as entries:
                for entry in _sort_in_parts(entry for entry in entries if not entry.name.startswith(".")):
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
                    elif entry.name.lower().endswith(SUFFIXES) and not entry.is_dir():
                        yield to_item(entry.path)
        except OSError as error:
            why = ImageError(f"cannot read the folder {here}: {error.strerror or error}", hint="check its permissions")
            yield Item(to_item(here).name, why)
        pending += sorted(below, reverse=True)


def _sort_in_parts(entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    # All at once would hold the names of a folder of a million files in memory.
    entries = iter(entries)
    while part := list(islice(entries, PART)):
        yield from sorted(part, key=lambda entry: entry.name)


def _match(pattern: str) -> Iterator[Item]:
    # Not Path.glob: it takes no absolute pattern.
    found = (path for path in glob.iglob(pattern, recursive=True) if path.lower().endswith(SUFFIXES))  # noqa: PTH207
    while part := list(islice(found, PART)):
        yield from (to_item(path) for path in sorted(part) if not os.path.isdir(path))  # noqa: PTH112


def read_stream(stream: BinaryIO) -> Items:
    """One image, if its bytes come, else an item for each line, which is a path or an address."""
    start = b""
    # A pipe may bring a byte at a time. A list must not wait for more bytes than tell it from an image.
    while any(magic.startswith(start) and magic != start for magic in (*OPENERS, BOM)):
        if not (more := _read_some(stream)):
            break
        start += more
    if start.startswith(tuple(OPENERS)):
        yield Item("stdin", start + stream.read(MAX_BYTES + 1 - len(start)))
        return
    if b"\0" in start:
        raise NotAnImage("stdin brings neither a JPEG or PNG nor a list of paths", hint="one path a line, in UTF-8")
    yield from _read_lines(start.removeprefix(BOM), stream)


def _read_lines(start: bytes, stream: BinaryIO) -> Items:
    rest = b""
    while start:
        *lines, rest = (rest + start).split(b"\n")
        yield from (to_item(os.fsdecode(line.rstrip(b"\r"))) for line in lines if line.strip())
        if len(rest) > LONGEST:
            raise DataError(f"a line on stdin has more than {LONGEST} bytes", hint="write one path a line")
        yield None
        start = _read_some(stream)
    if rest.strip():
        yield to_item(os.fsdecode(rest.rstrip(b"\r")))


def _read_some(stream: BinaryIO) -> bytes:
    # What is there, without waiting until so much is.
    read = getattr(stream, "read1", stream.read)
    return bytes(read(CHUNK))
