"""Threads that hang: given up, replaced, known to readiness; and the process ends in spite of them."""

import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S
from tests.serve.changing import BLACK, Running, identity_of, make_hanging, make_twin, place, running, wait_until
from tests.serve.conftest import PICTURE, TINY

# Decoding the black picture never ends; what takes minutes takes moments.
HANGING = """
import sys, time
from lesion.cli.app import main
from lesion.inference.predictor import Predictor
from lesion.serve import app, pipeline
app.OVERRUN_S, pipeline.STUCK_S = 0.5, {stuck_s}
read, black = Predictor.read, {black!r}
def hang(self, source):
    while source == black:
        time.sleep(0.01)
    return read(self, source)
Predictor.read = hang
sys.exit(main())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "hanging.py"


def start(script: Path, stuck_s: float, *words: str) -> AbstractContextManager[Running]:
    script.write_text(HANGING.format(stuck_s=stuck_s, black=BLACK))
    return running(script.with_name("log"), TINY, "serve.deadline_s=0.5", *words, program=(str(script),))


def hang(server: Running) -> None:
    """Let one thread hang."""
    response = server.client.post("/predict", content=BLACK, headers={"content-type": "image/png"})
    assert response.status_code == 503


def status(server: Running) -> str:
    return str(server.client.get("/readyz").json()["status"])


def test_a_thread_that_hangs_is_replaced_and_the_process_ends_with_0(script: Path) -> None:
    with start(script, 1e9, "serve.threads=2", "serve.drain_s=2") as server:
        hang(server)
        wait_until(lambda: server.metric('lesion_overruns_total{stage="decode"}') == 1)
        assert status(server) == "ready"
        assert server.metric("lesion_queue_images") == 0
        assert server.ask()["prediction"]
        hang(server)
        wait_until(lambda: status(server) == "stuck")
        assert server.client.get("/readyz").status_code == 503
        refused = server.client.post("/predict", content=PICTURE, headers={"content-type": "image/jpeg"})
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        assert len(server.lines("another thread takes over")) == 2


def test_a_process_whose_threads_all_hang_ends_with_75(script: Path) -> None:
    with start(script, 0.5, "serve.threads=1") as server:
        hang(server)
        assert server.process.wait(PATIENCE_S) == 75
        assert server.lines("all threads hang")


@pytest.mark.skipif(sys.platform == "win32", reason="ends a process at once")
def test_sigterm_does_not_wait_for_a_hung_thread_that_nobody_noticed_yet(script: Path) -> None:
    with start(script, 1e9, "serve.threads=1", "serve.drain_s=600") as server:
        hang(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_a_good_model_takes_over_from_one_that_hangs(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    place(model, TINY.read_bytes())
    settings = ("serve.threads=1", "serve.deadline_s=0.5")
    with running(tmp_path / "log", model, *settings) as server:
        place(model, make_hanging())
        wait_until(lambda: server.model == identity_of(make_hanging()))
        hang(server)
        place(model, make_twin())
        wait_until(lambda: server.model == identity_of(make_twin()))
        wait_until(lambda: server.metric('lesion_overruns_total{stage="infer"}') == 1)
        wait_until(lambda: status(server) == "ready")
        assert server.ask(image=BLACK)["model"] == identity_of(make_twin())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
