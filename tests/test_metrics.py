"""The figures against scikit-learn, by hand, and by what they promise."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lesion.metrics import (
    Floats,
    auroc,
    average_precision,
    calibration_error,
    confusion,
    estimate,
    estimate_auroc_loss,
    measure,
    point,
    threshold_for_sensitivity,
)
from lesion.records import to_dict

Sample = tuple[np.ndarray, np.ndarray]
derandomized = settings(derandomize=True, deadline=None, max_examples=150)

# Few distinct scores, so that ties are the rule; both ends of [0, 1] among them.
pairs = st.tuples(st.integers(0, 8).map(lambda k: k / 8), st.booleans())
samples = st.lists(pairs, min_size=1, max_size=40).map(
    lambda items: (np.array([p for p, _ in items]), np.array([t for _, t in items]))
)
both = samples.filter(lambda sample: 0 < sample[1].sum() < len(sample[1]))
counts = st.integers(0, 3)


def one(values: Floats) -> float:
    assert values.shape == (1,)
    return float(values[0])


@given(both)
@derandomized
def test_figures_of_scores_agree_with_scikit_learn(sample: Sample) -> None:
    p, t = sample
    assert one(auroc(p, t)) == pytest.approx(sk.roc_auc_score(t, p))
    assert one(average_precision(p, t)) == pytest.approx(sk.average_precision_score(t, p))
    assert one(measure(p, t, 0.5)["brier"]) == pytest.approx(sk.brier_score_loss(t, p))


@given(both, st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0, 1.1]))
@derandomized
def test_figures_of_decisions_agree_with_scikit_learn(sample: Sample, threshold: float) -> None:
    p, t = sample
    predicted = p >= threshold
    ours = {name: one(value) for name, value in measure(p, t, threshold).items()}
    assert ours["sensitivity"] == pytest.approx(sk.recall_score(t, predicted))
    assert ours["specificity"] == pytest.approx(sk.recall_score(~t, ~predicted))
    assert ours["f1"] == pytest.approx(sk.f1_score(t, predicted))
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(t, predicted))
    assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(t, predicted))
    if predicted.any():
        assert ours["precision"] == pytest.approx(sk.precision_score(t, predicted))
    else:
        assert np.isnan(ours["precision"])
    cells = confusion(predicted, t)
    table = [one(cells[name]) for name in ("tn", "fp", "fn", "tp")]
    assert table == sk.confusion_matrix(t, predicted).ravel().tolist()


@given(both, st.data())
@derandomized
def test_a_weight_means_as_many_copies(sample: Sample, data: st.DataObject) -> None:
    p, t = sample
    w = np.array(data.draw(st.lists(counts, min_size=len(p), max_size=len(p))))
    assume(w.sum())
    weighted, repeated = measure(p, t, 0.5, w), measure(np.repeat(p, w), np.repeat(t, w), 0.5)
    for name in weighted:
        assert one(weighted[name]) == pytest.approx(one(repeated[name]), nan_ok=True), name


@given(both, st.data())
@derandomized
def test_fractional_weights_agree_with_scikit_learn(sample: Sample, data: st.DataObject) -> None:
    p, t = sample
    w = np.array(data.draw(st.lists(st.floats(0.1, 5), min_size=len(p), max_size=len(p))))
    assert one(auroc(p, t, w)) == pytest.approx(sk.roc_auc_score(t, p, sample_weight=w))
    assert one(average_precision(p, t, w)) == pytest.approx(sk.average_precision_score(t, p, sample_weight=w))
    assert one(measure(p, t, 0.5, w)["brier"]) == pytest.approx(sk.brier_score_loss(t, p, sample_weight=w))


@given(both, st.data())
@derandomized
def test_each_row_of_weights_is_a_sample_of_its_own(sample: Sample, data: st.DataObject) -> None:
    p, t = sample
    n = len(p)
    w = np.array(data.draw(st.lists(st.lists(counts, min_size=n, max_size=n).filter(any), min_size=2, max_size=4)))
    together = measure(p, t, 0.5, w)
    for row, weights in enumerate(w):
        for name, value in measure(p, t, 0.5, weights).items():
            assert together[name].shape == (len(w),)
            assert together[name][row] == pytest.approx(one(value), nan_ok=True), name


@given(both)
@derandomized
def test_ranking_figures_depend_on_the_order_of_the_scores_only(sample: Sample) -> None:
    p, t = sample
    for figure in (auroc, average_precision):
        assert one(figure(np.exp(5 * p) - 3, t)) == one(figure(p, t))
    assert one(auroc(-p, t)) == pytest.approx(1 - one(auroc(p, t)))


def test_a_tie_counts_half() -> None:
    assert one(auroc([0.5, 0.5], [True, False])) == 0.5
    assert one(auroc([0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1])) == 0.875


def test_perfect_and_reversed_rankings_score_one_and_zero() -> None:
    assert one(auroc([0.1, 0.2, 0.8], [0, 0, 1])) == one(average_precision([0.1, 0.2, 0.8], [0, 0, 1])) == 1
    assert one(auroc([0.9, 0.8, 0.1], [0, 0, 1])) == 0


@pytest.mark.parametrize("figure", [auroc, average_precision], ids=["auroc", "average precision"])
@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0]], ids=["no negatives", "no positives"])
def test_without_one_of_the_classes_a_ranking_has_no_figure(figure: Callable[..., Floats], truth: list[int]) -> None:
    assert np.isnan(one(figure([0.1, 0.5, 0.9], truth)))


@pytest.mark.parametrize("figure", [auroc, average_precision], ids=["auroc", "average precision"])
def test_a_resample_that_lost_a_class_has_no_figure_and_the_others_keep_theirs(figure: Callable[..., Floats]) -> None:
    values = figure([0.1, 0.5, 0.9], [0, 1, 1], [[1, 1, 1], [0, 2, 1], [3, 0, 0], [0, 0, 0]])
    assert values[0] == 1
    assert np.isnan(values[1:]).all()


@pytest.mark.parametrize(
    ("truth", "defined"),
    [
        ([1, 1, 1], {"sensitivity", "precision", "f1", "accuracy", "brier", "calibration_error"}),
        ([0, 0, 0], {"specificity", "precision", "f1", "accuracy", "brier", "calibration_error"}),
    ],
    ids=["all malignant", "all benign"],
)
def test_data_of_a_single_class_give_none_rather_than_a_number(truth: list[int], defined: set[str]) -> None:
    p = [0.1, 0.6, 0.9]
    assert {name for name, value in point(measure(p, truth, 0.5)).items() if value is not None} == defined
    estimates = estimate(p, truth, ["a", "b", "c"], 0.5)
    assert {name for name, e in estimates.items() if e.value is not None} == defined
    assert all((e.low is None) == (e.high is None) == (name not in defined) for name, e in estimates.items())
    json.dumps({name: to_dict(e) for name, e in estimates.items()}, allow_nan=False)


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


# --- the operating point ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "truth", "goal", "wanted"),
    [
        ([0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1], 1.0, 0.3),
        ([0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1], 0.51, 0.3),
        ([0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1], 0.5, 0.7),
        ([0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1], 0.01, 0.7),
        ([0.4, 0.8], [1, 1], 1.0, 0.2),
        ([0.5, 0.5, 0.1], [1, 0, 0], 0.95, 0.3),
        ([0.0, 0.5], [1, 0], 1.0, 0.0),
    ],
    ids=["all", "more than half", "half", "any", "no lower score", "tie across classes", "a positive at zero"],
)
def test_threshold_by_hand(scores: list[float], truth: list[int], goal: float, wanted: float) -> None:
    assert threshold_for_sensitivity(scores, truth, goal) == pytest.approx(wanted)


def test_a_share_of_positives_that_is_whole_is_not_missed_by_rounding() -> None:
    scores = np.arange(1, 21) / 21
    for missed in range(20):
        threshold = threshold_for_sensitivity(scores, np.ones(20), 1 - missed / 20)
        assert threshold is not None
        assert (scores < threshold).sum() == missed


def test_without_positives_there_is_no_threshold() -> None:
    assert threshold_for_sensitivity([0.1, 0.9], [0, 0], 0.95) is None
    assert threshold_for_sensitivity([], [], 0.95) is None


goals = st.integers(1, 100).map(lambda k: k / 100)
fine = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40).map(
    lambda items: (np.array([p for p, _ in items]), np.array([t for _, t in items]))
)


@given(samples | fine, goals)
@derandomized
def test_the_threshold_reaches_its_goal_and_the_next_higher_one_does_not(sample: Sample, goal: float) -> None:
    p, t = sample
    assume(t.any())
    threshold = threshold_for_sensitivity(p, t, goal)
    assert threshold is not None
    assert 0 <= threshold <= 1
    assert (p >= threshold)[t].mean() >= goal - 1e-9
    assert (p > p[p >= threshold].min())[t].mean() < goal


@given(samples | fine, goals, st.sampled_from([1e-5, 0.01, 0.1]))
@derandomized
def test_with_a_margin_no_score_lies_close_to_the_threshold(sample: Sample, goal: float, margin: float) -> None:
    p, t = sample
    assume(t.any())
    threshold = threshold_for_sensitivity(p, t, goal, margin)
    highest = threshold_for_sensitivity(p, t, goal)
    assert threshold is not None
    assert highest is not None
    assert threshold <= highest
    assert (p >= threshold)[t].mean() >= goal - 1e-9
    assert threshold == 0 or np.abs(p - threshold).min() >= margin * (1 - 1e-6)


def test_a_margin_moves_the_threshold_below_scores_that_are_too_close() -> None:
    scores, truth = [0.1, 0.3, 0.30001, 0.9], [0, 0, 1, 1]
    assert threshold_for_sensitivity(scores, truth, 1.0) == pytest.approx(0.300005, abs=1e-9)
    assert threshold_for_sensitivity(scores, truth, 1.0, 0.001) == pytest.approx(0.2)


# --- intervals --------------------------------------------------------------------------------------------------------


def study(n: int, copies: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Calibrated probabilities of `n` lesions with `copies` identical images each, and the lesions' ids."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    t = rng.random(n) < p
    return np.repeat(p, copies), np.repeat(t, copies), [f"L{i}" for i in range(n) for _ in range(copies)]


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_contains_the_value(seed: int) -> None:
    p, t, lesions = study(150, 2, seed)
    plain = point(measure(p, t, 0.4))
    for name, figure in estimate(p, t, lesions, 0.4).items():
        assert figure.value == plain[name]
        assert figure.low is not None
        assert figure.high is not None
        assert 0 <= figure.low <= figure.value <= figure.high <= 1, name
        assert figure.low < figure.high, name


def test_a_small_calibration_error_lies_in_its_interval_although_resampling_inflates_it() -> None:
    p, t, _ = study(400, seed=6)
    figure = estimate(p, t, [str(i // 2) for i in range(400)], 0.5)["calibration_error"]
    assert figure.value == one(calibration_error(p, t)) < 0.05
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low <= figure.value < figure.high


def test_intervals_are_the_same_for_the_same_seed_and_whatever_the_lesions_are_called() -> None:
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


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Calibrated uniform probabilities: an image at p is malignant with probability p; AUROC is 5/6.
    hits = 0
    for seed in range(60):
        figure = estimate(*study(120, seed=seed), 0.5)["auroc"]
        assert figure.low is not None
        assert figure.high is not None
        hits += figure.low <= 5 / 6 <= figure.high
    assert 51 <= hits <= 60


def test_a_loss_is_the_difference_of_two_figures_and_none_has_an_interval_of_zero() -> None:
    p, t, lesions = study(150)
    worse = np.round(p, 1)
    loss = estimate_auroc_loss(p, worse, t, lesions)
    assert loss.value == one(auroc(p, t)) - one(auroc(worse, t))
    assert estimate_auroc_loss(worse, p, t, lesions).value == -loss.value
    assert to_dict(estimate_auroc_loss(p, p, t, lesions)) == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_loss_is_measured_on_the_same_resamples() -> None:
    p, t, lesions = study(150)
    loss, alone = estimate_auroc_loss(p, np.round(p, 1), t, lesions), estimate(p, t, lesions, 0.5)["auroc"]
    assert loss.high - loss.low < (alone.high - alone.low) / 3
    backwards = estimate_auroc_loss(p, -p, t, lesions)
    assert backwards.low > 0


def test_without_a_class_there_is_no_loss() -> None:
    assert set(to_dict(estimate_auroc_loss([0.1, 0.2], [0.2, 0.1], [1, 1], ["a", "b"])).values()) == {None}
