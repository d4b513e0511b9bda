"""Whether a file answers as its reference does."""

import numpy as np
import pytest

from lesion.artifact import Artifact
from lesion.engine.parity import BATCH, Parity, compare, measure_latency, run_batches
from lesion.engine.validation import Pixels, Validation
from lesion.errors import CheckFailed
from lesion.inference.predictor import Predictor
from tests.conftest import GOLDEN

TINY = Artifact.read(GOLDEN / "tiny.onnx")
COUNT = 2 * BATCH + 3


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (COUNT, 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, (COUNT, 32, 32, 3)).copy()


@pytest.fixture(scope="module")
def validation(pixels: Pixels) -> Validation:
    return Validation(pixels, np.zeros(COUNT, np.int64), np.zeros(COUNT, bool), [str(i) for i in range(COUNT)])


def test_many_pixels_are_answered_in_order(pixels: Pixels) -> None:
    predictor = Predictor(TINY)
    answers = run_batches(predictor, pixels)
    assert np.array_equal(answers.logits, predictor.logits(pixels))
    assert np.array_equal(answers.checks, predictor.run(pixels).checks)
    assert answers.maps is None


def test_a_file_agrees_with_itself(validation: Validation) -> None:
    parity = compare(TINY, Predictor(TINY).logits(validation.pixels), validation)
    assert (parity.images, parity.max_difference, parity.flips) == (COUNT, 0, 0)
    assert parity.latency_ms > 0
    parity.require(0)


def test_differences_and_flips_are_counted(validation: Validation) -> None:
    predictor = Predictor(TINY)
    logits, threshold = predictor.logits(validation.pixels), TINY.manifest.threshold
    turned = logits[:, ::-1].copy()
    before, after = (predictor.malignant(validation.pixels) >= threshold for _ in range(2))
    assert np.array_equal(before, after)
    parity = compare(TINY, turned, validation)
    assert parity.max_difference > 0.01
    assert parity.flips > 0
    with pytest.raises(CheckFailed, match=f"disagrees with torch on {COUNT} validation images"):
        parity.require(1e-4)


@pytest.mark.parametrize(
    "parity",
    [Parity(200, 2e-4, 0, 1.0), Parity(200, 1e-6, 1, 1.0), Parity(200, float("nan"), 0, 1.0)],
    ids=["too far", "a decision flips", "not a number"],
)
def test_the_gate_refuses(parity: Parity) -> None:
    with pytest.raises(CheckFailed):
        parity.require(1e-4)
    Parity(200, 1e-4, 0, 1.0).require(1e-4)


def test_latency_is_positive_and_measured_on_one_image() -> None:
    assert 0 < measure_latency(Predictor(TINY), repeats=3) < 10_000
