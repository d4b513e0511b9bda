"""Resamples of lesions, and the intervals made of them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from lesion.metrics import bootstrap
from lesion.metrics.bootstrap import (
    RESAMPLES,
    find_student,
    resample,
    to_area,
    to_band,
    to_estimate,
    to_normal,
    to_share,
)
from lesion.records import Estimate
from tests.metrics.cases import derandomized

GROUPS = ["b", "a", "b", "c", "a", "b", "d"]


def test_whole_lesions_are_drawn_as_many_as_there_are() -> None:
    weights = np.concatenate(list(resample(GROUPS)))
    assert weights.shape == (RESAMPLES, 7) == (2000, 7)
    assert (weights[:, [0, 1]] == weights[:, [2, 4]]).all()
    assert (weights[:, [1, 2, 3, 6]].sum(1) == 4).all()
    # Each lesion appears once on average, as a Poisson variable nearly does.
    assert weights.mean(0) == pytest.approx(1, abs=0.08)
    assert (weights[:, 3] == 0).mean() == pytest.approx((3 / 4) ** 4, abs=0.05)


@pytest.mark.parametrize(("chunk", "rows"), [(1, 1), (50, 3), (10**6, 7)])
def test_the_size_of_the_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int, rows: int) -> None:
    whole = np.concatenate(list(resample(GROUPS)))
    monkeypatch.setattr(bootstrap, "CHUNK", chunk)
    monkeypatch.setattr(bootstrap, "ROWS", rows)
    assert (np.concatenate(list(resample(GROUPS))) == whole).all()


def test_resamples_follow_the_seed() -> None:
    first, same, other = (np.concatenate(list(resample(GROUPS, seed))) for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


def test_fifty_thousand_images_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 40)
    parts = list(resample(np.arange(50_000) // 2))
    assert sum(len(part) for part in parts) == 40
    assert max(part.nbytes for part in parts) <= 8e6


def test_no_images_are_no_mistake() -> None:
    assert sum(len(part) for part in resample([])) == RESAMPLES


def test_an_interval_leaves_out_the_tails() -> None:
    figure = to_estimate(0.5, np.linspace(0, 1, 1001))
    assert figure == Estimate(0.5, pytest.approx(0.025), pytest.approx(0.975))


def test_resamples_without_the_figure_are_left_out_up_to_a_half() -> None:
    values = np.linspace(0, 1, 100)
    values[::2] = np.nan
    assert to_estimate(0.5, values).low == pytest.approx(0.035, abs=0.01)
    values[1] = np.inf
    assert to_estimate(0.5, values) == Estimate(0.5, None, None)
    assert to_estimate(np.nan, values) == Estimate(None, None, None)
    assert to_estimate(0.5, np.full(100, np.nan)) == Estimate(0.5, None, None)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_resamples_that_all_agree_say_nothing_about_the_error(value: float) -> None:
    assert to_estimate(value, np.full(2000, value)) == Estimate(value, None, None)


@given(st.integers(1, 5000), st.booleans())
@derandomized
def test_a_share_of_none_or_all_has_the_exact_interval(trials: int, every: bool) -> None:
    found = trials if every else 0
    exact = stats.binomtest(found, trials).proportion_ci(0.95, "exact")
    figure = to_estimate(float(every), np.full(2000, float(every)), trials)
    assert (figure.low, figure.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


@given(st.integers(2, 400), st.data())
@derandomized
def test_a_share_between_has_wilsons_interval(lesions: int, data: st.DataObject) -> None:
    found = data.draw(st.integers(1, lesions - 1))
    share, spread = found / lesions, np.sqrt(found * (lesions - found) / lesions**3)
    exact = stats.binomtest(found, lesions).proportion_ci(0.95, "wilson")
    figure = to_share(share, np.array([share - spread, share + spread]), lesions)
    assert (figure.low, figure.high) == pytest.approx((exact.low, exact.high), abs=1e-6)
    wide = to_share(share, np.array([share - 2 * spread, share + 2 * spread]), lesions)
    narrow = to_share(share, np.array([share - spread / 2, share + spread / 2]), lesions)
    assert wide.low < figure.low == pytest.approx(narrow.low)  # never more than the lesions


@pytest.mark.parametrize("lesions", [2, 3, 10, 20, 65, 300])
def test_more_found_lesions_never_lower_an_interval(lesions: int) -> None:
    weights = np.random.default_rng(0).multinomial(lesions, np.full(lesions, 1 / lesions), 500) / lesions
    figures = [
        to_share(found / lesions, weights @ (np.arange(lesions) < found), lesions) for found in range(lesions + 1)
    ]
    for less, more in pairwise(figures):
        assert less.low < more.low or less.low == 0
        assert less.high < more.high or more.high == 1


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 9, 20, 100])
def test_students_quantile(freedom: int) -> None:
    assert find_student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.002)


def test_an_area_has_an_interval_in_log_odds() -> None:
    resampled = np.array([0.88, 0.92])
    figure = to_area(0.9, resampled, 30)
    reach = stats.t.ppf(0.975, 29) * 0.02 / (0.9 * 0.1)
    assert (figure.low, figure.high) == pytest.approx(special.expit(special.logit(0.9) + np.array([-reach, reach])))
    assert to_area(1.0, np.ones(9), 10).low == pytest.approx(0.025**0.1)
    assert to_area(0.9, np.full(9, 0.9), 10) == to_area(0.9, resampled, 0) == Estimate(0.9, None, None)


def test_the_error_of_a_slope_counts_in_its_logarithm_where_it_can() -> None:
    ratio = to_normal(2.0, np.array([1.0, 4.0]), ratio=True)
    assert ratio.high / 2 == pytest.approx(2 / ratio.low) == pytest.approx(np.exp(1.959964 * np.log(2)))
    plain = to_normal(0.5, np.array([-0.5, 1.5]), ratio=True)
    assert plain.high - 0.5 == pytest.approx(0.5 - plain.low) == pytest.approx(1.959964)
    assert to_normal(1.0, np.ones(5)) == Estimate(1.0, None, None)


def test_a_band_has_an_interval_for_each_column_that_has_one() -> None:
    values = np.stack([np.linspace(0, 1, 1001), np.full(1001, np.nan), np.full(1001, 0.5)], axis=1)
    values[::3, 2] = np.nan
    low, high = to_band(values)
    assert low == pytest.approx([0.025, np.nan, 0.5], nan_ok=True)
    assert high == pytest.approx([0.975, np.nan, 0.5], nan_ok=True)
