"""The journal: what was answered, without the image, in SQLite or PostgreSQL. No answer ever waits for it."""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Float, Integer, Table, Text, insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import InterfaceError, OperationalError

from lesion.errors import ConfigError, LesionError, brief
from lesion.extras import need
from lesion.records import Prediction
from lesion.redaction import redact
from lesion.run import now
from lesion.taxonomy import MALIGNANT
from lesion.tracking.database import explain, is_sqlite, open_engine, store_url
from lesion.tracking.tables import METADATA

log = logging.getLogger(__name__)
QUEUE = 10_000  # entries that may wait while the database does not take them
BATCH = 500  # entries of one transaction
PAUSES_S = (1.0, 30.0)  # between tries: the first, and the longest, doubled from one to the next
QUIET_S = 60.0  # between two lines of the log about failures
HINT = "name a file, or postgresql://USER@HOST/DATABASE, with serve.journal; null keeps no journal"
Entry = tuple[str, Prediction, str, float, str, str]  # time, prediction, digest, latency, request, role

predictions = Table(
    "predictions",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("time", Text, nullable=False, index=True),
    Column("request", Text, nullable=False),
    Column("image", Text, nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("malignant", Float, nullable=False),
    Column("diagnoses", Text),
    Column("prediction", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("flags", Text, nullable=False),
    Column("latency_ms", Float, nullable=False),
)


def open_journal(url: str) -> "Journal":
    """The journal in the SQLite file or PostgreSQL database that `url` names, made when it is missing.

    A server that does not answer is no failure: it is tried again as long as the journal is open.

    Raises:
        ConfigError: `url` is neither.
        OutputError: the file cannot be written.
        StoreError: the file is damaged, of another program, or of a newer lesion.
        MissingExtra: PostgreSQL without its driver.
    """
    try:
        where = store_url(url, Path())
    except ConfigError as error:
        raise ConfigError(f"serve.journal: {redact(url)!r} is no database", hint=HINT) from error
    if not is_sqlite(where):
        need("serve", "psycopg", extra="postgres")
        return Journal(where, None)
    try:
        return Journal(where, open_engine(where, "create"))
    except LesionError as error:
        raise type(error)(f"serve.journal: {error.message}", hint=HINT) from error


class Journal:
    """A bounded queue of entries, and a thread that writes them in batches."""

    def __init__(self, url: URL, engine: Engine | None, size: int = QUEUE) -> None:
        """Args: url, and its engine when it is open already; size, entries that may wait."""
        self.recorded = self.written = self.dropped = 0
        """Entries so far: all, those in the database, and those that will never be."""
        self._url, self._engine = url, engine
        self._queue: Queue[Entry | None] = Queue(size)  # None is the last one
        self._lock = Lock()
        self._closing = Event()
        self._ended, self._next_line = False, 0.0
        self._told = 0  # of the dropped entries, those that a line of the log has told
        self._thread = Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def record(
        self, prediction: Prediction, digest: str, latency_ms: float, request_id: str, role: str = "live"
    ) -> None:
        """Take an entry for an image with the SHA-256 `digest`; returns at once, whatever the database does."""
        with self._lock:
            self.recorded += 1
        try:
            if self._closing.is_set():
                raise Full
            self._queue.put_nowait((now(), prediction, digest, latency_ms, request_id, role))
        except Full:
            self._drop(1, "the database is too slow, or the server is about to stop")

    def close(self, deadline_s: float = 2.0) -> None:
        """Write what waits, for at most `deadline_s`; what is left then is dropped."""
        end = monotonic() + deadline_s
        self._closing.set()
        with suppress(Full):
            self._queue.put(None, timeout=deadline_s)
        self._thread.join(max(0.0, end - monotonic()))
        if lost := self.recorded - self.written - self.dropped:
            self._next_line = 0.0
            self._drop(lost, "the server stops")
        elif self.dropped > self._told:
            self._next_line = 0.0
            self._drop(0, "the last ones since the line before")

    def _run(self) -> None:
        while batch := self._collect():
            self._write(batch)
        if self._engine is not None:
            self._engine.dispose()

    def _collect(self) -> list[Entry]:
        """Wait for an entry and take those that wait behind it; empty at the end."""
        batch: list[Entry] = []
        while not self._ended and len(batch) < BATCH:
            try:
                entry = self._queue.get(block=not batch)
            except Empty:
                break
            if entry is None:
                self._ended = True
            else:
                batch.append(entry)
        return batch

    def _write(self, batch: Sequence[Entry]) -> None:
        """Write a batch, as often as it takes while the database is away; drop it when it will never be taken."""
        pause = PAUSES_S[0]
        while True:
            last = self._closing.is_set()
            try:
                self._insert(batch)
                return
            except Exception as error:  # a thread that died would leave a journal that says nothing
                # Only what is no fault of the entries is worth another try.
                if last or not isinstance(error.__cause__, OperationalError | InterfaceError):
                    self._drop(len(batch), redact(brief(error)))
                    return
                self._reopen()
                self._complain(f"the journal waits: {redact(brief(error))}")
            self._closing.wait(pause)
            pause = min(2 * pause, PAUSES_S[1])

    def _insert(self, batch: Sequence[Entry]) -> None:
        if self._engine is None:
            self._engine = open_engine(self._url, "create")
        with explain(self._url), self._engine.begin() as connection:
            connection.execute(insert(predictions), [_to_row(*entry) for entry in batch])
        with self._lock:
            self.written += len(batch)

    def _reopen(self) -> None:
        """Let the next try open the database anew, and make it again if it was moved or deleted."""
        if self._engine is not None:
            with suppress(Exception):
                self._engine.dispose()
            self._engine = None

    def _drop(self, entries: int, reason: str) -> None:
        with self._lock:
            self.dropped += entries
        if self._complain(f"the journal dropped entries, {self.dropped} by now: {reason}"):
            self._told = self.dropped

    def _complain(self, line: str) -> bool:
        """Log a line unless there was one a short time ago; whether it did."""
        if monotonic() < self._next_line:
            return False
        self._next_line = monotonic() + QUIET_S
        log.warning("%s", line)
        return True


def _to_row(
    time: str, prediction: Prediction, digest: str, latency_ms: float, request_id: str, role: str
) -> dict[str, Any]:
    diagnoses = prediction.diagnosis_probabilities
    return {
        "time": time,
        "request": request_id,
        "image": digest,
        "model": prediction.model,
        "role": role,
        "malignant": prediction.class_probabilities[MALIGNANT],
        "diagnoses": None if diagnoses is None else json.dumps(diagnoses),
        "prediction": prediction.prediction,
        "decision": prediction.decision,
        "flags": json.dumps(prediction.flags),
        "latency_ms": latency_ms,
    }
