"""A table with a column of paths, read row by row."""

import csv
import os
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


def read(place: str, column: str | None = None) -> Iterator[Item]:
    """The images that a column of the table names; relative paths are relative to the table.

    Separated by commas, semicolons or tabs, in UTF-8, with a head. A row without a path, or with too many cells, is an
    item that cannot be read.

    Raises:
        NotFoundError: there is no such table.
        ConfigError: it has no such column.
        DataError: it is not readable as a table.
    """
    base = place.rpartition("/")[0] if is_remote(place) else os.path.dirname(place)  # noqa: PTH120
    with _open(place) as file:
        first = file.readline(2**20)
        rows = csv.reader(chain([first], file), delimiter=max(",;\t", key=first.count))
        try:
            head = [cell.strip() for cell in next(rows, [])]
            at = _find_column(head, column, place)
            for row in rows:
                if row:
                    yield _to_item(row, at, len(head), base, f"{place}:{rows.line_num}")
        except (csv.Error, OSError) as error:
            raise DataError(f"cannot read {place}, line {rows.line_num}: {error}", hint="is it a table?") from error


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
    names = [name.lower() for name in head]
    wanted = COLUMNS if column is None else (column.strip().lower(),)
    found = next((names.index(name) for name in wanted if name in names), None)
    if found is None:
        what = "column of paths" if column is None else f"column {column!r}"
        raise ConfigError(
            f"{place} has no {what}; its columns are {', '.join(head[:20]) or 'none'}",
            hint=f"name one with --column, or call it {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}",
        )
    return found


def _to_item(row: list[str], at: int, cells: int, base: str, where: str) -> Item:
    path = row[at].strip() if at < len(row) else ""
    if not path:
        return Item(where, DataError(f"no path in {where}"))
    if len(row) > cells:
        return Item(where, DataError(f"{len(row)} cells in {where}, {cells} expected: is a comma not quoted?"))
    return to_item(path, base)
