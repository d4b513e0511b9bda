"""Read a CSV file as spreadsheets and other programs write it."""

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from lesion.errors import ConfigError, DataError, NotFoundError
from lesion.files import read_regular

MAX_TABLE_BYTES = 256 * 2**20  # a million images; a larger file is something else
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?(?:\r\n|\r|\n)', re.IGNORECASE)  # Excel reads it, and some programs write it
# First bytes of what is no text.
BINARY = {
    b"PK\x03\x04": "an Excel workbook or another ZIP archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SAVE = "open it in the program that made it, and save it as CSV in UTF-8"


@dataclass(frozen=True, slots=True)
class Table:
    """The content of a CSV file with a header."""

    names: list[str]
    """Columns, each name once."""
    rows: list[dict[str, str]]
    """Column → stripped text, of each row that is not empty."""
    lines: list[int]
    """The line of the file where each row ends, from 1."""


def read_csv_file(path: Path, encoding: str | None = None) -> Table:
    """Read a CSV with a header, separated by commas, semicolons or tabs.

    A first line `sep=;`, empty rows, and columns at the end without name and content are passed over.

    Args:
        path: regular file of at most 256 MiB.
        encoding: the value of `--encoding`; None where a command has no such option: UTF-8.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: there is no such encoding.
        DataError: another encoding, no text, a damaged row, or a column name that is repeated.
    """
    try:
        raw = read_regular(path, MAX_TABLE_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(f"no such table: {path}", hint="check the path") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint="name one readable CSV file") from error
    text, skipped, separator = _decode(raw, path, encoding), 0, ""
    if match := SEPARATOR_LINE.match(text):
        text, skipped, separator = text[match.end() :], 1, match[1]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator or ",")
    try:
        header = next(reader, [])
        if not separator and len(header) == 1 and (mark := next((mark for mark in ";\t" if mark in header[0]), "")):
            reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark)
            header = next(reader)
        found = [
            (reader.line_num + skipped, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + skipped}: {error}", hint=SAVE) from error
    names = [name.strip() for name in header]
    used = max((_count_used(row) for _, row in found), default=0)
    names = names[: max(_count_used(names), min(used, len(names)))]
    _require_distinct(names, path)
    for line, row in found:
        if len(row) < len(names) or _count_used(row) > len(names):
            raise DataError(
                f"{path}, line {line}: {len(names)} columns expected, got {len(row)}",
                hint='put a text that holds the separator between quotes: "left, upper arm"',
            )
    return Table(names, [dict(zip(names, row, strict=False)) for _, row in found], [line for line, _ in found])


def _count_used(cells: list[str]) -> int:
    """How many cells there are without empty ones at the end."""
    return max((i + 1 for i, cell in enumerate(cells) if cell), default=0)


def _require_distinct(names: list[str], path: Path) -> None:
    for name in names:
        if names.count(name) > 1:
            places = ", ".join(str(i + 1) for i, other in enumerate(names) if other == name)
            raise DataError(
                f"{path}: column {name!r} repeated" if name else f"{path}: columns {places} have no name",
                hint="keep one column of each name" if name else "name them in the first line, or delete them",
            )


def _decode(raw: bytes, path: Path, encoding: str | None) -> str:
    if kind := next((kind for start, kind in BINARY.items() if raw.startswith(start)), ""):
        raise DataError(f"{path} is {kind}, not a CSV file", hint=SAVE)
    wanted = encoding or "utf-8"
    try:
        name = codecs.lookup(wanted).name
        text = raw.decode("utf-8-sig" if name == "utf-8" else name)
    except UnicodeDecodeError as error:
        if raw.startswith(UTF16):
            raise DataError(f"{path} is UTF-16, not {wanted}", _find_way(raw, encoding)) from error
        raise DataError(f"{path}, byte {error.start + 1}: not {wanted}", _find_way(raw, encoding)) from error
    except (LookupError, ValueError) as error:
        raise ConfigError(f"--encoding: no encoding {encoding!r}", hint="for example utf-8 or cp1252") from error
    if "\0" in text[:1000]:
        raise DataError(f"{path} has zero bytes: it is not {wanted}", _find_way(raw, encoding))
    return text


def _find_way(raw: bytes, encoding: str | None) -> str:
    """How to read what is not in `encoding`, tried out."""
    if encoding is None or codecs.lookup(encoding).name != "utf-8":
        return SAVE
    for other, maker in (("utf-16", "Excel's Unicode text"), ("cp1252", "Excel on Windows")):
        if other == "utf-16" and not raw.startswith(UTF16):
            continue
        try:
            text = raw.decode(other)
        except UnicodeDecodeError:
            continue
        if all(letter.isprintable() or letter in "\t\r\n\xa0\xad" for letter in text[:10_000]):
            return f"add --encoding {other} if it comes from {maker}; else {SAVE}"
    return SAVE
