"""Intervals: lesions are drawn with replacement, and every figure is measured again."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from lesion.metrics.samples import Bools, Floats
from lesion.records import Estimate

RESAMPLES = 2000
CHUNK = 1 << 17  # weights that are worked on at once: a matrix of 1 MB stays in the cache
ROWS = 16  # but at least so many resamples, as the scores are sorted once per chunk
TAIL = 0.025  # outside a 95 % interval, on either side

Figures = Callable[[Floats], Mapping[str, Floats]]
"""Weights (b, n) → name → (b,) or (b, k)."""


def resample(groups: Sequence[str], seed: int = 0) -> Iterator[Floats]:
    """How often each image appears when groups are drawn with replacement: RESAMPLES rows (b, n), in chunks.

    The rows depend on `groups` and `seed` only, so that figures of the same images are paired.
    """
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(index.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    size = max(ROWS, CHUNK // max(1, len(index)))
    for start in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - start)
        drawn = rng.integers(max(1, count), size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, index].astype(float)


def bootstrap(figures: Figures, groups: Sequence[str], seed: int = 0) -> dict[str, Floats]:
    """Every figure of every resample: name → (RESAMPLES,) or (RESAMPLES, k)."""
    parts = [figures(weights) for weights in resample(groups, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def estimate_figures(
    figures: Figures, groups: Sequence[str], seed: int = 0, trials: Mapping[str, int] | None = None
) -> dict[str, Estimate]:
    """`figures`, (b,) each, with their intervals; `trials` as in `to_estimate`, by name."""
    values = figures(np.ones((1, len(groups))))
    resampled = bootstrap(figures, groups, seed)
    return {
        name: to_estimate(float(value[0]), resampled[name], (trials or {}).get(name)) for name, value in values.items()
    }


def to_estimate(value: float, resampled: Floats, trials: int | None = None) -> Estimate:
    """`value` with the 95 % percentile interval of (b,) resamples.

    No interval when it is undefined in more than half of the resamples, nor when all of them agree: then the data
    are too few to show how far it may be off. A share of 0 or 1 out of so many independent `trials` gets the interval
    of Clopper & Pearson (1934, doi:10.1093/biomet/26.4.404) instead.
    """
    usable = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(usable) < max(1, len(resampled) / 2):
        return Estimate(to_finite(value), None, None)
    if np.ptp(usable) <= 1e-12:
        return _to_bound(value, trials)
    low, high = np.quantile(usable, (TAIL, 1 - TAIL))
    # Resampling inflates the calibration error, so that a small value can lie below all its resamples.
    return Estimate(value, min(float(low), value), max(float(high), value))


def to_finite(value: float) -> float | None:
    """None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def to_band(resampled: Floats) -> tuple[Floats, Floats]:
    """Lower and upper end of the interval of each column of (b, k); NaN if most of a column is."""
    usable = np.isfinite(resampled).mean(0) >= 0.5
    band = np.full((2, resampled.shape[1]), np.nan)
    band[:, usable] = np.nanquantile(resampled[:, usable], (TAIL, 1 - TAIL), axis=0)
    return band[0], band[1]


def count_lesions(groups: Sequence[str], chosen: Bools) -> int:
    """How many different groups the (n,) chosen images belong to."""
    return len(np.unique(np.asarray(groups)[chosen]))


def count_trials(predicted: Bools, truth: Bools, groups: Sequence[str]) -> dict[str, int]:
    """How many independent lesions each share of `measure` is of."""
    positives, negatives = count_lesions(groups, truth), count_lesions(groups, ~truth)
    return {
        "auroc": min(positives, negatives),  # so many pairs of one and the other share no lesion
        "sensitivity": positives,
        "specificity": negatives,
        "precision": count_lesions(groups, predicted),
        "negative_predictive_value": count_lesions(groups, ~predicted),
        "accuracy": len(set(groups)),
    }


def _to_bound(value: float, trials: int | None) -> Estimate:
    if not trials or value not in (0, 1):
        return Estimate(value, None, None)
    reach = TAIL ** (1 / trials)
    return Estimate(value, 0.0, 1 - reach) if value == 0 else Estimate(value, reach, 1.0)
