"""A table with a column of paths, read row by row."""

import csv
import os
import re
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain
from typing import TextIO

from lesion.errors import ConfigError, DataError, NotFoundError
from lesion.files import open_regular
from lesion.inference.bulk import remote
from lesion.inference.bulk.items import Item, to_item
from lesion.remote import is_remote

SUFFIXES = (".csv", ".tsv")
COLUMNS = ("path", "file", "image", "image_path", "filename")
"""Where paths are looked for unless a column is named, the first that there is."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel reads it, and some programs write it
SAVE = "open it in the program that made it, and save it as CSV in UTF-8"


def read(place: str, column: str | None = None) -> Iterator[Item]:
    """The images that a column of the table names; relative paths are relative to the table.

    Separated by commas, semicolons or tabs, or what a first line `sep=;` names, in UTF-8, with a head. Empty rows and
    empty columns at the end are passed over. A row without a path, or with too many cells, is an item that cannot be
    read.

    Raises:
        NotFoundError: there is no such table.
        ConfigError: it has no such column.
        DataError: it is not readable as a table.
    """
    base = place.rpartition("/")[0] if is_remote(place) else os.path.dirname(place)  # noqa: PTH120
    with _open(place) as file:
        first, before = file.readline(2**20), 0
        mark = max(",;\t", key=first.count)
        if match := SEPARATOR_LINE.fullmatch(first):
            first, before, mark = file.readline(2**20), 1, match[1]
        rows = csv.reader(chain([first], file), delimiter=mark)
        try:
            head = [cell.strip() for cell in next(rows, [])]
            while head and not head[-1]:
                head.pop()
            at = _find_column(head, column, place)
            for row in rows:
                if any(map(str.strip, row)):
                    yield _to_item(row, at, len(head), base, f"{place}:{rows.line_num + before}")
        except (csv.Error, OSError) as error:
            raise DataError(f"cannot read {place}, line {rows.line_num + before}: {error}", hint=SAVE) from error


def _open(place: str) -> TextIO:
    # A path need not be text; whatever the bytes are, they are looked for as a file.
    encoding, errors, newline = "utf-8-sig", "surrogateescape", ""
    if is_remote(place):
        return remote.open_text(place, encoding=encoding, errors=errors, newline=newline)
    try:
        return TextIOWrapper(open_regular(place), encoding, errors, newline)
    except FileNotFoundError as error:
        raise NotFoundError(f"no such table: {place}", hint="check the path") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {place}: {getattr(error, 'strerror', None) or error}") from error


def _find_column(head: list[str], column: str | None, place: str) -> int:
    if any("\0" in name or name.startswith("PK\x03\x04") for name in head):
        raise DataError(f"{place} is not a CSV file in UTF-8", hint=SAVE)
    names = [name.lower() for name in head]
    wanted = COLUMNS if column is None else (column.strip().lower(),)
    found = next((names.index(name) for name in wanted if name in names), None)
    if found is None:
        what = "column of paths" if column is None else f"column {column!r}"
        shown = ", ".join(to_item(name).name for name in head[:20])
        hint = f"name one with --column, or call it {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}"
        raise ConfigError(
            f"{place} has no {what}; its columns are {shown or 'none'}",
            hint=hint if "".join(head).isprintable() else f"it is not in UTF-8: {SAVE}",  # bytes of another encoding
        )
    return found


def _to_item(row: list[str], at: int, cells: int, base: str, where: str) -> Item:
    path = row[at].strip() if at < len(row) else ""
    if not path:
        return Item(where, DataError(f"no path in {where}"))
    if any(map(str.strip, row[cells:])):
        return Item(where, DataError(f"{len(row)} cells in {where}, {cells} expected: is a comma not quoted?"))
    return to_item(path, base)
