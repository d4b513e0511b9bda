"""Risk and coverage, by hand and against the definition."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lesion.errors import DataError
from lesion.metrics import estimate_risk_coverage, risk_area
from lesion.metrics.riskcoverage import risk_on
from tests.metrics.cases import Sample, counts, derandomized, one, samples, study


def test_by_hand() -> None:
    certainty, wrong = [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1]
    assert one(risk_area(certainty, wrong)) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    grid = np.array([0, 0.25, 0.26, 0.5, 0.75, 1])
    assert risk_on(grid, certainty, wrong) == pytest.approx(np.array([[0, 0, 1 / 2, 1 / 2, 1 / 3, 1 / 2]]))


def test_equally_certain_images_are_answered_together() -> None:
    assert one(risk_area([1, 1, 1, 1], [0, 1, 0, 1])) == 0.5
    assert risk_on(np.array([0, 0.3, 1]), [1, 1, 0], [0, 1, 0]) == pytest.approx(np.array([[1 / 2, 1 / 2, 1 / 3]]))


@given(samples)
@derandomized
def test_the_area_is_the_mean_risk_of_all_coverages(sample: Sample) -> None:
    certainty, wrong = sample
    certainty = certainty + np.arange(len(wrong)) * 1e-6  # no ties
    ordered = wrong[np.argsort(-certainty)]
    risks = np.cumsum(ordered) / np.arange(1, len(wrong) + 1)
    assert one(risk_area(certainty, wrong)) == pytest.approx(risks.mean())
    assert risk_on(np.arange(1, len(wrong) + 1) / len(wrong), certainty, wrong)[0] == pytest.approx(risks)


@given(samples, st.data())
@derandomized
def test_a_weight_means_as_many_copies(sample: Sample, data: st.DataObject) -> None:
    certainty, wrong = sample
    w = np.array(data.draw(st.lists(counts, min_size=len(wrong), max_size=len(wrong))))
    assume(w.sum())
    again, grid = (np.repeat(certainty, w), np.repeat(wrong, w)), np.linspace(0, 1, 11)
    assert one(risk_area(certainty, wrong, w)) == pytest.approx(one(risk_area(*again)))
    assert risk_on(grid, certainty, wrong, w) == pytest.approx(risk_on(grid, *again))


def test_certainty_that_knows_the_errors_lowers_the_area_and_none_leaves_it_at_the_error_rate() -> None:
    p, t, lesions = study(200)
    wrong = (p >= 0.5) != t
    informed = estimate_risk_coverage(np.abs(p - 0.5), wrong, lesions)
    assert informed.area.high < wrong.mean()
    assert one(risk_area(np.zeros(200), wrong)) == pytest.approx(wrong.mean())
    assert informed.curve.y[-1] == pytest.approx(wrong.mean())
    curve = informed.curve
    assert all(low <= y <= high for low, y, high in zip(curve.low, curve.y, curve.high, strict=True))


def test_no_errors_and_no_images() -> None:
    none_wrong = estimate_risk_coverage([0.5, 0.6], [0, 0], ["a", "b"])
    assert none_wrong.area.value == 0
    assert none_wrong.area.low is None
    nothing = estimate_risk_coverage([], [], [])
    assert nothing.area.value is None
    assert set(nothing.curve.y) == {None}
    json.dumps([asdict(none_wrong), asdict(nothing)], allow_nan=False)


def test_nan_is_an_error() -> None:
    with pytest.raises(DataError, match="nan for image 1"):
        estimate_risk_coverage([np.nan, 0.5], [0, 1], ["a", "b"])
