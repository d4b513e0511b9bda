"""Calibration against scikit-learn and by hand."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from lesion.errors import DataError
from lesion.metrics import (
    brier,
    calibration_error,
    calibration_intercept,
    calibration_slope,
    estimate,
    estimate_reliability,
    expect_calibration_error,
    log_loss,
)
from tests.metrics.cases import Sample, both, derandomized, one, samples, study


@given(both, st.data())
@derandomized
def test_proper_scores_agree_with_scikit_learn(sample: Sample, data: st.DataObject) -> None:
    p, t = sample
    w = np.array(data.draw(st.lists(st.floats(0.1, 5), min_size=len(p), max_size=len(p))))
    for weights in (None, w):
        assert one(brier(p, t, weights)) == pytest.approx(sk.brier_score_loss(t, p, sample_weight=weights))
        assert one(log_loss(p, t, weights)) == pytest.approx(sk.log_loss(t, p, sample_weight=weights))


def test_a_certain_error_costs_much_and_not_infinitely_much() -> None:
    assert one(log_loss([0.0], [1])) == pytest.approx(36.04, abs=0.01)
    assert one(log_loss([1.0, 0.0], [1, 0])) == 0
    assert one(log_loss([0.5], [1])) == pytest.approx(np.log(2))


def test_without_images_there_is_no_figure() -> None:
    assert np.isnan([one(figure([], [])) for figure in (brier, log_loss, calibration_error)]).all()
    assert np.isnan(brier([0.5], [1], [[0]])).all()


@pytest.mark.parametrize("figure", [brier, log_loss, calibration_error])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.01, -0.01])
def test_what_is_no_probability_is_an_error(figure, bad: float) -> None:
    with pytest.raises(DataError, match=f"the first {bad} for image 2"):
        figure([0.5, bad], [0, 1])


def test_a_rounding_error_beyond_one_is_a_one() -> None:
    assert one(brier([1 + 1e-7, -1e-7], [1, 0])) == 0


def test_calibration_error_by_hand() -> None:
    # Two images at 0.05, of which one is malignant: a gap of 0.45. Two at 0.95, both malignant: a gap of 0.05.
    assert one(calibration_error([0.05, 0.05, 0.95, 0.95], [0, 1, 1, 1])) == pytest.approx((2 * 0.45 + 2 * 0.05) / 4)


def test_calibration_error_at_the_ends_of_the_scale() -> None:
    assert one(calibration_error([0.0, 1.0], [0, 1])) == 0
    assert one(calibration_error([0.0, 1.0], [1, 0])) == 1


def test_opposite_gaps_cancel_within_a_bin_and_not_between_bins() -> None:
    assert one(calibration_error([0.5, 0.5], [0, 1])) == 0
    assert one(calibration_error([0.4, 0.6], [1, 0])) == pytest.approx(0.6)


@given(both)
@derandomized
def test_calibration_error_is_the_mean_gap_of_fifteen_bins(sample: Sample) -> None:
    p, t = sample
    total = 0.0
    for b in range(15):
        inside = (b / 15 <= p) & ((p < (b + 1) / 15) | (b == 14))
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - t[inside].mean())
    assert one(calibration_error(p, t)) == pytest.approx(total)


@given(samples, st.integers(1, 20))
@derandomized
def test_the_reliability_curve_is_that_of_scikit_learn(sample: Sample, bins: int) -> None:
    p, t = sample
    p = p * 0.98 + 0.009  # scikit-learn counts a value on an edge to the bin below
    curve = [row for row in estimate_reliability(p, t, [str(i) for i in range(len(p))], bins=bins) if row.images]
    observed, predicted = calibration_curve(t, p, n_bins=bins)
    assert [row.probability for row in curve] == pytest.approx(predicted.tolist())
    assert [row.observed.value for row in curve] == pytest.approx(observed.tolist())


def test_the_bins_of_the_curve_add_up_to_the_calibration_error() -> None:
    p, t, lesions = study(200, 2)
    rows = [row for row in estimate_reliability(p, t, lesions) if row.probability is not None]
    gaps = [row.images * abs(row.probability - row.observed.value) for row in rows]
    assert sum(gaps) / 400 == pytest.approx(one(calibration_error(p, t)))
    assert sum(row.images for row in rows) == 400
    assert sum(row.lesions for row in rows) == 200
    for row in rows:
        assert row.start <= row.probability <= row.end
        assert row.observed.low <= row.observed.value <= row.observed.high


def test_an_empty_bin_has_no_figures_and_a_bin_of_one_lesion_a_wide_interval() -> None:
    rows = estimate_reliability([0.01, 0.99, 0.98], [0, 1, 1], ["a", "b", "b"])
    assert [row.images for row in rows] == [1, *[0] * 13, 2]
    assert rows[5].probability is rows[5].observed.value is rows[5].observed.low is None
    assert asdict(rows[0].observed) == pytest.approx({"value": 0, "low": 0, "high": 0.975})
    assert asdict(rows[-1].observed) == pytest.approx({"value": 1, "low": 0.025, "high": 1})
    json.dumps([asdict(row) for row in rows], allow_nan=False)


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_the_slope_is_that_of_scikit_learn(slope: float) -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 500)
    t = rng.random(500) < 1 / (1 + np.exp(-slope * logit(p) - 0.3))
    w = rng.integers(0, 3, (2, 500))
    theirs = [LogisticRegression(C=np.inf, tol=1e-8).fit(logit(p)[:, None], t, each).coef_[0, 0] for each in w]
    assert calibration_slope(p, t, w) == pytest.approx(theirs, rel=1e-4)
    added = one(calibration_intercept(p, t))
    assert (1 / (1 + np.exp(-logit(p) - added))).mean() == pytest.approx(t.mean())


def test_without_a_finite_slope_there_is_none() -> None:
    assert np.isnan(one(calibration_slope([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])))  # separated
    assert np.isnan(one(calibration_slope([0.3] * 4, [0, 0, 1, 1])))  # all equal
    assert one(calibration_intercept([0.3] * 4, [0, 0, 1, 1])) == pytest.approx(-logit(np.float64(0.3)))
    for truth in ([0, 0], [1, 1], []):
        for figure in (calibration_slope, calibration_intercept):
            assert np.isnan(one(figure([0.1, 0.9][: len(truth)], truth)))


def test_certain_probabilities_have_a_slope() -> None:
    assert one(calibration_slope([0.0, 1.0, 0.0, 1.0, 0.5], [0, 1, 1, 1, 0])) == pytest.approx(0.05, abs=0.05)


def test_chance_explains_the_calibration_error_of_a_calibrated_model() -> None:
    rng = np.random.default_rng(1)
    errors, inside = [], 0
    p = rng.beta(0.6, 2.4, 300)
    chance = expect_calibration_error(p, np.arange(300))
    for _ in range(200):
        errors.append(one(calibration_error(p, rng.random(300) < p)))
        inside += chance.low <= errors[-1] <= chance.high
    assert chance.value == pytest.approx(np.mean(errors), abs=0.002)
    assert 180 <= inside <= 200


def test_images_of_one_lesion_share_their_chance() -> None:
    p = np.full(200, 0.3)
    alone = expect_calibration_error(p, np.arange(200))
    together = expect_calibration_error(p, np.arange(200) // 10)
    assert together.value > 2 * alone.value
    assert expect_calibration_error([], []).value is None


def test_a_calibration_error_has_no_interval_but_what_exceeds_chance() -> None:
    p, t, lesions = study(300, 2, 4)
    found = estimate(p, t, lesions, 0.5)
    error, chance = found["calibration_error"], found["calibration_error_expected"]
    assert error.low is error.high is found["calibration_error_excess"].low is None
    assert found["calibration_error_excess"].value == max(0, error.value - chance.value)
    assert found["calibration_slope"].low < 1 < found["calibration_slope"].high
    worse = estimate(np.where(p > 0.5, 0.99, 0.01), t, lesions, 0.5)
    assert worse["calibration_error_excess"].value > 0.1
    assert worse["calibration_error"].value > worse["calibration_error_expected"].high
    assert worse["calibration_slope"].high < 1
