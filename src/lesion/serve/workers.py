"""Several processes that answer on one socket: started and stopped together, replaced when one of them dies."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory
from threading import Thread
from time import monotonic, sleep

from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead

from lesion.config.serving import ServeConfig
from lesion.errors import LesionError
from lesion.inference.threads import usable_cpus
from lesion.serve.logs import set_up_logs
from lesion.serve.process import run_server

log = logging.getLogger(__name__)
Build = Callable[[ServeConfig], FastAPI]
LOOK_S = 0.2  # between two looks at the workers
PAUSE_S = 1.0  # before another one takes the place of one that could not start


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
        try:
            said: str | LesionError = self.pipe.recv()
        except EOFError:
            raise LesionError(f"a worker ended with exit code {self.process.exitcode} before it was ready") from None
        if isinstance(said, LesionError):
            raise said
        return said


def run_workers(build: Build, listener: socket.socket, settings: ServeConfig, ready: Callable[[str], None]) -> None:
    """Serve with `settings.workers` processes until SIGINT, which raises KeyboardInterrupt, or SIGTERM.

    Args:
        build: Makes the application; called in each worker, so it must be picklable.
        listener: The socket that all of them listen on.
        settings: Of all of them together: each has its share of the threads.
        ready: Called once, with the identity of the model, when all of them answer.

    Raises what `build` does, from the first worker.
    """
    each = replace(settings, threads=settings.threads or max(1, usable_cpus() // settings.workers))
    caught: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    with TemporaryDirectory(prefix="lesion-metrics-") as folder:
        os.putenv("PROMETHEUS_MULTIPROC_DIR", folder)  # where the workers' metrics are counted together
        crew = [_start(build, listener, each) for _ in range(settings.workers)]
        try:
            if hasattr(signal, "SIGHUP"):
                signal.signal(signal.SIGHUP, lambda *_: _send(crew, signal.SIGHUP))
            identities = [worker.await_ready(lambda: bool(caught)) for worker in crew]
            if not caught:
                ready(identities[0])
            while not caught:
                wait([worker.process.sentinel for worker in crew], LOOK_S)
                for place, worker in enumerate(crew):
                    if not worker.process.is_alive() and not caught:
                        crew[place] = _replace(worker, lambda: _start(build, listener, each), folder, caught)
        finally:
            _stop(crew, settings.drain_s + 1)
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if signal.SIGINT in caught:
        raise KeyboardInterrupt


def _start(build: Build, listener: socket.socket, settings: ServeConfig) -> Worker:
    context = get_context("spawn")  # a fork would copy locks that threads of ours hold
    ours, theirs = context.Pipe()
    level = logging.getLogger("lesion").level
    process = context.Process(target=_work, args=(build, listener, settings, level, theirs), name="worker")
    process.start()
    theirs.close()
    return Worker(process, ours)


def _replace(dead: Worker, start: Callable[[], Worker], folder: str, caught: list[int]) -> Worker:
    log.error("worker %s ended with exit code %s, another one starts", dead.process.pid, dead.process.exitcode)
    mark_process_dead(dead.process.pid, folder)  # type: ignore[no-untyped-call]
    worker = start()
    try:
        worker.await_ready(lambda: bool(caught))
    except LesionError as error:  # of what is wrong with it now, the others know nothing
        log.error("it could not: %s", error.message)
        sleep(PAUSE_S)
    return worker


def _send(crew: Sequence[Worker], number: int) -> None:
    for worker in crew:
        if worker.process.is_alive() and worker.process.pid is not None:
            os.kill(worker.process.pid, number)


def _stop(crew: Sequence[Worker], seconds: float) -> None:
    end = monotonic() + seconds
    if sys.platform == "win32":  # a signal would end them at once; that the parent is gone, they finish for
        for worker in crew:
            worker.pipe.close()
    else:
        _send(crew, signal.SIGTERM)
    for worker in crew:
        worker.process.join(max(0.0, end - monotonic()))
        worker.process.kill()
        worker.process.join()


def _work(build: Build, listener: socket.socket, settings: ServeConfig, level: int, pipe: Connection) -> None:
    """The worker's side."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C is for the parent, which then asks the workers to stop
    ours = logging.getLogger("lesion")
    ours.handlers, ours.propagate = [logging.StreamHandler(sys.stderr)], False
    ours.setLevel(level)
    set_up_logs(settings.log)
    try:
        app = build(settings)
    except LesionError as error:
        pipe.send(error)
        return
    pipe.send(app.state.service.slot.pick().identity)
    Thread(target=_follow, args=(pipe,), daemon=True).start()
    run_server(app, listener, settings)


def _follow(pipe: Connection) -> None:
    """End when the parent does, however that comes."""
    try:
        pipe.recv()
    except (EOFError, OSError):
        signal.raise_signal(signal.SIGTERM)  # os.kill would end this process on Windows, without a last answer
