"""Intervals: lesions are drawn with replacement, and every figure is measured again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import exp, hypot, log, pi, sqrt, tan

import numpy as np

from lesion.metrics.samples import Bools, Floats
from lesion.records import Estimate

RESAMPLES = 2000
CHUNK = 1 << 17  # weights that are worked on at once: a matrix of 1 MB stays in the cache
ROWS = 16  # but at least so many resamples, as the scores are sorted once per chunk
TAIL = 0.025  # outside a 95 % interval, on either side
NORMAL = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
NOTHING = 1e-12  # differences of figures that rounding can make
# Resampling adds noise, and noise adds calibration error: its resamples lie above the true error.
WITHOUT_INTERVAL = ("calibration_error",)

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
    figures: Figures,
    groups: Sequence[str],
    seed: int = 0,
    trials: Mapping[str, int] | None = None,
    pairs: Mapping[str, int] | None = None,
) -> dict[str, Estimate]:
    """Estimate `figures`, (b,) each, from resamples of lesions.

    Args:
        figures: Weights (b, n) → name → (b,).
        groups: (n,) lesion ids.
        seed: Of the resamples.
        trials: Names of shares → the number of lesions each is a share of; their intervals are those of `to_share`.
        pairs: Names of AUROCs → the number of lesions of the smaller class; their intervals are those of `to_area`.

    Returns:
        Name → value and interval. Figures in neither mapping get the percentile interval of `to_estimate`, those of
        `WITHOUT_INTERVAL` none.
    """
    values = figures(np.ones((1, len(groups))))
    resampled = bootstrap(figures, groups, seed)
    return {
        name: _choose(name, float(value[0]), resampled[name], trials or {}, pairs or {})
        for name, value in values.items()
    }


def _choose(
    name: str, value: float, resampled: Floats, trials: Mapping[str, int], pairs: Mapping[str, int]
) -> Estimate:
    if name in WITHOUT_INTERVAL:
        return Estimate(to_finite(value), None, None)
    if name in pairs:
        return to_area(value, resampled, pairs[name])
    return to_estimate(value, resampled, trials.get(name))


def to_estimate(value: float, resampled: Floats, trials: int | None = None) -> Estimate:
    """Return `value` with the 95 % percentile interval of (b,) resamples; with `trials`, `to_share`.

    There is no interval when the figure is undefined in more than half of the resamples, nor when all of them agree:
    their spread then does not show how far the value may be off.
    """
    if trials is not None:
        return to_share(value, resampled, trials)
    usable = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(usable) < max(1, len(resampled) / 2) or np.ptp(usable) <= NOTHING:
        return Estimate(to_finite(value), None, None)
    low, high = np.quantile(usable, (TAIL, 1 - TAIL))
    return Estimate(value, min(float(low), value), max(float(high), value))


def to_share(value: float, resampled: Floats, lesions: int) -> Estimate:
    """Return a share with the interval of Wilson (1927, doi:10.1080/01621459.1927.10502953) on an effective size.

    A share of 0 or 1 has the exact interval of Clopper & Pearson (1934, doi:10.1093/biomet/26.4.404), which is a
    little wider. No interval without lesions, nor where the resamples agree on another share, as of a single lesion.
    """
    size = find_size(value, resampled, lesions)
    if size is None:
        return Estimate(to_finite(value), None, None)
    return _bound(value, lesions) if value in (0.0, 1.0) else Estimate(value, *find_wilson(value, size))


def find_size(value: float, resampled: Floats, lesions: int) -> float | None:
    """Return how many independent trials a share is worth: its variance would be that of the (b,) resamples.

    At most `lesions`, the number of lesions that the share is of (Korn & Graubard 1998, Survey Methodology 24,
    193-201), and as many for a share of 0 or 1, whose resamples all agree. None without an interval, see `to_share`.
    """
    usable = resampled[np.isfinite(resampled)]
    spread = float(usable.var()) if len(usable) else 0.0
    if not np.isfinite(value) or not lesions:
        return None
    if value in (0.0, 1.0):
        return lesions
    return min(lesions, value * (1 - value) / spread) if spread > NOTHING**2 else None


def find_wilson(share: float, size: float, normal: float = NORMAL) -> tuple[float, float]:
    """Return both ends of Wilson's interval of a share in [0, 1] of `size` > 0 trials, not always a whole number.

    `normal` is the quantile of the normal distribution; the default gives 95 %.
    """
    z = normal**2 / size
    middle = (share + z / 2) / (1 + z)
    reach = sqrt(z * (share * (1 - share) + z / 4)) / (1 + z)
    return max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))


def to_area(value: float, resampled: Floats, lesions: int) -> Estimate:
    """Return an AUROC with a 95 % interval that is symmetric in log-odds.

    The standard error is that of the (b,) resamples, divided by AUROC · (1 - AUROC) (delta method; Pepe 2003, The
    Statistical Evaluation of Medical Tests, section 5.2); the quantile is that of Student's t with one degree of
    freedom less than `lesions`, the lesions of the smaller class. Percentiles of the resamples would lie too high for
    few lesions. An AUROC of 0 or 1 gets a bound that holds for any distribution: as many pairs as `lesions` share no
    lesion, and all of them are in order with a probability of at most AUROC to the power of `lesions`.
    """
    usable = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not lesions or len(usable) < max(1, len(resampled) / 2):
        return Estimate(to_finite(value), None, None)
    if value in (0.0, 1.0):
        return _bound(value, lesions)
    error = float(usable.std()) / (value * (1 - value))
    if error <= NOTHING:
        return Estimate(value, None, None)
    middle, reach = log(value / (1 - value)), find_student(lesions - 1) * error
    low, high = (float(1 / (1 + np.exp(-each))) for each in (middle - reach, middle + reach))
    return Estimate(value, min(low, value), max(high, value))


def _bound(value: float, trials: int) -> Estimate:
    """0 or 1, bounded by what `trials` trials of one kind have a chance of 2.5 % at."""
    reach = TAIL ** (1 / trials)
    return Estimate(value, reach, 1.0) if value else Estimate(value, 0.0, 1 - reach)


def to_normal(value: float, resampled: Floats, ratio: bool = False) -> Estimate:
    """Return `value` with a normal 95 % interval whose standard error is that of the (b,) resamples.

    For a `ratio`, which is positive and skewed, the interval is symmetric in its logarithm, unless a resample is not
    positive. No interval when most resamples have no value or all agree.
    """
    usable = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(usable) < max(1, len(resampled) / 2) or np.ptp(usable) <= NOTHING:
        return Estimate(to_finite(value), None, None)
    if ratio and value > 0 and usable.min() > 0:
        factor = exp(NORMAL * float(np.log(usable).std()))
        return Estimate(value, value / factor, value * factor)
    reach = NORMAL * float(usable.std())
    return Estimate(value, value - reach, value + reach)


def find_student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, within 0.2 % (Abramowitz & Stegun, 26.7.5; exact up to 2)."""
    if freedom <= 2:
        return tan(pi * (0.5 - TAIL)) if freedom <= 1 else (1 - 2 * TAIL) * sqrt(2 / (1 - (1 - 2 * TAIL) ** 2))
    z, v = NORMAL, float(freedom)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / v**power for power, term in enumerate(terms))


