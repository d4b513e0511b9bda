"""What the tests of changing models share: a twin of the tiny model, bad models, a server whose log can be read."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from lesion.artifact import Artifact
from lesion.files import write_atomic
from lesion.inference.predictor import Predictor, draw_test_image
from lesion.manifest import Manifest, SelfTest
from lesion.records import Prediction
from tests.conftest import GOLDEN, PATIENCE_S
from tests.serve.conftest import PICTURE, TINY, encode


def seal(graph: bytes, manifest: Manifest) -> bytes:
    """A model file with a self-test that it passes."""
    blank = Artifact.pack(graph, manifest)[0]
    answer = Predictor(blank, 1).probabilities(manifest.preprocess.apply(draw_test_image())[None])[0]
    return Artifact.pack(graph, replace(manifest, self_test=SelfTest(tuple(map(float, answer)), 1e-3)))[1]


def make_twin(temperature: float = 3.0) -> bytes:
    """The tiny model, surer or less sure of itself: another model with other answers."""
    tiny = Artifact.read(TINY)
    return seal(tiny.graph, replace(tiny.manifest, temperature=temperature))


def make_moody() -> bytes:
    """The tiny model, without an answer to an image that is all black. Needs onnx."""
    onnx = pytest.importorskip("onnx")
    tiny = Artifact.read(TINY)
    model = onnx.load_from_string(tiny.graph)
    (node,) = (each for each in model.graph.node if each.output == ["logits"])
    node.output[0] = "raw"
    model.graph.node.append(onnx.helper.make_node("Div", ["raw", "grey"], ["logits"]))
    return seal(model.SerializeToString(), tiny.manifest)


def make_hanging() -> bytes:
    """The tiny model, which computes without end for every image but that of the self-test. Needs onnx."""
    onnx = pytest.importorskip("onnx")
    tiny = Artifact.read(TINY)
    model, make = onnx.load_from_string(tiny.graph), onnx.helper.make_node
    known = np.float32(tiny.manifest.preprocess.apply(draw_test_image()).mean())
    values = {"known": known, "far": np.float32(1e9), "go_on": np.array(True), "zero": np.float32(0)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in values.items())
    number, truth, real = onnx.TensorProto.INT64, onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT
    describe = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [make("Identity", ["more"], ["more_out"]), make("Identity", ["value"], ["value_out"])],
        "body",
        [describe("round", number, []), describe("more", truth, []), describe("value", real, [])],
        [describe("more_out", truth, []), describe("value_out", real, [])],
    )
    (node,) = (each for each in model.graph.node if each.output == ["logits"])
    node.output[0] = "raw"
    model.graph.node.extend(
        [
            make("Cast", ["pixels"], ["hang_x"], to=real),
            make("ReduceMean", ["hang_x"], ["hang_mean"], keepdims=0),
            make("Sub", ["hang_mean", "known"], ["off"]),
            make("Abs", ["off"], ["distance"]),
            make("Floor", ["distance"], ["steps"]),  # the mean is not the same to the last bit
            make("Mul", ["steps", "far"], ["rounds_real"]),
            make("Cast", ["rounds_real"], ["rounds"], to=number),
            make("Loop", ["rounds", "go_on", "zero"], ["nothing"], body=body),
            make("Add", ["raw", "nothing"], ["logits"]),
        ]
    )
    return seal(model.SerializeToString(), tiny.manifest)


BLACK = encode(Image.new("RGB", (32, 32)))


def fail_self_test() -> bytes:
    """An intact model whose self-test does not pass here."""
    tiny = Artifact.read(TINY)
    wrong = SelfTest(tiny.manifest.self_test.probabilities[::-1], 1e-3)
    return Artifact.pack(tiny.graph, replace(tiny.manifest, self_test=wrong))[1]


def flip_bit(content: bytes) -> bytes:
    """The content with one bit changed."""
    return content[:99] + bytes([content[99] ^ 1]) + content[100:]


BAD: dict[str, Callable[[], bytes | None]] = {
    "one bit flipped": lambda: flip_bit(make_twin(4)),
    "half-written": lambda: make_twin(5)[:-100],
    "other classes": (GOLDEN / "tiny2.onnx").read_bytes,
    "fails its self-test": fail_self_test,
    "missing": lambda: None,
}


def place(path: Path, content: bytes | None) -> None:
    """Replace a file atomically, or remove it."""
    if content is None:
        path.unlink()
    else:
        write_atomic(path, content)


def identity_of(content: bytes) -> str:
    return Artifact.unpack(content).identity


def answer_of(content: bytes, image: bytes = PICTURE) -> Prediction:
    """What a model answers to the picture."""
    return Predictor(Artifact.unpack(content), 1).predict(image, "upload")


def wait_until(done: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@dataclass(frozen=True)
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    client: httpx.Client

    def ask(self, request: str = "", image: bytes = PICTURE) -> dict[str, Any]:
        """The answer for an image."""
        headers = {"content-type": "image/jpeg", **({"x-request-id": request} if request else {})}
        response = self.client.post("/v1/predict", content=image, headers=headers)
        assert response.status_code == 200, response.text
        return dict(response.json())

    @property
    def model(self) -> str:
        """The live model."""
        return str(self.client.get("/readyz").json()["model"])

    def metric(self, series: str) -> float:
        """The value of a series, as name{labels}; 0 without it."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def reloads(self, result: str) -> float:
        return self.metric(f'lesion_reloads_total{{result="{result}"}}')

    def predictions(self, role: str) -> float:
        return sum(
            self.metric(f'lesion_predictions_total{{decision="{decision}",prediction="{prediction}",role="{role}"}}')
            for prediction in ("malignant", "benign")
            for decision in (prediction, "refer")
        )

    def lines(self, words: str) -> list[str]:
        """The lines of the log with these words."""
        return [line for line in self.log.read_text().splitlines() if words in line]

    def hang_up(self) -> None:
        """Ask it to look for other models."""
        os.kill(self.process.pid, signal.SIGHUP)


@contextmanager
def running(
    log: Path, model: str | Path, *words: str, watch_s: float = 0.1, program: tuple[str, ...] = ("-m", "lesion")
) -> Iterator[Running]:
    """`lesion serve` with these words; its log goes to a file, so that it never waits for a reader."""
    command = [sys.executable, *program, "serve", f"serve.watch_s={watch_s}", "--port", "0"]
    with (
        log.open("w") as file,
        subprocess.Popen([*command, "--model", str(model), *words], stderr=file) as process,
    ):
        try:
            wait_until(lambda: "listening on" in log.read_text() or process.poll() is not None)
            found = re.search(r"listening on (\S+:\d+)", log.read_text())
            assert found, log.read_text()
            with httpx.Client(base_url=found[1], timeout=PATIENCE_S) as client:
                yield Running(process, log, client)
        finally:
            process.kill()
