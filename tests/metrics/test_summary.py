"""All figures at once: weights, intervals, lesions."""

import json
from dataclasses import asdict
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lesion.errors import DataError
from lesion.metrics import (
    OF_CALIBRATION,
    bootstrap,
    estimate,
    estimate_auroc,
    estimate_figures,
    estimate_lesions,
    explain,
    measure,
    point,
    pool,
)
from lesion.metrics.calibration import estimate_recalibration
from lesion.metrics.reasons import AGREE, NO_SLOPE
from lesion.metrics.samples import divide
from lesion.records import to_dict
from tests.metrics.cases import Sample, both, counts, derandomized, one, study

NAMES = {
    "auroc", "average_precision", "partial_auroc", "sensitivity_at_95_specificity", "specificity_at_95_sensitivity",
    "sensitivity", "specificity", "precision", "negative_predictive_value", "f1", "accuracy", "balanced_accuracy",
    "brier", "log_loss", "calibration_error",
}  # fmt: skip
RECALIBRATION = {"calibration_slope", "calibration_intercept"}
POINTS = {"calibration_error", "calibration_error_excess"}


@given(both, st.data())
@derandomized
def test_a_weight_means_as_many_copies(sample: Sample, data: st.DataObject) -> None:
    p, t = sample
    w = np.array(data.draw(st.lists(counts, min_size=len(p), max_size=len(p))))
    assume(w.sum())
    weighted, repeated = measure(p, t, 0.5, w), measure(np.repeat(p, w), np.repeat(t, w), 0.5)
    assert set(weighted) == NAMES
    for name in weighted:
        assert one(weighted[name]) == pytest.approx(one(repeated[name]), nan_ok=True), name


@given(both, st.data())
@derandomized
def test_each_row_of_weights_is_a_sample_of_its_own(sample: Sample, data: st.DataObject) -> None:
    p, t = sample
    n = len(p)
    w = np.array(data.draw(st.lists(st.lists(counts, min_size=n, max_size=n), min_size=2, max_size=4)))
    together = measure(p, t, 0.5, w)
    for row, weights in enumerate(w):
        for name, value in measure(p, t, 0.5, weights).items():
            assert together[name].shape == (len(w),)
            assert together[name][row] == pytest.approx(one(value), nan_ok=True), name


@pytest.mark.parametrize(
    ("truth", "undefined"),
    [
        (
            [1, 1, 1],
            {"auroc", "average_precision", "partial_auroc", "sensitivity_at_95_specificity", "balanced_accuracy",
             "specificity_at_95_sensitivity", "specificity"},
        ),
        (
            [0, 0, 0],
            {"auroc", "average_precision", "partial_auroc", "sensitivity_at_95_specificity", "balanced_accuracy",
             "specificity_at_95_sensitivity", "sensitivity", "f1"},
        ),
        ([], NAMES),
    ],
    ids=["all malignant", "all benign", "no images"],
)  # fmt: skip
def test_what_cannot_be_computed_is_none_with_a_reason(truth: list[int], undefined: set[str]) -> None:
    p, lesions = np.array([0.1, 0.6, 0.9])[: len(truth)], ["a", "b", "c"][: len(truth)]
    assert {name for name, value in point(measure(p, truth, 0.5)).items() if value is None} == undefined
    estimates = estimate(p, truth, lesions, 0.5)
    assert set(estimates) == NAMES | set(OF_CALIBRATION)
    undefined = undefined | RECALIBRATION if truth else set(estimates)
    assert {name for name, e in estimates.items() if e.value is None} == undefined
    assert all(e.low is e.high is None for e in estimates.values() if e.value is None)
    reasons = explain(estimates, truth, p >= 0.5, lesions)
    missing = {name for name, e in estimates.items() if e.low is None and not (name in POINTS and e.value is not None)}
    assert undefined <= set(reasons) == missing
    json.dumps({name: to_dict(e) for name, e in estimates.items()}, allow_nan=False)


def test_three_images_have_wide_intervals_or_none() -> None:
    estimates = estimate([0.1, 0.6, 0.9], [0, 1, 1], ["a", "b", "c"], 0.5)
    assert to_dict(estimates["accuracy"]) == pytest.approx({"value": 1, "low": 0.025 ** (1 / 3), "high": 1})
    assert to_dict(estimates["sensitivity"]) == pytest.approx({"value": 1, "low": 0.025**0.5, "high": 1})
    assert to_dict(estimates["auroc"]) == pytest.approx({"value": 1, "low": 0.025, "high": 1})
    assert to_dict(estimates["f1"]) == {"value": 1, "low": None, "high": None}


def test_one_lesion_gives_no_interval() -> None:
    estimates = estimate([0.1, 0.6, 0.9], [1, 1, 1], ["a", "a", "a"], 0.5)
    assert estimates["brier"].value == pytest.approx((0.81 + 0.16 + 0.01) / 3)
    assert estimates["brier"].low is estimates["sensitivity"].low is None
    assert to_dict(estimates["precision"]) == pytest.approx({"value": 1, "low": 0.025, "high": 1})


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5])
def test_an_answer_that_is_no_probability_is_an_error(bad: float) -> None:
    for figures in (estimate, estimate_lesions):
        with pytest.raises(DataError, match="1 of 3 images are unusable"):
            figures([0.1, bad, 0.9], [0, 1, 1], ["a", "b", "c"], 0.5)


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_contains_the_value(seed: int) -> None:
    p, t, lesions = study(150, 2, seed)
    plain = point(measure(p, t, 0.4))
    for name, figure in estimate(p, t, lesions, 0.4).items():
        assert name in OF_CALIBRATION or figure.value == plain[name]
        if name in POINTS:
            assert figure.low is figure.high is None
            continue
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high, name
        assert name in RECALIBRATION or 0 <= figure.low < figure.high <= 1, name


