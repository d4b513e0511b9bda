"""Whether one model is better than another on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import (
    NORMAL,
    NOTHING,
    TAIL,
    WITHOUT_INTERVAL,
    Figures,
    bootstrap,
    count_pairs,
    find_size,
    find_wilson,
    to_estimate,
    to_finite,
)
from lesion.metrics.ranking import auroc
from lesion.metrics.samples import Bools, Floats, to_scores
from lesion.records import Estimate


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two models on the same images."""

    first: float | None
    second: float | None
    difference: Estimate
    """`first` minus `second`."""
    p: float | None
    """Two-sided: how often so large a difference would come by chance, were there none; None if undefined."""


def compare(
    first: Figures,
    second: Figures,
    groups: Sequence[str],
    seed: int = 0,
    trials: Mapping[str, int] | None = None,
    pairs: Mapping[str, int] | None = None,
    same: bool = False,
) -> dict[str, Difference]:
    """Every figure of two models, measured on the same resamples of lesions.

    Differences of shares have the interval of `_compare_shares`, others percentiles of the resamples; the p-value is
    that of the interval turned round: for percentiles twice the smaller share of resamples on either side of zero,
    counting one more, so that it is never 0 (Davison & Hinkley 1997, Bootstrap Methods, section 4.2). A difference of
    `WITHOUT_INTERVAL` has neither, as it is biased. Where no resample tells two AUROCs apart, that many `pairs` in the
    same order exclude a difference beyond 1 - 0.025^(1/pairs) on either side.

    Args:
        first: Weights (b, n) → name → (b,), as `functools.partial(measure, p, t, threshold)`.
        second: The same for the other model.
        groups: (n,) lesion ids.
        seed: Of the resamples.
        trials: Names of shares → the number of lesions they are of, as `count_trials` says.
        pairs: Names of AUROCs → lesions of the smaller class, as `count_pairs` says.
        same: Whether both models give the same answers, known from the answers themselves: then every difference is
            exactly 0. Equal figures alone do not show that.
    """
    ones = np.ones((1, len(groups)))
    a, b = first(ones), second(ones)
    resampled = bootstrap(lambda w: _side_by_side(first(w), second(w)), groups, seed)
    found = {}
    for name in a:
        one, two, both = float(a[name][0]), float(b[name][0]), resampled[name]
        if same and np.isfinite(one):
            found[name] = Difference(one, two, Estimate(0.0, 0.0, 0.0), 1.0)
        elif name in WITHOUT_INTERVAL:
            found[name] = _without_interval(one, two)
        elif trials and name in trials:
            found[name] = _compare_shares(one, two, both, trials[name])
        else:
            found[name] = _to_difference(one, two, both[:, 0] - both[:, 1], (pairs or {}).get(name))
    return found


def estimate_auroc_loss(
    before: npt.ArrayLike, after: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0
) -> Estimate:
    """AUROC of the scores `before` minus that of `after`, both (n,), with a paired interval as in `compare`.

    Scores that rank all images alike have a loss of exactly 0.
    """
    pair = [lambda w, scores=scores: {"auroc": auroc(scores, truth, w)} for scores in (before, after)]
    pairs, alike = {"auroc": count_pairs(np.asarray(truth, bool), groups)}, _rank_alike(before, after)
    return compare(pair[0], pair[1], groups, seed, pairs=pairs, same=alike)["auroc"].difference


def delong(first: npt.ArrayLike, second: npt.ArrayLike, truth: npt.ArrayLike) -> Difference:
    """The AUROC of two sets of (n,) scores, with interval and p-value of DeLong et al. (1988, doi:10.2307/2531595).

    Computed from midranks (Sun & Xu 2014, doi:10.1109/LSP.2014.2337313). It takes images for independent: give it one
    score per lesion (`pool`), or use `compare`. No interval with fewer than two positives or negatives, nor when the
    variance is zero for a difference that is not. A difference of zero without variance has the bound of `compare`,
    or an interval of zero for scores that rank all images alike. Raises DataError for NaN.
    """
    pairs = [to_scores(scores, truth) for scores in (first, second)]
    t = pairs[0][1]
    if not t.any() or t.all():
        return Difference(None, None, Estimate(None, None, None), None)
    positive, negative = (np.stack(part) for part in zip(*(find_components(s, t) for s, _ in pairs), strict=True))
    a, b = (float(value) for value in positive.mean(1))
    if min(positive.shape[1], negative.shape[1]) < 2:
        return Difference(a, b, Estimate(a - b, None, None), None)
    variance = sum(float(np.var(part[0] - part[1], ddof=1)) / part.shape[1] for part in (positive, negative))
    if variance <= 1e-18:
        if abs(a - b) > NOTHING:
            return Difference(a, b, Estimate(a - b, None, None), None)
        if _rank_alike(first, second):
            return Difference(a, b, Estimate(0.0, 0.0, 0.0), 1.0)
        return _without_difference(a, b, min(positive.shape[1], negative.shape[1]))
    error = sqrt(variance)
    interval = Estimate(a - b, a - b - NORMAL * error, a - b + NORMAL * error)
    return Difference(a, b, interval, erfc(abs(a - b) / error / sqrt(2)))


