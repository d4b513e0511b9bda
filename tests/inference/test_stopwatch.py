import json
from pathlib import Path

import pytest
from PIL import Image

from lesion.images import decode_image
from lesion.inference import stopwatch
from lesion.inference.benchmark import Exported
from lesion.inference.predictor import Predictor
from tests.conftest import GOLDEN


def load() -> Exported:
    return Exported(Predictor.load(GOLDEN / "tiny.onnx"))


def test_speed_is_measured_at_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "LONGEST_S", 0.02)
    monkeypatch.setattr(stopwatch, "BATCH_S", 0.01)
    found = stopwatch.measure_speed(load)
    assert 0 < found["pixels_ms"]["p50"] <= found["pixels_ms"]["p99"]
    assert found["pixels_ms"]["p50"] < found["file_ms"]["p50"] <= found["file_ms"]["p99"]
    assert list(found["images_per_second"]) == ["1", "4", "16", "64"]
    assert min(found["images_per_second"].values()) > 0


def test_memory_and_loading_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    stopwatch.report("memory", load)
    found = json.loads(capsys.readouterr().out)
    assert found["memory"] is None or found["memory"] > 2e7
    assert found["load_ms"] > 0


def test_the_photo_is_one_of_the_usual_size_and_always_the_same() -> None:
    photo = stopwatch.draw_photo()
    assert photo == stopwatch.draw_photo()
    assert decode_image(photo).size == (600, 450)
    assert 5_000 < len(photo) < 100_000
    assert isinstance(decode_image(photo), Image.Image)


def test_what_times_others_loads_no_engine(tmp_path: Path) -> None:
    from tests.test_architecture import _modules_after

    assert _modules_after("    import lesion.inference.stopwatch").isdisjoint({"onnxruntime", "torch"})
