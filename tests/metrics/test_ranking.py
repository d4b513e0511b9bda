"""Figures of a ranking against scikit-learn and by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from lesion.errors import DataError
from lesion.metrics import (
    Floats,
    auroc,
    average_precision,
    partial_auroc,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from lesion.metrics.ranking import Ranking
from tests.metrics.cases import Sample, both, derandomized, one

Figure = Callable[..., Floats]
FIGURES: dict[str, Figure] = {
    "auroc": auroc,
    "average precision": average_precision,
    "partial auroc": lambda p, t, w=None: partial_auroc(p, t, 0.8, w),
    "sensitivity at a specificity": lambda p, t, w=None: sensitivity_at_specificity(p, t, 0.95, w),
    "specificity at a sensitivity": lambda p, t, w=None: specificity_at_sensitivity(p, t, 0.95, w),
}
each_figure = pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)


def challenge_score(p: np.ndarray, t: np.ndarray, lowest: float) -> float:
    """The partial AUROC as the ISIC 2024 challenge defines it: negatives as positives, from scikit-learn's figure."""
    width = 1 - lowest
    scaled = sk.roc_auc_score(~t, -p, max_fpr=width)  # McClish 1989
    chance = width**2 / 2
    return float(chance + (width - chance) * (2 * scaled - 1))


@given(both)
@derandomized
def test_areas_agree_with_scikit_learn(sample: Sample) -> None:
    p, t = sample
    assert one(auroc(p, t)) == pytest.approx(sk.roc_auc_score(t, p))
    assert one(average_precision(p, t)) == pytest.approx(sk.average_precision_score(t, p))
    for lowest in (0.5, 0.8):
        assert one(partial_auroc(p, t, lowest)) == pytest.approx(challenge_score(p, t, lowest))


@given(both)
@derandomized
def test_the_points_of_the_roc_curve_are_those_of_scikit_learn(sample: Sample) -> None:
    p, t = sample
    fpr, tpr, thresholds = sk.roc_curve(t, p, drop_intermediate=False)
    ranking = Ranking.of(p, t)
    assert ranking.alarms[0] / ranking.negatives[0] == pytest.approx(fpr)
    assert ranking.found[0] / ranking.positives[0] == pytest.approx(tpr)
    assert ranking.scores == pytest.approx(thresholds[1:])


@given(both, st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]))
@derandomized
def test_points_of_the_curve_agree_with_scikit_learn(sample: Sample, goal: float) -> None:
    p, t = sample
    fpr, tpr, _ = sk.roc_curve(t, p, drop_intermediate=False)
    assert one(sensitivity_at_specificity(p, t, goal)) == pytest.approx(tpr[1 - fpr >= goal - 1e-12].max())
    assert one(specificity_at_sensitivity(p, t, goal)) == pytest.approx((1 - fpr)[tpr >= goal - 1e-12].max())


@given(both, st.data())
@derandomized
def test_fractional_weights_agree_with_scikit_learn(sample: Sample, data: st.DataObject) -> None:
    p, t = sample
    w = np.array(data.draw(st.lists(st.floats(0.1, 5), min_size=len(p), max_size=len(p))))
    assert one(auroc(p, t, w)) == pytest.approx(sk.roc_auc_score(t, p, sample_weight=w))
    assert one(average_precision(p, t, w)) == pytest.approx(sk.average_precision_score(t, p, sample_weight=w))


@given(both)
@derandomized
def test_figures_depend_on_the_order_of_the_scores_only(sample: Sample) -> None:
    p, t = sample
    for figure in FIGURES.values():
        assert one(figure(np.exp(5 * p) - 3, t)) == one(figure(p, t))
    assert one(auroc(-p, t)) == pytest.approx(1 - one(auroc(p, t)))


@given(both)
@derandomized
def test_the_curves_enclose_the_areas(sample: Sample) -> None:
    p, t = sample
    fine = np.linspace(0, 1, 20001)
    ranking = Ranking.of(p, t)
    assert ranking.sensitivity_on(fine).mean() == pytest.approx(one(ranking.auroc), abs=2e-4)
    assert ranking.precision_on(fine).mean() == pytest.approx(one(ranking.average_precision), abs=2e-3)


def test_a_tie_counts_half() -> None:
    assert one(auroc([0.5, 0.5], [True, False])) == 0.5
    assert one(auroc([0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1])) == 0.875


