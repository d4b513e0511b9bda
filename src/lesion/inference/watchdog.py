"""Steps of threads, each with a time limit: one that takes longer is given up."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from time import monotonic

log = logging.getLogger(__name__)
LOOK_S = 0.5  # between two looks at the steps


@dataclass(slots=True, eq=False)
class Step:
    """A piece of work that one thread does now."""

    stage: str
    """Name in the log and the metric, like "decode"."""
    limit_s: float
    give_up: "Callable[[Step], bool]"
    """Called once when the step takes longer than `limit_s`; False when the step had ended meanwhile."""
    age_s: float = 0.0


class Watchdog:
    """A thread that looks at the current steps twice a second. Every method is thread-safe."""

    def __init__(self, count: Callable[[str], None] = lambda stage: None) -> None:
        """Args: count, told the stage of each step that was given up."""
        self._count = count
        self._steps: set[Step] = set()
        self._closed = Event()
        self._lock = Lock()
        self._thread: Thread | None = None

    def begin(self, step: Step) -> None:
        """Watch `step` from now on."""
        self._steps.add(step)
        if self._thread is None or not self._thread.is_alive():  # not started, or not in this process: it was forked
            self._start()

    def end(self, step: Step) -> None:
        """Watch `step` no more."""
        self._steps.discard(step)

    def close(self) -> None:
        """End the thread; nothing is given up any more."""
        self._closed.set()

    def look(self, seconds: float) -> None:
        """Let `seconds` pass for all steps, and give up those that take too long."""
        for step in tuple(self._steps):
            step.age_s += seconds
            if step.age_s >= step.limit_s:
                self._steps.discard(step)
                self._give_up(step)

    def _start(self) -> None:
        with self._lock, suppress(RuntimeError):  # no more threads now: the next step tries again
            if self._closed.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            thread = Thread(target=self._run, name="watchdog", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        last = monotonic()
        while not self._closed.wait(LOOK_S):
            now = monotonic()
            # While the process or its machine is stopped, no step gets older.
            self.look(min(now - last, 2 * LOOK_S))
            last = now

    def _give_up(self, step: Step) -> None:
        try:
            hung = step.give_up(step)
        except Exception:  # such as no memory for another thread; the other steps are still watched
            log.exception("a hung thread could not be replaced")
            hung = True
        if hung:
            self._count(step.stage)
            log.error(
                "a thread hangs: %s takes longer than %.0f s; another thread takes over", step.stage, step.limit_s
            )
