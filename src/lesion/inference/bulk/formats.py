"""Answers as text and tables: JSON lines, CSV that no spreadsheet takes for formulas, and what is made of them."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from lesion.errors import ConfigError, DataError
from lesion.escape import to_csv
from lesion.extras import need
from lesion.inference.bulk.items import Answer, Problem, Unreadable
from lesion.records import SCHEMA, Prediction, to_dict
from lesion.suggest import lookup

ROWS = 10_000  # of a Parquet row group


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer that was found in a file."""

    source: str
    model: str | None
    """None for what could not be read."""
    end: int
    """Bytes of the file up to its end."""


class Lines(Protocol):
    """A format that grows line by line."""

    head: bytes

    def encode(self, answer: Answer) -> bytes:
        """The line of an answer."""

    def scan(self, file: BinaryIO, name: str) -> Iterator[Entry]:
        """The answers in `file`, without a last one that was cut off.

        DataError for a file called `name` that holds anything else.
        """


class JsonLines:
    """One JSON object a line."""

    head = b""

    def encode(self, answer: Answer) -> bytes:
        """The record of an answer, as in `--json`."""
        return json.dumps(to_dict(answer), allow_nan=False).encode() + b"\n"

    def scan(self, file: BinaryIO, name: str) -> Iterator[Entry]:
        """See Lines."""
        end, start = 0, b'{"source": "'
        for line in file:
            entry = None
            try:
                record = json.loads(line)
                model = record["model"] if "model" in record else record["error"] and None
                entry = Entry(str(record["source"]), model, end + len(line))
            except (ValueError, LookupError, TypeError, RecursionError):
                pass
            if entry is None or not line.endswith(b"\n"):
                # A line that was cut off is ours behind an answer, or if it holds nothing yet that could be lost.
                ours = entry is not None or start.startswith(line) or (end > 0 and line.startswith(start))
                if file.read(1) or not ours:
                    raise not_ours(name, end)
                return
            end = entry.end
            yield entry


class Csv:
    """A table with a head; nested fields are joined with a dot, lists with a space."""

    def __init__(self, template: Prediction) -> None:
        """The columns are those of `template`, and what was wrong."""
        self.columns = to_columns(template)
        self.head = self._join(self.columns)

    def encode(self, answer: Answer) -> bytes:
        """The row of an answer."""
        return self.encode_record(to_dict(answer))

    def encode_record(self, record: Mapping[str, Any]) -> bytes:
        """The row of an answer's record."""
        flat = flatten(record)
        return self._join(to_csv(flat.get(name)) for name in self.columns)

    def scan(self, file: BinaryIO, name: str) -> Iterator[Entry]:
        """See Lines."""
        lines = _Counted(file)
        rows = csv.reader(lines, strict=True)
        end = len(self.head)
        if (start := file.read(end)) != self.head:
            if not self.head.startswith(start):
                raise not_ours(name, 0)
            return
        source, model = (list(self.columns).index(column) for column in ("source", "model"))
        while True:
            try:
                row = next(rows)
                whole = len(row) == len(self.columns) and lines.last.endswith(b"\n")
            except StopIteration:
                return
            except csv.Error:
                whole = False
            if not whole:
                if file.read(1):
                    raise not_ours(name, end)
                return
            end = len(self.head) + lines.count
            yield Entry(row[source].removeprefix("'"), row[model] or None, end)

    def _join(self, cells: Iterable[Any]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerow(cells)  # what ends a line is quoted in a cell: both of them
        return text.getvalue().removesuffix("\r\n").encode() + b"\n"


def not_ours(name: str, end: int) -> DataError:
    """What to raise when the file `name` holds something else than answers behind `end` bytes."""
    return DataError(
        f"{name} holds something else than answers, after {end} bytes", hint="name another file with --output"
    )


class _Counted:
    """The lines of a file, and how many bytes they had."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0
        self.last = b""

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> str:
        self.last = next(self._file)
        self.count += len(self.last)
        return self.last.decode("utf-8", "replace")


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}, "c": ["x", "y"]} to {"a.b": 1, "c": "x y"}."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def to_columns(template: Prediction) -> dict[str, type]:
    """The columns of tables of answers like `template`, and what their cells are."""
    wrong = to_dict(Unreadable("", Problem("", "")))
    return {name: type(value) for name, value in flatten({**to_dict(template), **wrong}).items()}


def write_json(lines: Iterable[bytes], out: Path, template: Prediction) -> None:
    """JSON lines to the document of `--json`, a line for each answer."""
    with out.open("wb") as file:
        file.write(f'{{"schema": {SCHEMA}, "predictions": ['.encode())
        for number, line in enumerate(lines):
            file.write((b",\n" if number else b"\n") + line.rstrip(b"\n"))
        file.write(b"\n]}\n")


def write_lines(lines: Iterable[bytes], out: Path, template: Prediction) -> None:
    """JSON lines as they are."""
    with out.open("wb") as file:
        file.writelines(lines)


def write_csv(lines: Iterable[bytes], out: Path, template: Prediction) -> None:
    """JSON lines to CSV."""
    table = Csv(template)
    with out.open("wb") as file:
        file.write(table.head)
        file.writelines(table.encode_record(json.loads(line)) for line in lines)


def write_parquet(lines: Iterable[bytes], out: Path, template: Prediction) -> None:
    """JSON lines to Parquet, with the columns of CSV."""
    import pyarrow
    from pyarrow import parquet

    kinds = {float: pyarrow.float64(), bool: pyarrow.bool_(), int: pyarrow.int64()}
    columns = to_columns(template)
    schema = pyarrow.schema([(name, kinds.get(kind, pyarrow.string())) for name, kind in columns.items()])
    lines = iter(lines)
    with parquet.ParquetWriter(out, schema) as writer:
        while part := [flatten(json.loads(line)) for line in islice(lines, ROWS)]:
            writer.write_table(pyarrow.Table.from_pylist(part, schema=schema))


WRITERS: dict[str, Callable[[Iterable[bytes], Path, Prediction], None]] = {
    "json": write_json,
    "jsonl": write_lines,
    "csv": write_csv,
    "parquet": write_parquet,
}


def choose_format(output: str | None, word: str | None) -> str | None:
    """The format called `word`, or that of the suffix of `output`; None when there is neither.

    Raises ConfigError for an unknown one, MissingExtra when it needs a package that is not installed.
    """
    if word is None and output is not None:
        word = output.rpartition("/")[2].rpartition(".")[2].lower()
        if word not in WRITERS:
            raise ConfigError(
                f"what format {output} should have is not clear from its name",
                hint=f"name it with --format: one of {', '.join(WRITERS)}",
            )
    if word is not None:
        lookup(WRITERS, word, "format")
    if word == "parquet":
        need("predict", "pyarrow", extra="scale")
    return word
