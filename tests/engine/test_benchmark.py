"""`lesion export --benchmark`: what is measured, what is said when PyTorch cannot be, and one real round."""

import logging
from pathlib import Path
from typing import Any

import pytest

from lesion.engine import benchmark as module
from lesion.engine.benchmark import benchmark
from lesion.errors import ArtifactError, CheckFailed
from lesion.run import Run
from tests.conftest import Cli
from tests.engine.conftest import Trained

SPEED = {
    "file_ms": {"p50": 2.0, "p99": 3.0},
    "pixels_ms": {"p50": 1.0, "p99": 1.5},
    "images_per_second": {"1": 1000.0, "64": 2000.0},
}
MEMORY = {"memory": 70 * 2**20, "load_ms": 20.0}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Path]]:
    seen: list[tuple[str, str, Path]] = []

    def run(module: str, kind: str, path: Path) -> dict[str, Any]:
        seen.append((module, kind, path))
        return MEMORY if kind == "memory" else SPEED

    monkeypatch.setattr(module, "_run", run)
    return seen


def test_a_file_alone_is_measured_without_pytorch(
    tiny: Path, calls: list[tuple[str, str, Path]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lesion.engine.benchmark"):
        report = benchmark(tiny, None)
    assert [each.engine for each in report.figures] == ["tiny.onnx"]
    assert calls == [("lesion.inference.benchmark", kind, tiny) for kind in ("memory", "speed")]
    assert "PyTorch is not measured: " in caplog.text
    assert report.size == 32


def test_a_damaged_file_is_refused_before_anything_is_measured(tiny: Path, calls: list[Any]) -> None:
    tiny.write_bytes(b"no model")
    with pytest.raises(ArtifactError):
        benchmark(tiny, None)
    assert calls == []


def test_a_process_that_fails_is_told_by_its_last_word(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"could not be measured: .*no such model file"):
        module._run("lesion.inference.benchmark", "memory", tmp_path / "none.onnx")


def test_the_table_shows_every_engine(tiny: Path, calls: list[Any], cli: Cli) -> None:
    outcome = cli("export", "--benchmark", tiny)
    assert outcome.code == 0
    assert "tiny.onnx" in outcome.out
    assert "2.00" in outcome.out
    assert '"engine": "tiny.onnx"' in cli("export", "--benchmark", tiny, "--json").out


@pytest.mark.slow
def test_a_run_without_its_checkpoint_is_measured_without_pytorch(run_copy: Run, calls: list[Any]) -> None:
    for path in run_copy.checkpoints.iterdir():
        path.unlink()
    assert [each.engine for each in benchmark(run_copy.model, run_copy).figures] == ["model.onnx"]


@pytest.mark.slow
def test_a_run_is_measured_beside_pytorch(trained: Trained, calls: list[Any]) -> None:
    report = benchmark(trained.run.model, trained.run)
    assert [each.engine for each in report.figures] == ["model.onnx", "PyTorch eager"]
    assert {"onnxruntime", "torch", "python", "lesion", "pillow"} == {*report.versions}


@pytest.mark.slow
def test_pytorch_needs_more_memory_than_the_file(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = module._run("lesion.inference.benchmark", "memory", trained.run.model)["memory"]
    theirs = module._run("lesion.engine.eager", "memory", trained.run.path)["memory"]
    if ours is None:
        pytest.skip("the system does not tell")
    assert ours < theirs


@pytest.mark.slow
def test_pytorch_answers_what_the_file_answers(trained: Trained) -> None:
    import numpy as np

    from lesion.engine.eager import Eager
    from lesion.inference.predictor import Predictor
    from lesion.inference.stopwatch import draw_photo

    eager, predictor = Eager.load(trained.run), Predictor.load(trained.run.model)
    pixels = eager.read(draw_photo())
    assert np.array_equal(pixels, predictor.read(draw_photo()))
    logits = predictor.logits(pixels[None])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert np.allclose(np.asarray(eager.compute(pixels[None])), expected, atol=1e-5)
