"""How log lines get out: limited in number, by a thread of their own, so that a slow reader stops nobody."""

import logging
import os
from collections import OrderedDict, deque
from threading import Event, RLock, Thread
from time import monotonic, sleep
from typing import TextIO

MOST_CHARACTERS = 4 * 2**20  # of lines that wait for a reader
GATHER_S = 0.02  # for which the first of several lines waits for the others: they are written together
FLUSH_S = 1.0  # for which the end of the process waits for a reader
LOOK_S = 5.0  # between two looks for lines that were left out
WINDOW_S, SAME, KINDS = 60.0, 10, 1000  # so many lines of one kind per window; kinds that are told apart

Kind = tuple[str, str]  # logger, message without its arguments


class Limit:
    """Counts lines by kind, since most of them can be caused by clients, as often as these like. Not thread-safe."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Kind, tuple[float, int]] = OrderedDict()  # kind → its window's end, lines; in order

    def admit(self, kind: Kind, now: float) -> bool:
        """Count a line at the time `now`, in seconds of any clock; False when there were too many of its kind."""
        if kind not in self._counts and len(self._counts) >= KINDS:
            kind = ("", "other lines")
        end, lines = self._counts.get(kind, (now + WINDOW_S, 0))
        self._counts[kind] = end, lines + 1
        return lines < SAME

    def end_windows(self, now: float) -> list[tuple[Kind, int]]:
        """Forget the kinds whose window has ended; those with lines that were not admitted, and how many."""
        left_out = []
        while self._counts and (first := next(iter(self._counts.items())))[1][0] <= now:
            kind, (_, lines) = first
            del self._counts[kind]
            if lines > SAME:
                left_out.append((kind, lines - SAME))
        return left_out


class LineHandler(logging.Handler):
    """Queues the lines of log records for a thread that writes them; `emit` never waits for a reader.

    What does not fit into MOST_CHARACTERS is dropped, and counted in a line of its own once there is room again.
    """

    def __init__(self, stream: TextIO, unlimited: frozenset[str] = frozenset()) -> None:
        """Args: stream, mostly stderr; unlimited, names of loggers whose lines are not counted by kind."""
        super().__init__()
        self.stream = stream
        self._unlimited = unlimited
        self._descriptor = _descriptor_of(stream)  # None for text in memory, which is written at once
        self._lines: deque[str] = deque()
        self._size = 0  # characters that wait or are being written
        self._dropped = 0
        self._limit = Limit()
        self._mutex = RLock()  # a signal handler may log while its thread does
        self._due, self._written = Event(), Event()
        self._started = False

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of a record, unless there were too many of its kind."""
        try:
            with self._mutex:
                self._tell_left_out()
                if record.name in self._unlimited or self._limit.admit((record.name, str(record.msg)), monotonic()):
                    self._put(self.format(record))
        except Exception:  # whatever cannot be logged must not fail what is logged about
            self._dropped += 1

    def flush(self, seconds: float = FLUSH_S) -> None:
        """Wait until all lines are written, for at most so many seconds."""
        if self._started:
            self._due.set()
            self._written.wait(seconds)

    def _put(self, line: str) -> None:
        if self._descriptor is None:
            self.stream.write(f"{line}\n")
        elif self._size + len(line) > MOST_CHARACTERS:
            self._dropped += 1
        else:
            if not self._started:
                Thread(target=self._run, args=(self._descriptor,), name="log", daemon=True).start()
                self._started = True
            self._lines.append(line)
            self._size += len(line)
            self._written.clear()
            if not self._due.is_set():
                self._due.set()

    def _tell_left_out(self) -> None:
        for (logger, message), lines in self._limit.end_windows(monotonic()):
            self._put(self._format("%d more lines of %s: %s", lines, logger or "several loggers", message))

    def _format(self, message: str, *values: object) -> str:
        return self.format(logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, values, None))

    def _run(self, descriptor: int) -> None:
        while True:
            if self._due.wait(LOOK_S):
                sleep(GATHER_S)
                self._due.clear()
            with self._mutex:
                self._tell_left_out()
                lines = list(self._lines)
                self._lines.clear()
            written = _write(descriptor, "".join(f"{line}\n" for line in lines)) if lines else True
            with self._mutex:
                self._size -= sum(map(len, lines))
                self._dropped += 0 if written else len(lines)
                if self._dropped and written and lines:
                    dropped, self._dropped = self._dropped, 0
                    self._put(self._format("lines of the log were dropped, since nothing read them: %d", dropped))
                if not self._lines:
                    self._written.set()


def _write(descriptor: int, text: str) -> bool:
    """Write all of a text; False when nothing can be written there."""
    # Not the stream: its lock would abort the interpreter at its end while this thread waits for a reader.
    rest = memoryview(text.encode("utf-8", "backslashreplace"))
    while rest:
        try:
            rest = rest[os.write(descriptor, rest[: 2**16]) :]
        except BlockingIOError:
            sleep(GATHER_S)
        except OSError:  # the reader is gone, or the disk is full
            return False
    return True


def _descriptor_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
