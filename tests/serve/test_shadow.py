"""A second model that is asked, too: nobody waits for it, sees its answers or notices its failures."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from lesion.artifact import Artifact
from lesion.config.serving import ServeConfig
from lesion.inference.predictor import Predictor
from lesion.inference.watchdog import Watchdog
from lesion.serve.metrics import Metrics
from lesion.serve.pipeline import Pipeline
from lesion.serve.shadow import WAITING, Shadow
from lesion.serve.slot import SHADOW, Serving, Slot
from tests.conftest import PATIENCE_S
from tests.serve.changing import BLACK, answer_of, identity_of, make_moody, make_twin, place, running, wait_until
from tests.serve.conftest import PICTURE, TINY

DIGEST = "0" * 64


class Diary:
    """A journal in memory."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def record(self, *row: Any) -> None:
        self.rows.append(row)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(1, 1, 1)


def count(metrics: Metrics, start: str) -> float:
    lines = metrics.render()[0].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start) and 'role="shadow"' in line)


def start(tiny_serving: Serving, pipeline: Pipeline, content: bytes) -> tuple[Shadow, Metrics, Diary, Serving]:
    serving = Serving.start(Artifact.unpack(content), ServeConfig(threads=1), SHADOW)
    metrics, diary = Metrics(), Diary()
    return Shadow(Slot(tiny_serving, serving), pipeline, metrics, diary), metrics, diary, serving  # type: ignore[arg-type]


def test_it_is_asked_and_recorded(tiny_serving: Serving, pipeline: Pipeline) -> None:
    shadow, metrics, diary, serving = start(tiny_serving, pipeline, make_twin())
    shadow.offer(PICTURE, DIGEST, "mine")
    wait_until(lambda: diary.rows)
    ((prediction, digest, latency_ms, request, role),) = diary.rows
    assert prediction.class_probabilities == answer_of(make_twin()).class_probabilities
    assert prediction.model == serving.identity
    assert (digest, request, role) == (DIGEST, "mine", "shadow")
    assert latency_ms > 0
    assert count(metrics, "lesion_predictions_total") == 1
    assert count(metrics, "lesion_stage_seconds_count") == 2
    assert serving.drift.report()["images"] == 1


def test_it_begins_nothing_while_others_work(tiny_serving: Serving, pipeline: Pipeline) -> None:
    shadow, _, diary, _ = start(tiny_serving, pipeline, make_twin())
    pipeline.load = 1
    for _ in range(WAITING * 10):
        shadow.offer(PICTURE, DIGEST, "busy")
    wait_until(shadow._queue.empty)
    pipeline.load = 0
    shadow.offer(PICTURE, DIGEST, "idle")
    wait_until(lambda: diary.rows)
    assert [row[3] for row in diary.rows].count("busy") <= 1  # the one in its hands as the others ended


def test_its_failures_are_counted_and_said_once(
    tiny_serving: Serving, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    shadow, metrics, diary, serving = start(tiny_serving, pipeline, make_moody())
    caplog.set_level("WARNING", "lesion.serve.shadow")
    for number in (1, 2):
        shadow.offer(BLACK, DIGEST, "bad")
        wait_until(lambda number=number: count(metrics, "lesion_model_failures_total") == number)
    shadow.offer(PICTURE, DIGEST, "good")
    wait_until(lambda: diary.rows)
    (line,) = caplog.messages
    assert line.startswith(f"the shadow {serving.identity} has no answer")


def test_another_thread_goes_on_when_one_hangs(
    tiny_serving: Serving, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, hangs, given_up = threading.Event(), threading.Event(), list[str]()
    read = Predictor.read

    def hang(self: Predictor, source: Any) -> Any:
        if source == BLACK:
            hangs.set()
            assert release.wait(PATIENCE_S)
        return read(self, source)

    monkeypatch.setattr(Predictor, "read", hang)
    shadow, _, diary, _ = start(tiny_serving, pipeline, make_twin())
    watchdog = shadow._watchdog = Watchdog(given_up.append)
    shadow._limit_s = 10.0
    shadow.offer(BLACK, DIGEST, "hangs")
    assert hangs.wait(PATIENCE_S)
    assert shadow.is_busy
    watchdog.look(11.0)
    shadow.offer(PICTURE, DIGEST, "after")
    wait_until(lambda: diary.rows)
    release.set()
    wait_until(lambda: not shadow.is_busy)
    watchdog.close()
    assert [row[3] for row in diary.rows] == ["after"]
    assert given_up == ["shadow"]


def test_without_a_shadow_there_is_no_thread(tiny_serving: Serving, pipeline: Pipeline) -> None:
    before = threading.active_count()
    Shadow(Slot(tiny_serving), pipeline, Metrics(), None).offer(PICTURE, DIGEST, "mine")
    assert threading.active_count() == before


@pytest.mark.soak
@pytest.mark.slow
def test_nobody_notices_it(tmp_path: Path) -> None:
    path, journal = tmp_path / "shadow.onnx", tmp_path / "journal.db"
    place(path, make_moody())
    live, other = identity_of(TINY.read_bytes()), identity_of(make_moody())
    with running(tmp_path / "log", TINY, "--shadow", str(path), f"serve.journal={journal}") as server:
        assert server.ask("mine")["model"] == live
        wait_until(lambda: server.predictions("shadow") == 1)
        assert server.ask("dark", BLACK)["model"] == live
        wait_until(lambda: server.metric('lesion_model_failures_total{role="shadow"}') == 1)
        place(path, b"no model")
        wait_until(lambda: server.lines("there is no shadow any more"))
        assert server.ask("late")["model"] == live
        assert len(server.lines("the shadow")) == 1
        server.process.terminate()
        assert server.process.wait(60) == 0
    with sqlite3.connect(journal) as database:
        rows = database.execute("select request, model, role from predictions order by role, id").fetchall()
    assert rows == [("mine", live, "live"), ("dark", live, "live"), ("late", live, "live"), ("mine", other, "shadow")]
