"""Several processes that answer on one socket: started and stopped together, replaced when one of them dies."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGINT, SIGTERM
from tempfile import TemporaryDirectory
from threading import Thread
from time import monotonic, sleep
from typing import Any

from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead

from lesion.config.serving import ServeConfig
from lesion.errors import LesionError, OutputError
from lesion.inference.threads import usable_cpus
from lesion.serve.logs import flush_logs, set_up_logs
from lesion.serve.logwriter import FLUSH_S
from lesion.serve.process import run_server
from lesion.serve.signals import hang_ups

log = logging.getLogger(__name__)
Build = Callable[[ServeConfig], FastAPI]
LOOK_S = 0.2  # between two looks at the workers
PAUSES_S = (1.0, 60.0)  # before another one takes the place of one that ended soon after its start; doubled each time
STEADY_S = 60.0  # after which a worker did not end soon after its start
JOIN_S = 1.0  # in which a worker that closed its pipe has ended
METRICS = ("counter", "histogram", "gauge_livesum")  # names of the files that prometheus_client maps into memory
RESERVED = 2**17  # bytes of each, several times what the bounded number of series takes


@dataclass(frozen=True, slots=True)
class Worker:
    """A process, and the pipe that tells either side of the other's end."""

    process: BaseProcess
    pipe: Connection

    def await_ready(self, stopped: Callable[[], bool]) -> str:
        """The identity of its model; raises what kept it from starting, or "" when it was stopped meanwhile."""
        while not self.pipe.poll(LOOK_S):
            if stopped():
                return ""
        said = self.receive()
        if isinstance(said, LesionError):
            raise said
        if said is None:
            raise LesionError(f"a worker ended with exit code {self.exit_code} before it was ready")
        return said

    def receive(self) -> str | LesionError | None:
        """The identity of its model, or what keeps it from starting; None when it said neither, or did before."""
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            return None

    @property
    def exit_code(self) -> int | None:
        """How a process that is about to end did so."""
        self.process.join(JOIN_S)  # its pipe is closed a moment before
        return self.process.exitcode


@dataclass(slots=True)
class Place:
    """A place for a worker, where another one starts when one has ended: at once, or after a pause that grows."""

    start: Callable[[], Worker]
    folder: str
    """Of the metrics."""
    worker: Worker
    began: float
    """When it started, in seconds of `monotonic`."""
    pause_s: float = 0.0
    due: float | None = None
    """When the next one starts; None while there is one."""

    def look(self, now: float) -> None:
        """See to it that a worker is there, or will be."""
        if self.due is None and not self.worker.process.is_alive():
            self._note_end(now)
        if self.due is not None and now >= self.due:
            try:
                self.worker, self.began, self.due = self.start(), now, None
            except OSError as error:  # no memory or no process is left for it
                self._wait(now)
                log.error("no worker can be started: %s", error.strerror or error)

    def _note_end(self, now: float) -> None:
        process, said = self.worker.process, self.worker.receive()
        self.pause_s = self.pause_s if now - self.began < STEADY_S else 0.0
        self._wait(now)
        # What is wrong with one that could not start, the others know nothing of.
        reason = f": {said.message}" if isinstance(said, LesionError) else ""
        log.error(
            "worker %s ended with exit code %s, another one starts in %.0f s%s",
            process.pid, self.worker.exit_code, max(0.0, (self.due or now) - now), reason,
        )  # fmt: skip
        mark_process_dead(process.pid, self.folder)  # type: ignore[no-untyped-call]
        if isinstance(said, LesionError):  # it has counted nothing
            for file in Path(self.folder).glob(f"*_{process.pid}.db"):
                file.unlink(missing_ok=True)
        self.worker.pipe.close()

    def _wait(self, now: float) -> None:
        steady = now - self.began >= STEADY_S
        self.due = now if steady else now + max(self.pause_s, PAUSES_S[0])
        self.pause_s = 0.0 if steady else min(2 * max(self.pause_s, PAUSES_S[0]), PAUSES_S[1])