def find_components(scores: Floats, truth: Bools) -> tuple[Floats, Floats]:
    """For each positive the share of negatives below it, for each negative that of positives above; ties half."""
    ranks = _midranks(scores)
    m, n = int(truth.sum()), int((~truth).sum())
    return (ranks[truth] - _midranks(scores[truth])) / n, 1 - (ranks[~truth] - _midranks(scores[~truth])) / m


def _midranks(values: Floats) -> Floats:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def _rank_alike(first: npt.ArrayLike, second: npt.ArrayLike) -> bool:
    """Whether two (n,) scores put all images into the same order, ties included: then every AUROC is the same."""
    return np.array_equal(_midranks(np.asarray(first, float)), _midranks(np.asarray(second, float)))


def _side_by_side(a: Mapping[str, Floats], b: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name: np.stack([a[name], b[name]], axis=1) for name in a}


def _without_difference(a: float, b: float, pairs: int | None) -> Difference:
    """AUROCs, or other figures, that agree in every resample: `pairs` bound what they can differ by elsewhere."""
    if not pairs:
        return _without_interval(a, b)
    reach = 1 - TAIL ** (1 / pairs)
    return Difference(a, b, Estimate(0.0, -reach, reach), 1.0)


def _without_interval(a: float, b: float) -> Difference:
    return Difference(to_finite(a), to_finite(b), Estimate(to_finite(a - b), None, None), None)


def _to_difference(a: float, b: float, resampled: Floats, pairs: int | None) -> Difference:
    usable = resampled[np.isfinite(resampled)]
    if abs(a - b) <= NOTHING and len(usable) and np.abs(usable).max() <= NOTHING:
        return _without_difference(a, b, pairs)
    interval = to_estimate(a - b, resampled)
    if interval.low is None:
        return _without_interval(a, b)
    side = min((usable <= 0).sum(), (usable >= 0).sum())
    return Difference(a, b, interval, min(1.0, float(2 * (1 + side) / (1 + len(usable)))))


def _compare_shares(a: float, b: float, resampled: Floats, lesions: int) -> Difference:
    """Two shares of the same lesions, with the interval of Newcombe (1998, Statistics in Medicine 17, 2635, method 10).

    It joins Wilson's intervals of both, on their effective sizes, by the correlation of their (b, 2) resamples, which
    counts as 0 where one of them does not vary.
    """
    sizes = [find_size(value, column, lesions) for value, column in zip((a, b), resampled.T, strict=True)]
    if sizes[0] is None or sizes[1] is None:
        return _without_interval(a, b)
    usable = resampled[np.isfinite(resampled).all(1)]
    varies = len(usable) > 1 and bool((np.ptp(usable, axis=0) > NOTHING).all())
    correlation = float(np.asarray(np.corrcoef(usable.T))[0, 1]) if varies else 0.0
    pair = (a, sizes[0]), (b, sizes[1])

    def reach(normal: float) -> tuple[float, float]:
        """How far the interval goes down and up."""
        (low_a, high_a), (low_b, high_b) = (find_wilson(value, size, normal) for value, size in pair)
        sides = ((a - low_a, high_b - b), (high_a - a, b - low_b))
        down, up = (sqrt(max(0.0, x * x + y * y - 2 * correlation * x * y)) for x, y in sides)
        return down, up

    difference = a - b
    down, up = reach(NORMAL)
    # The p-value is the level of the interval that just reaches zero: bisection over its normal quantile.
    inside, outside = 0.0, 40.0
    for _ in range(60):
        middle = (inside + outside) / 2
        touches = reach(middle)[0 if difference > 0 else 1] >= abs(difference)
        inside, outside = (inside, middle) if touches else (middle, outside)
    p = erfc(inside / sqrt(2)) if abs(difference) > NOTHING else 1.0
    return Difference(a, b, Estimate(difference, max(-1.0, difference - down), min(1.0, difference + up)), p)
