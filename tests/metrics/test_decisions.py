"""Decisions against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from lesion.errors import DataError
from lesion.metrics import confusion, confusion_at, net_benefit, rates
from tests.metrics.cases import Sample, both, derandomized, one, samples


@given(both, st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0, 1.1]))
@derandomized
def test_rates_agree_with_scikit_learn(sample: Sample, threshold: float) -> None:
    p, t = sample
    predicted = p >= threshold
    cells = confusion(predicted, t)
    assert [one(cells[name]) for name in ("tn", "fp", "fn", "tp")] == sk.confusion_matrix(t, predicted).ravel().tolist()
    ours = {name: one(value) for name, value in rates(cells).items()}
    wanted = {
        "sensitivity": sk.recall_score(t, predicted),
        "specificity": sk.recall_score(~t, ~predicted),
        "precision": sk.precision_score(t, predicted, zero_division=np.nan),
        "negative_predictive_value": sk.precision_score(~t, ~predicted, zero_division=np.nan),
        "f1": sk.f1_score(t, predicted),
        "accuracy": sk.accuracy_score(t, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(t, predicted),
    }
    assert ours == pytest.approx(wanted, nan_ok=True)


@given(samples, st.lists(st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=4), st.data())
@derandomized
def test_many_thresholds_at_once_count_as_one_by_one(
    sample: Sample, thresholds: list[float], data: st.DataObject
) -> None:
    p, t = sample
    rows = st.lists(st.integers(0, 3), min_size=len(p), max_size=len(p))
    w = np.array(data.draw(st.lists(rows, min_size=1, max_size=3)))
    together = confusion_at(p, t, thresholds, w)
    for k, threshold in enumerate(thresholds):
        for name, count in confusion(p >= threshold, t, w).items():
            assert together[name][:, k] == pytest.approx(count)


@pytest.mark.parametrize(
    ("truth", "undefined"),
    [
        ([1, 1, 1], {"specificity", "balanced_accuracy"}),
        ([0, 0, 0], {"sensitivity", "balanced_accuracy", "f1"}),
        (
            [],
            {
                "accuracy",
                "balanced_accuracy",
                "f1",
                "negative_predictive_value",
                "precision",
                "sensitivity",
                "specificity",
            },
        ),
    ],
    ids=["all malignant", "all benign", "no images"],
)
def test_a_rate_of_nothing_is_no_rate(truth: list[int], undefined: set[str]) -> None:
    found = rates(confusion([1, 0, 0][: len(truth)], truth))
    assert {name for name, value in found.items() if np.isnan(one(value))} == undefined


def test_net_benefit_by_hand() -> None:
    # At 0.2 a false alarm costs a quarter of a find. Of ten images 3 are found, 2 are false alarms, 1 is missed.
    p = [0.9, 0.8, 0.3, 0.2, 0.25, 0.1, 0.1, 0.0, 0.0, 0.0]
    t = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    model, everyone = net_benefit(p, t, [0.2])
    assert model[0, 0] == pytest.approx((3 - 2 / 4) / 10)
    assert everyone[0, 0] == pytest.approx((4 - 6 / 4) / 10)


@given(both)
@derandomized
def test_net_benefit_meets_its_limits(sample: Sample) -> None:
    p, t = sample
    grid = np.arange(100) / 100
    model, everyone = net_benefit(p, t, grid)
    assert model.shape == everyone.shape == (1, 100)
    assert model[0, 0] == everyone[0, 0] == pytest.approx(t.mean())  # from 0 on, everyone is flagged
    assert model.max() <= t.mean() + 1e-12
    # Treating everyone or nobody is the same where the threshold is the prevalence (Vickers & Elkin 2006).
    assert net_benefit(p, t, [t.mean()])[1][0, 0] == pytest.approx(0)
    assert net_benefit(t, t, grid[1:])[0] == pytest.approx(t.mean())


def test_a_probability_that_is_none_is_an_error() -> None:
    for bad in (np.nan, 1.1, -0.1):
        with pytest.raises(DataError, match=r"expected numbers in \[0, 1\]"):
            net_benefit([0.2, bad], [0, 1], [0.5])
