import numpy as np
import pytest

from lesion.engine.calibrate import MARGIN, choose_threshold, fit_temperature
from lesion.errors import DataError
from lesion.inference.decide import to_probabilities


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_data_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 7))
    targets = np.array([rng.choice(7, p=p) for p in to_probabilities(logits, true)])
    assert fit_temperature(logits, targets) == pytest.approx(true, rel=0.03)


def test_the_temperature_is_where_the_likelihood_is_highest() -> None:
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(0, 4, (500, 7)), rng.integers(0, 7, 500)

    def loss(temperature: float) -> float:
        return float(-np.log(to_probabilities(logits, temperature)[np.arange(500), targets]).mean())

    best = fit_temperature(logits, targets)
    assert all(loss(best) <= loss(other) + 1e-9 for other in np.geomspace(0.06, 19, 200))


def test_the_operating_point_reaches_its_sensitivity() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(400) < 0.2
    scores = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1)
    threshold = choose_threshold(scores, truth, 0.95)
    assert (scores[truth] >= threshold).mean() >= 0.95
    assert np.abs(scores - threshold).min() >= MARGIN


def test_a_model_that_knows_nothing_calls_everything_malignant() -> None:
    scores = 0.195 + np.linspace(0, 1e-7, 50)
    threshold = choose_threshold(scores, np.arange(50) % 5 == 0, 0.95)
    # Any threshold among these scores would be decided by rounding errors.
    assert threshold < 0.19


def test_no_malignant_image_means_no_operating_point() -> None:
    with pytest.raises(DataError, match="no malignant image"):
        choose_threshold([0.1, 0.2], [False, False], 0.95)
