"""Resamples of lesions, and the intervals made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lesion.metrics import bootstrap
from lesion.metrics.bootstrap import RESAMPLES, resample, to_band, to_estimate
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


def test_a_band_has_an_interval_for_each_column_that_has_one() -> None:
    values = np.stack([np.linspace(0, 1, 1001), np.full(1001, np.nan), np.full(1001, 0.5)], axis=1)
    values[::3, 2] = np.nan
    low, high = to_band(values)
    assert low == pytest.approx([0.025, np.nan, 0.5], nan_ok=True)
    assert high == pytest.approx([0.975, np.nan, 0.5], nan_ok=True)
