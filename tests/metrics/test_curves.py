"""Curves with bands."""

import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics as sk

from lesion.errors import DataError
from lesion.metrics import estimate_decision_curve, estimate_precision_recall, estimate_roc, net_benefit
from lesion.records import Curve
from tests.metrics.cases import study

CURVES: dict[str, Callable[..., Curve]] = {
    "roc": estimate_roc,
    "precision-recall": estimate_precision_recall,
    "net benefit": lambda *sample: estimate_decision_curve(*sample).model,
}
each_curve = pytest.mark.parametrize("draw", CURVES.values(), ids=CURVES)


@each_curve
def test_a_curve_lies_in_its_band(draw: Callable[..., Curve]) -> None:
    curve = draw(*study(150, 2))
    x, y, low, high = (np.array(part) for part in (curve.x, curve.y, curve.low, curve.high))
    assert (np.diff(x) > 0).all()
    assert (low <= y).all()
    assert (y <= high).all()
    assert 0.02 < (high - low)[len(x) // 2] < 0.4
    assert curve == draw(*study(150, 2))


def test_the_roc_curve_runs_through_the_points_of_scikit_learn() -> None:
    p, t, lesions = study(60)
    curve = estimate_roc(np.round(p, 1), t, lesions)
    fpr, tpr, _ = sk.roc_curve(t, np.round(p, 1))
    assert curve.y == pytest.approx(np.interp(curve.x, fpr, tpr).tolist())
    assert curve.y[-1] == 1


def test_precision_at_a_recall_is_that_of_a_threshold() -> None:
    p, t, lesions = study(60)
    curve = estimate_precision_recall(p, t, lesions)
    precision, recall, _ = sk.precision_recall_curve(t, p)  # from the lowest threshold up, then (1, 0)
    for x, y in zip(curve.x[1:], curve.y[1:], strict=True):
        assert y == pytest.approx(precision[np.flatnonzero(recall >= x - 1e-9)[-1]])
    assert curve.y[-1] >= t.mean()


def test_the_decision_curve_is_the_net_benefit() -> None:
    p, t, lesions = study(60)
    curve = estimate_decision_curve(p, t, lesions)
    model, everyone = net_benefit(p, t, curve.model.x)
    assert curve.model.y == pytest.approx(model[0].tolist())
    assert curve.everyone == pytest.approx(everyone[0].tolist())


@each_curve
@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0], [0, 1, 1], []], ids=["malignant", "benign", "both", "empty"])
def test_poor_data_give_gaps_instead_of_numbers(draw: Callable[..., Curve], truth: list[int]) -> None:
    curve = draw([0.1, 0.5, 0.9][: len(truth)], truth, ["a", "b", "c"][: len(truth)])
    json.dumps(asdict(curve), allow_nan=False)
    if draw is not CURVES["net benefit"] and len(set(truth)) < 2:
        assert set(curve.y) == set(curve.low) == set(curve.high) == {None}


@each_curve
def test_a_curve_of_nan_is_an_error(draw: Callable[..., Curve]) -> None:
    with pytest.raises(DataError, match="nan for image 1"):
        draw([np.nan, 0.5], [0, 1], ["a", "b"])
