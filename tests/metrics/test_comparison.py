"""The difference of two models: DeLong against its definition, the paired bootstrap against DeLong."""

import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lesion.errors import DataError
from lesion.metrics import Difference, auroc, compare, delong, estimate, estimate_auroc_loss, measure
from lesion.records import Estimate, to_dict
from tests.metrics.cases import Sample, both, derandomized, one, study


def direct_delong(a: np.ndarray, b: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Difference and its variance from all pairs, as in the paper."""
    scores = np.stack([a, b])
    x, y = scores[:, truth], scores[:, ~truth]
    kernel = (x[:, :, None] > y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
    areas, m, n = kernel.mean((1, 2)), x.shape[1], y.shape[1]
    v10, v01 = kernel.mean(2) - areas[:, None], kernel.mean(1) - areas[:, None]
    covariance = v10 @ v10.T / (m - 1) / m + v01 @ v01.T / (n - 1) / n
    contrast = np.array([1, -1])
    return float(contrast @ areas), float(contrast @ covariance @ contrast)


@given(both, st.data())
@derandomized
def test_delong_agrees_with_its_definition(sample: Sample, data: st.DataObject) -> None:
    a, t = sample
    b = np.array(data.draw(st.lists(st.integers(0, 8), min_size=len(a), max_size=len(a))))
    found = delong(a, b, t)
    assert found.first == pytest.approx(one(auroc(a, t)))
    assert found.second == pytest.approx(one(auroc(b, t)))
    if min(t.sum(), (~t).sum()) < 2:
        assert found.difference.low is found.p is None
        return
    value, variance = direct_delong(a, b, t)
    assert found.difference.value == pytest.approx(value, abs=1e-12)
    if variance > 1e-15:
        error = np.sqrt(variance)
        assert found.p == pytest.approx(2 * stats.norm.sf(abs(value) / error))
        assert found.difference.high - value == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-6)
    else:
        assert found.p == (1 if abs(value) < 1e-12 else None)


def test_delong_by_hand() -> None:
    # The first model's positives beat 1 and 1/2 of the negatives, its negatives lose to 1/2 and 1 of the positives:
    # variances of 1/8, over two each. The second is perfect. So z = -1/4 / sqrt(1/8).
    found = delong([0.9, 0.4, 0.5, 0.1], [0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0])
    assert (found.first, found.second, found.difference.value) == (0.75, 1, -0.25)
    assert found.difference.low == pytest.approx(-0.25 - 1.96 * np.sqrt(1 / 8), abs=1e-4)
    assert found.p == pytest.approx(2 * stats.norm.cdf(-np.sqrt(1 / 2)))


def test_the_same_scores_do_not_differ_and_certainty_is_not_made_of_nothing() -> None:
    scores, truth = [0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1]
    assert delong(scores, scores, truth) == Difference(1, 1, Estimate(0, 0, 0), 1)
    assert delong(scores, np.negative(scores), truth) == Difference(1, 0, Estimate(1, None, None), None)


@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0], []])
def test_without_a_class_nothing_differs(truth: list[int]) -> None:
    scores = [0.1, 0.5, 0.9][: len(truth)]
    assert delong(scores, scores, truth) == Difference(None, None, Estimate(None, None, None), None)


def test_nan_is_an_error() -> None:
    with pytest.raises(DataError, match="nan for image 2"):
        delong([0.1, 0.2], [0.1, np.nan], [0, 1])


def models(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    p, t, lesions = study(n, seed=seed)
    other = np.clip(p + noise * np.random.default_rng(seed + 100).normal(size=n), 0, 1)
    return p, other, t, lesions


def test_the_paired_bootstrap_agrees_with_delong_on_independent_images() -> None:
    p, other, t, lesions = models(400, 0.2)
    ours = compare(partial(measure, p, t, 0.5), partial(measure, other, t, 0.5), lesions)["auroc"]
    theirs = delong(p, other, t)
    assert ours.first == pytest.approx(theirs.first)
    assert asdict(ours.difference) == pytest.approx(asdict(theirs.difference), abs=0.004)
    assert ours.p < 0.05
    assert theirs.p < 0.05


def test_p_values_of_models_that_do_not_differ_are_spread_evenly() -> None:
    found = []
    for seed in range(40):
        p, _, t, lesions = models(150, 0, seed)
        noise = np.random.default_rng(seed).normal(scale=0.3, size=(2, 150))
        pair = [lambda w, s=p + e, t=t: {"auroc": auroc(s, t, w)} for e in noise]
        found.append((compare(*pair, lesions)["auroc"].p, delong(*(p + noise), t).p))
    for each in np.array(found).T:
        assert (each < 0.05).mean() <= 0.2
        assert 0.35 < each.mean() < 0.65


def test_every_figure_is_compared_with_a_p_value_above_zero() -> None:
    p, other, t, lesions = models(200, 0.8)
    found = compare(partial(measure, p, t, 0.5), partial(measure, other, t, 0.5), lesions)
    assert found.keys() == measure(p, t, 0.5).keys()
    for name, difference in found.items():
        assert difference.difference.value == pytest.approx(difference.first - difference.second), name
        if name == "calibration_error":
            assert difference.difference.low is difference.p is None
            continue
        assert difference.difference.low <= difference.difference.value <= difference.difference.high
        assert 0 < difference.p <= 1
    assert found["auroc"].p == pytest.approx(2 / 2001)
    back = compare(partial(measure, other, t, 0.5), partial(measure, p, t, 0.5), lesions)["brier"]
    assert back.p == found["brier"].p
    assert back.difference.low == pytest.approx(-found["brier"].difference.high)
    json.dumps({name: asdict(difference) for name, difference in found.items()}, allow_nan=False)


def test_a_figure_that_one_model_lacks_is_not_compared() -> None:
    found = compare(
        partial(measure, [0.1, 0.6, 0.9], [1, 1, 1], 0.5),
        partial(measure, [0.1, 0.2, 0.3], [1, 1, 1], 0.5),
        list("abc"),
    )
    assert found["auroc"] == Difference(None, None, Estimate(None, None, None), None)
    assert found["precision"] == Difference(1, None, Estimate(None, None, None), None)
    assert found["brier"].p is not None


def test_one_lesion_shows_a_difference_and_not_its_error() -> None:
    figures = [partial(measure, p, [1, 1], 0.5) for p in ([0.1, 0.6], [0.4, 0.9])]
    found = compare(*figures, ["a", "a"])["brier"]
    assert found.difference.value == pytest.approx(0.485 - 0.185)
    assert found.difference.low is found.p is None


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
    assert estimate_auroc_loss(p, -p, t, lesions).low > 0


def test_without_a_class_there_is_no_loss() -> None:
    assert set(to_dict(estimate_auroc_loss([0.1, 0.2], [0.2, 0.1], [1, 1], ["a", "b"])).values()) == {None}


PERFECT = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 0.95], [0.3, 0.1, 0.2, 0.95, 0.9, 0.8, 0.7], [0, 0, 0, 1, 1, 1, 1]


def test_two_perfect_models_on_few_lesions_are_not_shown_to_be_the_same() -> None:
    p, q, truth = PERFECT
    reach = 1 - 0.025 ** (1 / 3)
    assert to_dict(delong(p, q, truth).difference) == pytest.approx({"value": 0, "low": -reach, "high": reach})
    loss = estimate_auroc_loss(p, q, truth, list("abcdefg"))
    assert to_dict(loss) == pytest.approx({"value": 0, "low": -reach, "high": reach})


def test_scores_of_the_same_order_have_the_same_auroc_for_certain() -> None:
    p, _, truth = PERFECT
    squared = np.square(p)
    assert delong(p, squared, truth) == Difference(1, 1, Estimate(0, 0, 0), 1)
    assert estimate_auroc_loss(p, squared, truth, list("abcdefg")) == Estimate(0, 0, 0)


@pytest.mark.parametrize("found", [10, 9])
def test_equal_shares_of_few_lesions_leave_room_for_a_difference(found: int) -> None:
    truth, lesions = np.ones(10, bool), list("abcdefghij")
    p, q = np.where(np.arange(10) < found, 0.9, 0.1), np.where(np.arange(10) < found, 0.8, 0.2)
    pair = partial(measure, p, truth, 0.5), partial(measure, q, truth, 0.5)
    shares = {"sensitivity": 10}
    different = compare(*pair, lesions, trials=shares)["sensitivity"]
    assert different.p == 1
    assert different.difference.low < -0.2
    assert different.difference.high > 0.2
    same = compare(pair[0], pair[0], lesions, trials=shares, same=True)["sensitivity"]
    assert same.difference == Estimate(0, 0, 0)
    assert compare(*pair, lesions)["sensitivity"].difference == Estimate(0, None, None)


def test_the_difference_of_shares_is_that_of_newcombe() -> None:
    # 30 lesions of which both find 20, the first alone 6, the second alone 2, none 2: phi = (20·2 - 6·2) / sqrt(...).
    a, b = np.repeat([1, 1, 0, 0], [20, 6, 2, 2]), np.repeat([1, 0, 1, 0], [20, 6, 2, 2])
    truth, lesions = np.ones(30, bool), [str(i) for i in range(30)]
    pair = (partial(measure, each * 0.8 + 0.1, truth, 0.5) for each in (a, b))
    ours = compare(*pair, lesions, trials={"sensitivity": 30})["sensitivity"]
    (la, ua), (lb, ub) = ((ci.low, ci.high) for ci in (wilson(26), wilson(22)))
    phi, pa, pb = np.corrcoef(a, b)[0, 1], 26 / 30, 22 / 30
    low = pa - pb - np.sqrt((pa - la) ** 2 + (ub - pb) ** 2 - 2 * phi * (pa - la) * (ub - pb))
    high = pa - pb + np.sqrt((ua - pa) ** 2 + (pb - lb) ** 2 - 2 * phi * (ua - pa) * (pb - lb))
    assert (ours.difference.low, ours.difference.high) == pytest.approx((low, high), abs=0.02)
    assert 0.05 < ours.p < 0.3  # McNemar's exact test: 0.289


def wilson(found: int) -> object:
    return stats.binomtest(found, 30).proportion_ci(0.95, "wilson")
