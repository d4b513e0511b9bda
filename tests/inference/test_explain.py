"""Where a model looks, from what its graph computed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lesion.artifact import Artifact
from lesion.inference.decide import to_malignant, to_probabilities
from lesion.inference.explain import to_heat
from lesion.inference.predictor import Predictor
from lesion.manifest import Manifest
from tests.conftest import GOLDEN

SEVEN = Artifact.read(GOLDEN / "tiny.onnx").manifest
TWO = Artifact.read(GOLDEN / "tiny2.onnx").manifest


def log_odds(logits: Any, manifest: Manifest) -> Any:
    p = to_malignant(to_probabilities(logits, manifest.temperature), manifest)
    return np.log(p / (1 - p))


def test_of_two_classes_it_is_the_difference_of_their_maps() -> None:
    rng = np.random.default_rng(0)
    maps, logits = rng.normal(size=(3, 2, 4, 5)).astype(np.float32), rng.normal(size=(3, 2)).astype(np.float32)
    heat = to_heat(maps, logits, replace(TWO, temperature=2.0))
    assert heat.shape == (3, 4, 5)
    assert heat.dtype == np.float32
    assert heat == pytest.approx((maps[:, 1] - maps[:, 0]) / 2, abs=1e-6)


def test_a_step_along_a_map_changes_the_log_odds_by_its_heat() -> None:
    rng = np.random.default_rng(1)
    logits, maps = rng.normal(size=(4, 7)), rng.normal(size=(4, 7, 2, 2)).astype(np.float32)
    heat, step = to_heat(maps, logits.astype(np.float32), SEVEN), 1e-5
    for y, x in np.ndindex(2, 2):
        moved = maps[:, :, y, x].astype(float) * step
        slope = (log_odds(logits + moved, SEVEN) - log_odds(logits - moved, SEVEN)) / (2 * step)
        assert heat[:, y, x] == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("size", [1e3, -1e3, 1e30])
def test_a_hopeless_class_gives_no_nan(size: float) -> None:
    logits = np.zeros((1, 7), np.float32)
    logits[0, SEVEN.taxonomy.malignant_outputs] = size
    assert np.isfinite(to_heat(np.ones((1, 7, 2, 2), np.float32), logits, SEVEN)).all()


def test_what_adds_the_same_to_every_logit_is_no_heat() -> None:
    maps = np.repeat(np.random.default_rng(2).normal(size=(1, 1, 3, 3)), 7, axis=1).astype(np.float32)
    assert to_heat(maps, np.arange(7, dtype=np.float32)[None], SEVEN) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny2.onnx"])
def test_heat_without_a_bias_is_where_the_log_odds_come_from(name: str) -> None:
    predictor = Predictor.load(GOLDEN / name)
    pixels = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    answers = predictor.run(pixels, maps=True)
    assert answers.maps is not None
    assert answers.maps.sum((2, 3)) == pytest.approx(answers.logits, abs=1e-4)  # no bias: all of it has a place
    heat = predictor.explain(pixels)
    assert heat.shape == (2, 32, 32)
    assert np.array_equal(heat, to_heat(answers.maps, answers.logits, predictor.manifest))
    if name == "tiny2.onnx":
        odds = log_odds(answers.logits, predictor.manifest)
        assert heat.sum((1, 2)) == pytest.approx(odds, abs=1e-4)
