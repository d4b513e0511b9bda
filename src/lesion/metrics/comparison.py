"""Whether one model is better than another on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import Figures, bootstrap, to_estimate, to_finite
from lesion.metrics.ranking import auroc
from lesion.metrics.samples import Bools, Floats, to_scores
from lesion.records import Estimate

NORMAL = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two models on the same images."""

    first: float | None
    second: float | None
    difference: Estimate
    """`first` minus `second`."""
    p: float | None
    """Two-sided: how often so large a difference would come by chance, were there none; None if undefined."""


def compare(first: Figures, second: Figures, groups: Sequence[str], seed: int = 0) -> dict[str, Difference]:
    """Every figure of two models, measured on the same resamples of lesions.

    `first` and `second` give figures from weights, as `functools.partial(measure, p, t, threshold)` does. The p-value
    is that of the percentile interval turned round: twice the smaller share of resamples on either side of zero,
    counting one more, so that it is never 0 (Davison & Hinkley 1997, Bootstrap Methods, section 4.2).
    """
    ones = np.ones((1, len(groups)))
    a, b = first(ones), second(ones)
    resampled = bootstrap(lambda w: _subtract(first, second, w), groups, seed)
    return {name: _to_difference(float(a[name][0]), float(b[name][0]), resampled[name]) for name in a}


def estimate_auroc_loss(
    before: npt.ArrayLike, after: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0
) -> Estimate:
    """AUROC of the scores `before` minus that of `after`, both (n,), with a paired interval as in `estimate`."""
    pair = [lambda w, scores=scores: {"auroc": auroc(scores, truth, w)} for scores in (before, after)]
    return compare(pair[0], pair[1], groups, seed)["auroc"].difference


def delong(first: npt.ArrayLike, second: npt.ArrayLike, truth: npt.ArrayLike) -> Difference:
    """The AUROC of two sets of (n,) scores, with interval and p-value of DeLong et al. (1988, doi:10.2307/2531595).

    Computed from midranks (Sun & Xu 2014, doi:10.1109/LSP.2014.2337313). It takes images for independent: give it one
    score per lesion (`pool`), or use `compare`. No interval with fewer than two positives or negatives, nor when the
    variance is zero for a difference that is not. Raises DataError for NaN.
    """
    pairs = [to_scores(scores, truth) for scores in (first, second)]
    t = pairs[0][1]
    if not t.any() or t.all():
        return Difference(None, None, Estimate(None, None, None), None)
    positive, negative = (np.stack(part) for part in zip(*(_components(s, t) for s, _ in pairs), strict=True))
    a, b = (float(value) for value in positive.mean(1))
    if min(positive.shape[1], negative.shape[1]) < 2:
        return Difference(a, b, Estimate(a - b, None, None), None)
    variance = sum(float(np.var(part[0] - part[1], ddof=1)) / part.shape[1] for part in (positive, negative))
    if variance <= 1e-18:
        return _without_variance(a, b)
    error = sqrt(variance)
    interval = Estimate(a - b, a - b - NORMAL * error, a - b + NORMAL * error)
    return Difference(a, b, interval, erfc(abs(a - b) / error / sqrt(2)))


def _components(scores: Floats, truth: Bools) -> tuple[Floats, Floats]:
    """For each positive the share of negatives below it, for each negative that of positives above; ties half."""
    ranks = _midranks(scores)
    m, n = int(truth.sum()), int((~truth).sum())
    return (ranks[truth] - _midranks(scores[truth])) / n, 1 - (ranks[~truth] - _midranks(scores[~truth])) / m


def _midranks(values: Floats) -> Floats:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def _without_variance(a: float, b: float) -> Difference:
    if abs(a - b) <= 1e-12:
        return Difference(a, b, Estimate(0.0, 0.0, 0.0), 1.0)
    return Difference(a, b, Estimate(a - b, None, None), None)


def _subtract(first: Figures, second: Figures, weights: Floats) -> dict[str, Floats]:
    a, b = first(weights), second(weights)
    return {name: a[name] - b[name] for name in a}


def _to_difference(a: float, b: float, resampled: Floats) -> Difference:
    interval = to_estimate(a - b, resampled)
    usable = resampled[np.isfinite(resampled)]
    if a == b and len(usable) and not usable.any():  # the same answers: no resample can tell them apart
        interval = Estimate(0.0, 0.0, 0.0)
    if interval.low is None:
        return Difference(to_finite(a), to_finite(b), interval, None)
    side = min((usable <= 0).sum(), (usable >= 0).sum())
    return Difference(a, b, interval, min(1.0, float(2 * (1 + side) / (1 + len(usable)))))