def run_workers(build: Build, listener: socket.socket, settings: ServeConfig, ready: Callable[[str], None]) -> None:
    """Serve with `settings.workers` processes until SIGINT, which raises KeyboardInterrupt, or SIGTERM.

    Args:
        build: Makes the application; called in each worker, so it must be picklable.
        listener: The socket that all of them listen on.
        settings: Of all of them together: each has its share of the threads.
        ready: Called once, with the identity of the model, when all of them answer.

    Raises what `build` does, from the first worker, and OutputError without room for the workers' metrics.
    """
    each = replace(settings, threads=settings.threads or max(1, usable_cpus() // settings.workers))
    caught: list[int] = []
    crew: list[Place] = []
    handlers: dict[int, Any] = {number: lambda number, _: caught.append(number) for number in (SIGTERM, SIGINT)}
    if sys.platform != "win32":
        handlers[signal.SIGHUP] = lambda *_: _send(crew, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with hang_ups(let_in=True), _metrics_folder() as folder:
            start = partial(_start, build, listener, each, folder)
            try:
                for _ in range(settings.workers):
                    crew.append(Place(start, folder, start(), monotonic()))
                identities = [place.worker.await_ready(lambda: bool(caught)) for place in crew]
                if not caught:
                    ready(identities[0])
                while not caught:
                    sentinels = [place.worker.process.sentinel for place in crew if place.due is None]
                    if sentinels:
                        wait(sentinels, LOOK_S)
                    else:
                        sleep(LOOK_S)
                    for place in crew:
                        place.look(monotonic())
            finally:
                _stop([place.worker for place in crew], settings.drain_s + 1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in caught:
        raise KeyboardInterrupt


@contextmanager
def _metrics_folder() -> Iterator[str]:
    """A new folder in which the metrics of all workers are counted together."""
    try:
        folder = TemporaryDirectory(prefix="lesion-metrics-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_room(error) from error
    with folder as name:
        os.putenv("PROMETHEUS_MULTIPROC_DIR", name)  # for processes that start now, not for this one
        try:
            yield name
        finally:
            os.unsetenv("PROMETHEUS_MULTIPROC_DIR")


def _reserve_metrics(folder: Path) -> None:
    """Make the files of this process' metrics as large as they ever get; OutputError when the disk is full.

    They are mapped into memory: without room for a page that is written to, the process would end with SIGBUS.
    """
    try:
        for name in METRICS:
            (folder / f"{name}_{os.getpid()}.db").write_bytes(bytes(RESERVED))
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> OutputError:
    return OutputError(
        f"the workers' metrics cannot be written: {error.strerror or error}",
        hint="free some space, or set TMPDIR to another folder; serve.workers=1 needs none",
    )


def _start(build: Build, listener: socket.socket, settings: ServeConfig, folder: str) -> Worker:
    context = get_context("spawn")  # a fork would copy locks that threads of ours hold
    ours, theirs = context.Pipe()
    level = logging.getLogger("lesion").level
    process = context.Process(target=_work, args=(build, listener, settings, level, folder, theirs), name="worker")
    with hang_ups(let_in=False):  # also for the worker, until it has a handler
        process.start()
    theirs.close()
    return Worker(process, ours)


def _send(crew: Sequence[Place], number: int) -> None:
    for place in crew:
        _signal(place.worker, number)


def _signal(worker: Worker, number: int) -> None:
    if worker.process.is_alive() and worker.process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(worker.process.pid, number)


def _stop(crew: Sequence[Worker], seconds: float) -> None:
    end = monotonic() + seconds
    if sys.platform == "win32":  # a signal would end them at once; that the parent is gone, they finish for
        for worker in crew:
            worker.pipe.close()
    else:
        for worker in crew:
            _signal(worker, SIGTERM)
    for worker in crew:
        worker.process.join(max(0.0, end - monotonic()))
        worker.process.kill()
        worker.process.join()


def _work(
    build: Build, listener: socket.socket, settings: ServeConfig, level: int, folder: str, pipe: Connection
) -> None:
    """The worker's side."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C is for the parent, which then asks the workers to stop
    ours = logging.getLogger("lesion")
    ours.handlers, ours.propagate = [logging.StreamHandler(sys.stderr)], False
    ours.setLevel(level)
    set_up_logs(settings.log)
    try:
        _reserve_metrics(Path(folder))
        app = build(settings)
    except LesionError as error:
        pipe.send(error)
        return
    pipe.send(app.state.service.slot.pick().identity)
    Thread(target=_follow, args=(pipe,), daemon=True).start()
    try:
        run_server(app, listener, settings)
    finally:
        flush_logs(FLUSH_S)  # what else would do it at the end of a process is not done in one that was spawned


def _follow(pipe: Connection) -> None:
    """End when the parent does, however that comes."""
    try:
        pipe.recv()
    except (EOFError, OSError):
        signal.raise_signal(signal.SIGTERM)  # os.kill would end this process on Windows, without a last answer