def test_perfect_reversed_and_empty_rankings() -> None:
    scores, truth = [0.1, 0.2, 0.8], [0, 0, 1]
    assert [one(figure(scores, truth)) for figure in FIGURES.values()] == pytest.approx([1, 1, 0.2, 1, 1])
    assert [one(figure(np.negative(scores), truth)) for figure in FIGURES.values()] == pytest.approx(
        [0, 1 / 3, 0, 0, 0]
    )
    assert [one(figure([0.5] * 3, truth)) for figure in FIGURES.values()] == pytest.approx([0.5, 1 / 3, 0.02, 0, 0])


def test_points_and_partial_area_by_hand() -> None:
    # Positives at 9 7 5 3 1, negatives at 8 6 4 2. From 0.8 on, the curve runs through (3/4, 0.8) and (1, 1).
    scores, truth = np.arange(9, 0, -1), np.arange(9) % 2 == 0
    assert one(sensitivity_at_specificity(scores, truth, 0.75)) == 0.4
    assert one(sensitivity_at_specificity(scores, truth, 0.76)) == 0.2
    assert one(specificity_at_sensitivity(scores, truth, 0.8)) == 0.25
    assert one(specificity_at_sensitivity(scores, truth, 0.81)) == 0
    assert one(partial_auroc(scores, truth)) == pytest.approx(0)
    assert one(partial_auroc(scores, truth, 0.6)) == pytest.approx(0.2 / 4)
    assert one(partial_auroc(scores, truth, 0.7)) == pytest.approx(0.1 / 4)
    assert one(partial_auroc(scores, truth, 0.0)) == one(auroc(scores, truth))


def test_a_share_that_is_whole_is_not_missed_by_rounding() -> None:
    # 19 of 20 are exactly 0.95, though 1 - 0.95 is a little more than 0.05.
    scores = np.concatenate([np.arange(20), np.arange(20) + 0.5])
    truth = np.repeat([True, False], 20)
    assert one(specificity_at_sensitivity(scores, truth, 0.95)) == pytest.approx(1 / 20)
    assert one(sensitivity_at_specificity(scores, truth, 0.95)) == pytest.approx(1 / 20)


def test_curves_by_hand() -> None:
    ranking = Ranking.of([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0])
    assert ranking.sensitivity_on(np.array([0, 0.25, 0.5, 1])).tolist() == [[0.5, 0.75, 1, 1]]
    assert ranking.precision_on(np.array([0, 0.5, 0.51, 1])) == pytest.approx(np.array([[1, 1, 2 / 3, 2 / 3]]))


@each_figure
@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0]], ids=["no negatives", "no positives"])
def test_without_one_of_the_classes_there_is_no_figure(figure: Figure, truth: list[int]) -> None:
    assert np.isnan(one(figure([0.1, 0.5, 0.9], truth)))
    assert np.isnan(one(figure([0.1], truth[:1])))


@each_figure
def test_without_images_there_is_no_figure(figure: Figure) -> None:
    assert np.isnan(one(figure([], [])))


@each_figure
def test_a_resample_that_lost_a_class_has_no_figure_and_the_others_keep_theirs(figure: Figure) -> None:
    values = figure([0.1, 0.5, 0.9], [0, 1, 1], [[1, 1, 1], [0, 2, 1], [3, 0, 0], [0, 0, 0]])
    assert values[0] == pytest.approx(one(figure([0.1, 0.5, 0.9], [0, 1, 1])))
    assert np.isnan(values[1:]).all()


@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0]])
def test_without_one_of_the_classes_there_is_no_curve(truth: list[int]) -> None:
    ranking, grid = Ranking.of([0.1, 0.5, 0.9], truth, [[1, 1, 1], [0, 0, 0]]), np.linspace(0, 1, 5)
    assert np.isnan(ranking.sensitivity_on(grid)).all()
    assert np.isnan(ranking.precision_on(grid)).all()


@each_figure
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_an_error(figure: Figure, bad: float) -> None:
    with pytest.raises(DataError, match=r"for 1 of 3 images are unusable, the first -?(nan|inf) for image 2"):
        figure([0.1, bad, 0.9], [0, 1, 1])


def test_scores_without_their_truth_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"\(2,\)"):
        auroc([0.1, 0.2], [True])
