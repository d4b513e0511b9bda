"""The places of workers: who ended is replaced, after pauses that grow while it ends again soon."""

import errno
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import values

from lesion.errors import LesionError, OutputError
from lesion.serve import workers
from lesion.serve.workers import METRICS, PAUSES_S, RESERVED, STEADY_S, Place, Worker


@dataclass
class Process:
    """A process that ends when a test says so."""

    pid: int = 123456
    exitcode: int | None = None
    code: int = -9
    joined: list[float] = field(default_factory=list)

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, seconds: float) -> None:
        self.joined.append(seconds)
        self.exitcode = self.code


class Factory:
    """Starts processes that are none."""

    def __init__(self) -> None:
        self.processes: list[Any] = []
        self.pipes: list[Any] = []
        self.errors: list[Exception] = []

    def __call__(self) -> Worker:
        if self.errors:
            raise self.errors.pop()
        ours, theirs = Pipe()
        self.processes.append(Process())
        self.pipes.append(theirs)
        return Worker(self.processes[-1], ours)


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, run by other tests, keeps the log of lesion to itself."""
    monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def place(factory: Factory, tmp_path: Path) -> Place:
    return Place(factory, str(tmp_path), factory(), 0.0)


def test_one_that_ends_soon_is_replaced_after_pauses_that_grow(place: Place, factory: Factory) -> None:
    now, pauses = 0.0, []
    for _ in range(9):
        factory.processes[-1].exitcode = 1
        now += 1
        place.look(now)
        assert place.due is not None
        pauses.append(place.due - now)
        place.look(place.due - 0.01)
        now = place.due
        place.look(now)
        assert place.due is None
    assert len(factory.processes) == 10
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert pauses[-1] == PAUSES_S[1]
    now += STEADY_S + 1
    factory.processes[-1].exitcode = 1
    place.look(now)
    assert len(factory.processes) == 11  # at once, after it did well for a while


def test_what_kept_one_from_starting_is_said_and_its_metrics_removed(
    place: Place, factory: Factory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine, others = tmp_path / "counter_123456.db", tmp_path / "counter_1.db"
    mine.touch()
    others.touch()
    factory.pipes[-1].send(LesionError("no such model"))
    factory.processes[-1].exitcode = 0
    place.look(1.0)
    assert "worker 123456 ended with exit code -9, another one starts in 1 s: no such model" in caplog.text
    assert not mine.exists()
    assert others.exists()


def test_a_machine_without_processes_is_waited_for(place: Place, factory: Factory) -> None:
    factory.processes[-1].exitcode = -9
    factory.errors = [OSError(errno.EAGAIN, "Resource temporarily unavailable")]
    place.look(STEADY_S + 1)
    assert place.due is not None
    place.look(place.due)
    place.look(place.due or 1e9)
    assert len(factory.processes) == 2


def test_an_exit_code_is_waited_for(factory: Factory) -> None:
    worker = factory()
    factory.pipes[-1].close()  # a moment before the process has ended
    with pytest.raises(LesionError, match="ended with exit code -9 before it was ready"):
        worker.await_ready(lambda: False)


def test_a_full_disk_for_metrics_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match="metrics cannot be written: No space left") as caught:
        workers._reserve_metrics(tmp_path)
    assert "TMPDIR" in caught.value.hint


@pytest.mark.skipif(os.name == "nt", reason="the library's shared files are not for Windows")
def test_the_room_that_is_reserved_is_the_room_that_metrics_take(tmp_path: Path) -> None:
    assert not values.ValueClass._multiprocess
    code = (
        "import itertools; from pathlib import Path\n"
        "from lesion.records import Prediction; from lesion.serve import workers\n"
        f"workers._reserve_metrics(Path({str(tmp_path)!r}))\n"
        "from lesion.serve.metrics import METHODS, MOST, ROUTES, Metrics\n"
        "metrics, roles = Metrics(), ('live', 'canary', 'shadow')\n"
        "for route, method, status in itertools.product((*ROUTES, None), (*METHODS, 'x'), range(200, 600, 100)):\n"
        "    metrics.count_request(route, method, status)\n"
        "for stage, role in itertools.product(('receive', 'queue', 'decode', 'wait', 'infer', 'total'), roles):\n"
        "    metrics.time_stage(stage, 0.1, role)\n"
        "for one, other, role in itertools.product(('malignant', 'benign'), ('malignant', 'benign', 'refer'), roles):\n"
        "    by_class = {'benign': 0.9, 'malignant': 0.1}\n"
        "    metrics.count_prediction(Prediction('x', one, 0.9, other, ('x' * 50,), by_class, None, 'm@1'), role)\n"
        "for number in range(2 * MOST):\n"
        "    metrics.count_rejection('x' * 50 + str(number))\n"
        "metrics.count_failure(); metrics.count_batch(1); metrics.show_queue(1)\n"
        "for result in ('done', 'refused', 'failed'): metrics.count_reload(result)\n"
        "for stage in ('decode', 'infer', 'shadow', 'reload'): metrics.count_overrun(stage)\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    sizes = {path.name.rpartition("_")[0]: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes == dict.fromkeys(METRICS, RESERVED)
