"""Where answers are written: line by line, so that a run which ends early can go on."""

import io
import json
import os
import secrets
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

from lesion.errors import ConfigError, OutputError
from lesion.files import ensure_folder, rename, try_lock
from lesion.inference.bulk import remote
from lesion.inference.bulk.formats import WRITERS, Csv, JsonLines, Lines, not_ours
from lesion.inference.bulk.items import Answer
from lesion.inference.bulk.ledger import Ledger
from lesion.records import SCHEMA, Prediction, to_dict
from lesion.remote import is_remote, upload

LONGEST = 2**16  # bytes of a line that was cut off


class Output(Protocol):
    """Takes answers."""

    def write(self, answer: Answer) -> None:
        """Write one answer; it is not lost when the process is killed afterwards."""

    def finish(self) -> None:
        """All answers were written."""

    def close(self) -> None:
        """Let go; without `finish` the output can be resumed."""


@dataclass(slots=True)
class Earlier:
    """What an unfinished output held already."""

    ledger: Ledger = field(default_factory=Ledger)
    """Names with a prediction."""
    failed: Ledger = field(default_factory=Ledger)
    """Names without one, which are tried again."""
    superseded: Ledger = field(default_factory=Ledger)
    """Names whose error is followed by a prediction: the last record of a name counts."""
    answers: int = 0
    """Records that count."""
    unreadable: int = 0
    """Those of them without a prediction."""

    def note(self, name: str, readable: bool) -> None:
        """Count a record of the output."""
        if not readable:
            self.failed.note(name)
            self.unreadable += 1
        else:
            self.ledger.note(name)
            if self.failed.strike(name):
                self.superseded.note(name)
                self.unreadable -= 1
                return
        self.answers += 1

    def close(self) -> None:
        """Remove the lists of names."""
        for each in (self.ledger, self.failed, self.superseded):
            each.close()


class StreamOutput:
    """Answers to an open text stream, such as stdout."""

    def __init__(self, stream: TextIO, form: str, template: Prediction) -> None:
        self._stream = stream
        self._json = form == "json"
        self._lines: Lines = Csv(template) if form == "csv" else JsonLines()
        self._count = 0

    def write(self, answer: Answer) -> None:
        """Write one answer and flush."""
        if self._json:
            start = ",\n" if self._count else f'{{\n  "schema": {SCHEMA},\n  "predictions": [\n'
            text = start + textwrap.indent(json.dumps(to_dict(answer), indent=2, allow_nan=False), "    ")
        else:
            text = ("" if self._count else self._lines.head.decode()) + self._lines.encode(answer).decode()
        self._count += 1
        self._stream.write(text)
        self._stream.flush()

    def finish(self) -> None:
        """Close what is open in the text."""
        if self._json:
            self._stream.write("\n  ]\n}\n" if self._count else "")

    def close(self) -> None:
        """Leave the stream open: it is somebody else's."""


class FileOutput:
    """Answers to a file.

    JSON lines and CSV on this machine grow in place. Everything else is made at the end, at once, of JSON lines that
    are kept beside it until then (for a remote file: in the current folder), as NAME.partial.
    """

    def __init__(self, target: str, form: str, template: Prediction, resume: bool = False) -> None:
        """Open `target`, and read what it holds if it is to be resumed.

        Raises:
            ConfigError: it exists and is not to be resumed, is finished already, or was answered by another model.
            DataError: it holds something else than answers.
            OutputError: it cannot be written, or another process writes it.
        """
        self.target = target
        self._form, self._template = form, template
        name = Path(target).name
        self._grows = form in ("jsonl", "csv") and not is_remote(target)
        beside = Path(f"{name}.partial") if is_remote(target) else Path(target).with_name(f"{name}.partial")
        self.path = Path(target) if self._grows else beside
        self._lines: Lines = Csv(template) if self._grows and form == "csv" else JsonLines()
        self.earlier = Earlier()
        self._require_free(resume)
        ensure_folder(self.path.parent)
        try:
            self._file = io.FileIO(self.path, "a+" if resume else "x+")
            try:
                self._end = self._read_earlier()
                self._file.truncate(self._end)
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise self._fail(error) from error

    def _require_free(self, resume: bool) -> None:
        finished = remote.exists(self.target) if is_remote(self.target) else os.path.lexists(self.target)
        there = os.path.lexists(self.path)  # Path.exists raises for a name that is too long
        if not resume and (finished or there):
            raise ConfigError(
                f"{self.target if finished else self.path} exists",
                hint="--resume goes on with it; or delete it, or name another file",
            )
        if resume and finished and not self._grows and not there:
            raise ConfigError(
                f"{self.target} is finished", hint="name another file; only jsonl and csv can be added to"
            )

    def _read_earlier(self) -> int:
        # Two processes that go on with one file would answer everything twice.
        if not try_lock(cast(Any, self._file)):
            raise OutputError(f"another process writes {self.path}", hint="wait until it ends, or stop it")
        end, model = 0, self._template.model
        with self.path.open("rb") as file:
            for entry in self._lines.scan(file, str(self.path)):
                if entry.model not in (None, model):
                    raise ConfigError(
                        f"{self.path} was answered by {entry.model}, not by {model}",
                        hint="name that model, or another file",
                    )
                self.earlier.note(entry.source, entry.model is not None)
                end = entry.end
            if file.seek(0, os.SEEK_END) - end > LONGEST:
                raise not_ours(str(self.path), end)
        return end

    def write(self, answer: Answer) -> None:
        """Append one answer; when that is not possible, OutputError, with the file as it was before."""
        rest = memoryview((b"" if self._end else self._lines.head) + self._lines.encode(answer))
        end = self._end + len(rest)
        try:
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise self._fail(error) from error
        self._end = end

    def finish(self) -> None:
        """Make the file that was asked for; when that is not possible, OutputError, and --resume tries again."""
        try:
            os.fsync(self._file.fileno())
            if not self._grows:
                self._file.close()
                self._convert()
                self.path.unlink()
        except OSError as error:
            raise self._fail(error) from error

    def _convert(self) -> None:
        # Hidden, and of a name that nothing else has.
        new = self.path.with_name(f".{self.path.stem}.{secrets.token_hex(8)}")
        try:
            new.open("xb").close()
            with self.path.open("rb") as lines:
                WRITERS[self._form](self._drop_superseded(lines), new, self._template)
            if is_remote(self.target):
                upload(new, self.target, hint="check your access; --resume tries again")
            else:
                with new.open("r+b") as file:  # Windows flushes only what may be written
                    os.fsync(file.fileno())
                rename(new, Path(self.target))
        finally:
            new.unlink(missing_ok=True)

    def _drop_superseded(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            record = json.loads(line) if b'"error": ' in line else {}
            if "error" not in record or not self.earlier.superseded.strike(record["source"]):
                yield line

    def close(self) -> None:
        """Close the file; one that holds no answer goes away."""
        self._file.close()
        self.earlier.close()
        if not self._end:
            self.path.unlink(missing_ok=True)

    def _fail(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write {self.path}: {error.strerror or error}",
            hint="check the folder's permissions and free space; --resume then goes on",
        )
