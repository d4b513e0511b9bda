"""The choice of an operating point, by hand and by what it promises."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lesion.errors import DataError
from lesion.metrics import threshold_for_sensitivity
from tests.metrics.cases import Sample, derandomized, samples

goals = st.integers(1, 100).map(lambda k: k / 100)
margins = st.sampled_from([1e-5, 0.01, 0.1])
fine = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40).map(
    lambda items: (np.array([p for p, _ in items]), np.array([t for _, t in items]))
)


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


@given(samples | fine, goals, margins)
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


def test_no_threshold_is_chosen_from_nan() -> None:
    with pytest.raises(DataError, match="nan for image 2"):
        threshold_for_sensitivity([0.1, np.nan], [0, 1], 0.95)