def average(first: Estimate, second: Estimate) -> Estimate:
    """Return the mean of two figures of different lesions, its interval made of theirs (Zou & Donner 2008, MOVER).

    The distances to their ends add up like standard errors (doi:10.1002/sim.3095). No interval unless both have one.
    """
    if first.value is None or second.value is None:
        return Estimate(None, None, None)
    value = (first.value + second.value) / 2
    if first.low is None or second.low is None or first.high is None or second.high is None:
        return Estimate(value, None, None)
    down = hypot(first.value - first.low, second.value - second.low) / 2
    up = hypot(first.high - first.value, second.high - second.value) / 2
    return Estimate(value, value - down, value + up)


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
    """Count the lesions that each share of `measure` is of."""
    positives, negatives = count_lesions(groups, truth), count_lesions(groups, ~truth)
    return {
        "sensitivity_at_95_specificity": positives,
        "specificity_at_95_sensitivity": negatives,
        "sensitivity": positives,
        "specificity": negatives,
        "precision": count_lesions(groups, predicted),
        "negative_predictive_value": count_lesions(groups, ~predicted),
        "accuracy": len(set(groups)),
    }


def count_pairs(truth: Bools, groups: Sequence[str]) -> int:
    """Count the lesions of the smaller class: so many pairs of a positive and a negative share no lesion."""
    return min(count_lesions(groups, truth), count_lesions(groups, ~truth))
