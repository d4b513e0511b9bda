"""A session that starts and answers in time, or says why not."""

import subprocess
import sys
import time
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import pytest

from lesion.artifact import Artifact
from lesion.errors import ArtifactError, CheckFailed, OutOfMemory
from lesion.inference import session
from lesion.inference.predictor import Predictor
from lesion.inference.session import run_within, start_session
from tests.conftest import GOLDEN, PATIENCE_S
from tests.inference.hostile import change, fill_memory, loop_for_ever, refuse_to_start

TINY = Artifact.read(GOLDEN / "tiny.onnx")
PIXELS = np.zeros((1, 32, 32, 3), np.uint8)


def test_what_is_done_in_time_is_returned_or_raised() -> None:
    assert run_within(PATIENCE_S, lambda: 7, "nothing was done") == 7
    with pytest.raises(ZeroDivisionError):
        run_within(PATIENCE_S, lambda: 1 // 0, "nothing was done")


def test_what_is_late_is_told_to_stop() -> None:
    told, ended = Event(), Event()

    def work() -> None:
        told.wait(PATIENCE_S)
        ended.set()

    with pytest.raises(CheckFailed, match=r"^it was not done within 0\.01 s$"):
        run_within(0.01, work, "it was not done", stop=told.set)
    assert ended.is_set()


def test_a_self_test_without_end_is_ended() -> None:
    predictor = Predictor(loop_for_ever(), 1)
    start = time.monotonic()
    with pytest.raises(CheckFailed, match=f"^{predictor.identity} did not end its self-test within 0.2 s$"):
        predictor.run_self_test(0.2)
    assert time.monotonic() - start < PATIENCE_S


def test_a_process_ends_though_its_model_never_starts() -> None:
    # What computes goes on in its thread; it must not keep the process.
    model = refuse_to_start()
    program = """
import sys
from lesion.errors import CheckFailed
from lesion.inference.session import start_session
try:
    start_session(sys.stdin.buffer.read(), 1, limit_s=2)
except CheckFailed as error:
    sys.exit(error.message)
"""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, input=model.graph, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr.decode().strip()) == (1, "the model did not start within 2 s")


def test_an_inference_that_is_ended_from_outside_fails() -> None:
    import onnxruntime as ort

    options = ort.RunOptions()
    options.terminate = True
    with pytest.raises(CheckFailed, match="the model did not answer"):
        Predictor(TINY, 1).run(PIXELS, options=options)
    assert len(Predictor(TINY, 1).run(PIXELS).logits) == 1


def test_an_inference_without_end_is_ended(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(session, "LIMIT_S", 0.1)
    monkeypatch.setattr(session, "IMAGE_S", 0.1)
    predictor = Predictor(loop_for_ever(), 1)
    for _ in range(2):
        with pytest.raises(CheckFailed, match=r"^the model did not answer within 0\.2 s$"):
            predictor.run(PIXELS)
    assert len(Predictor(TINY, 1).run(PIXELS).logits) == 1
    assert capfd.readouterr().err == ""


def test_a_lack_of_memory_is_told() -> None:
    predictor = Predictor(fill_memory(2**47), 1)
    with pytest.raises(OutOfMemory, match="the memory does not suffice for the model: ") as caught:
        predictor.run(PIXELS)
    assert (caught.value.exit_code, caught.value.http_status) == (71, 503)


def test_a_graph_that_fails_at_run_time_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    def edit(onnx: Any, model: Any) -> None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([9]), "index"))
        model.graph.node.append(onnx.helper.make_node("Gather", ["first", "index"], ["logits"], name="x" * 1000))

    with pytest.raises(CheckFailed, match=r"^the model did not answer: .*Gather") as caught:
        Predictor(change(edit), 1).run(PIXELS)
    assert "lesion export --verify" in caught.value.hint
    assert len(caught.value.message) < 600
    assert "\n" not in caught.value.message
    assert capfd.readouterr().err == ""  # onnxruntime writes a line of its own unless it is told not to


def test_a_graph_is_read_as_what_was_checked() -> None:
    # Four bytes make onnxruntime take a file for its own format, of which nothing was checked.
    other = b"\x72\x02\x08\x00ORTM"
    with pytest.raises(ArtifactError, match=r"INVALID_PROTOBUF|protobuf"):
        start_session(other + TINY.graph, 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits no address space")
def test_the_hint_for_too_few_threads_helps() -> None:
    # Each stack takes 1 GiB of an address space that has room for three.
    program = """
import resource, sys
from pathlib import Path
from lesion.errors import OutOfMemory
from lesion.inference.predictor import Predictor, draw_test_image
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 7 * 2**29,) * 2)
try:
    print(Predictor.load(sys.argv[1], threads=int(sys.argv[2])).predict(draw_test_image()).prediction)
except OutOfMemory as error:
    print(error.message)
    print(error.hint)
"""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_STACK, (2**30, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    def attempt(threads: int) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program, str(GOLDEN / "tiny.onnx"), str(threads)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            preexec_fn=limit,
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    message, hint = attempt(8)
    assert message.startswith("cannot start 8 more threads for the model: ")
    assert "--threads 1" in hint
    assert attempt(1) == ["benign"]


def test_a_thread_that_python_cannot_start_is_told_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(session, "Thread", fail)
    with pytest.raises(OutOfMemory, match="cannot start 1 more threads for the model: can't start new thread"):
        Predictor(replace(TINY), 1)