def test_a_perfect_ranking_has_no_interval_of_its_areas_and_says_why() -> None:
    p, truth, lesions = np.linspace(0, 1, 300), np.arange(300) >= 200, [str(i) for i in range(300)]
    estimates = estimate(p, truth, lesions, 0.5)
    reasons = explain(estimates, truth, p >= 0.5, lesions)
    assert estimates["average_precision"].value == estimates["partial_auroc"].value / 0.2 == 1
    assert reasons["average_precision"] == reasons["partial_auroc"] == AGREE
    assert reasons["calibration_slope"] == NO_SLOPE
    assert estimates["sensitivity_at_95_specificity"].low == pytest.approx(0.025 ** (1 / 100))


def test_balanced_accuracy_joins_the_intervals_of_its_two_shares() -> None:
    p, truth, lesions = study(200, seed=3)
    found = estimate(p, truth, lesions, 0.5)
    sensitivity, specificity, both = (found[name] for name in ("sensitivity", "specificity", "balanced_accuracy"))
    assert both.value == pytest.approx((sensitivity.value + specificity.value) / 2)
    down = np.hypot(sensitivity.value - sensitivity.low, specificity.value - specificity.low) / 2
    assert both.value - both.low == pytest.approx(down)


def test_intervals_follow_the_seed() -> None:
    p, t, lesions = study(60)
    assert estimate(p, t, lesions, 0.5, 1) == estimate(p, t, lesions, 0.5, 1)
    assert estimate(p, t, lesions, 0.5, 1) != estimate(p, t, lesions, 0.5, 2)


def test_images_of_one_lesion_are_not_taken_for_independent_evidence() -> None:
    p, t, lesions = study(80, copies=4)
    by_lesion = estimate(p, t, lesions, 0.5)
    by_image = estimate(p, t, [str(i) for i in range(len(p))], 0.5)
    single = estimate(*study(80), 0.5)
    for name in ("auroc", "sensitivity", "specificity", "accuracy", "brier"):
        width, naive, alone = (e[name].high - e[name].low for e in (by_lesion, by_image, single))
        assert width > 1.5 * naive, name  # four copies: twice as wide
        assert width == pytest.approx(alone), name  # and as wide as without copies


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    # Calibrated uniform probabilities: an image at p is malignant with probability p. AUROC is 5/6, the sensitivity of
    # a threshold t is 1 - t², slope 1 and intercept 0.
    truths = {"auroc": 5 / 6, "sensitivity": 0.96, "calibration_slope": 1, "calibration_intercept": 0}
    held = dict.fromkeys(truths, 0)
    for seed in range(200):
        p, t, lesions = study(120, seed=seed)
        found = {"auroc": estimate_auroc(p, t, lesions), **estimate_recalibration(p, t, lesions)}
        hits, trials = t & (p >= 0.2), {"sensitivity": int(t.sum())}
        found |= estimate_figures(
            lambda w, t=t, hits=hits: {"sensitivity": divide(w @ hits, w @ t)}, lesions, 0, trials
        )
        for name, true in truths.items():
            held[name] += found[name].low <= true <= found[name].high
    assert all(0.93 - 0.03 <= each / 200 <= 0.97 + 0.02 for each in held.values()), held


@pytest.mark.slow
@pytest.mark.parametrize(("area", "malignant"), [(0.85, 12), (0.93, 12), (0.93, 25)])
def test_the_auroc_of_few_lesions_is_not_told_with_too_much_certainty(
    monkeypatch: pytest.MonkeyPatch, area: float, malignant: int
) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    rng, truth, held = np.random.default_rng(0), np.arange(120) < malignant, 0
    for seed in range(300):
        scores = rng.normal(size=120) + np.sqrt(2) * NormalDist().inv_cdf(area) * truth
        figure = estimate_auroc(scores, truth, np.arange(120), seed)
        held += figure.low <= area <= figure.high
    assert held / 300 >= 0.92  # percentiles: 0.86 to 0.92


# --- lesions ----------------------------------------------------------------------------------------------------------


def test_a_lesion_has_the_mean_probability_and_is_malignant_if_any_of_its_images_is() -> None:
    p, t, lesions = pool([0.2, 0.9, 0.4, 0.1], [0, 1, 1, 0], ["x", "b", "x", "a"])
    assert lesions == ("a", "b", "x")
    assert p == pytest.approx([0.1, 0.9, 0.3])
    assert t.tolist() == [False, True, True]


def test_probabilities_of_classes_are_pooled_by_class() -> None:
    p, _, lesions = pool([[0.2, 0.8], [0.4, 0.6], [1, 0]], [0, 0, 0], ["x", "x", "a"])
    assert lesions == ("a", "x")
    assert p == pytest.approx(np.array([[1, 0], [0.3, 0.7]]))


def test_figures_by_lesion_are_those_of_one_image_per_lesion() -> None:
    p, t, lesions = study(80, copies=3)
    alone, t_alone, ids = study(80)
    assert estimate_lesions(p, t, lesions, 0.5).keys() == NAMES | set(OF_CALIBRATION)
    found = {name: asdict(e) for name, e in estimate_lesions(p, t, lesions, 0.5).items()}
    wanted = {name: asdict(e) for name, e in estimate(alone, t_alone, ids, 0.5).items()}
    for name in ("auroc", "sensitivity", "brier"):
        assert found[name]["value"] == pytest.approx(wanted[name]["value"])
        assert found[name]["low"] == pytest.approx(wanted[name]["low"], abs=0.02)
