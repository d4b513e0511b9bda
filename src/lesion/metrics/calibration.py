"""Calibration: whether malignant images are as frequent as their probabilities say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import CHUNK, TAIL, bootstrap, count_lesions, to_estimate, to_normal
from lesion.metrics.samples import Bools, Floats, check_probabilities, divide, to_probabilities, to_weights
from lesion.records import Estimate

BINS = 15  # of the expected calibration error
DRAWS = 1000  # of what a perfectly calibrated model would show
EDGE = 1e-9  # probabilities stay so far from 0 and 1, to keep their log-odds finite
STEPS = 40  # of Newton's method; without an optimum it does not converge
LONGEST = 1.0  # step of Newton's method in either parameter: a longer one can overshoot


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The images whose malignant probability lies in one interval."""

    start: float
    end: float
    """`end` itself belongs to the next bin, except in the last."""
    images: int
    lesions: int
    probability: float | None
    """Mean malignant probability; None without images."""
    observed: Estimate
    """Share of malignant images."""


def brier(probabilities: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Mean squared difference of probability and truth (Brier 1950); (b,) in [0, 1], NaN without images."""
    p, t = to_probabilities(probabilities, truth)
    return _average(np.square(p - t), weights)


def log_loss(probabilities: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Mean negative natural logarithm of the probability of what is true; (b,), NaN without images.

    Probabilities are kept 2.2e-16 away from 0: a certain answer that is wrong costs 36, not infinity.
    """
    p, t = to_probabilities(probabilities, truth)
    return _average(-np.log(np.maximum(np.where(t, p, 1 - p), np.finfo(float).eps)), weights)


def calibration_error(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Floats:
    """Expected calibration error of the malignant probability over 15 equal bins of [0, 1]; (b,) in [0, 1].

    This is the class-wise error of one class: the mean distance of probability and observed share, weighted by the
    images of a bin. Guo et al. (2017, arXiv:1706.04599) compare confidence with accuracy instead.
    It is biased upwards: a perfectly calibrated model has `expect_calibration_error`, not 0.
    """
    p, t = to_probabilities(probabilities, truth)
    w = to_weights(weights, len(t))
    return divide(np.abs(w @ (_to_bins(p, BINS) * (p - t)[:, None])).sum(1), w.sum(1))


def expect_calibration_error(probabilities: npt.ArrayLike, groups: Sequence[str], seed: int = 0) -> Estimate:
    """Mean and central 95 % range of `calibration_error` if the (n,) probabilities were perfectly calibrated.

    The truth is drawn DRAWS times. Images of one lesion share the draw, so that each is malignant with its own
    probability and they agree as far as their probabilities do. All None without images.
    """
    p = check_probabilities(probabilities)
    if not len(p):
        return Estimate(None, None, None)
    ids, index = np.unique(np.asarray(groups), return_inverse=True)
    rng, member, drawn = np.random.default_rng(seed), _to_bins(p, BINS), []
    size = max(1, CHUNK // len(p))
    for start in range(0, DRAWS, size):
        truth = rng.random((min(size, DRAWS - start), len(ids)))[:, index] < p
        drawn.append(np.abs((p - truth) @ member).sum(1) / len(p))
    errors = np.concatenate(drawn)
    low, high = np.quantile(errors, (TAIL, 1 - TAIL))
    return Estimate(float(errors.mean()), float(low), float(high))


def calibration_slope(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Floats:
    """Slope of a logistic regression of truth on the log-odds of the probabilities (Cox 1958); (b,).

    1 is ideal; below 1 the probabilities are too extreme, above 1 too moderate (Van Calster et al. 2016,
    doi:10.1016/j.jclinepi.2015.12.005). NaN where no slope fits: one class is absent, the probabilities are all equal,
    or they separate the classes.
    """
    return _fit(probabilities, truth, weights, free=True)[:, 1]


def calibration_intercept(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Floats:
    """Calibration in the large: what to add to all log-odds for the mean probability to be the observed share; (b,).

    0 is ideal; above 0 the probabilities are too low on average (reference as in `calibration_slope`). NaN where one
    class is absent.
    """
    return _fit(probabilities, truth, weights, free=False)[:, 0]


def estimate_recalibration(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0
) -> dict[str, Estimate]:
    """`calibration_slope` and `calibration_intercept` with intervals from resamples of lesions, as `to_normal` says."""

    def measure(weights: Floats) -> dict[str, Floats]:
        return {
            "calibration_slope": calibration_slope(probabilities, truth, weights),
            "calibration_intercept": calibration_intercept(probabilities, truth, weights),
        }

    values, resampled = measure(np.ones((1, len(groups)))), bootstrap(measure, groups, seed)
    return {
        name: to_normal(float(value[0]), resampled[name], ratio=name == "calibration_slope")
        for name, value in values.items()
    }


def estimate_reliability(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """The reliability curve over `bins` equal bins of [0, 1], with intervals as in `estimate`.

    `calibration_error` is the mean distance of `probability` and `observed` over the images of the default bins.
    """
    p, t = to_probabilities(probabilities, truth)
    member, edges = _to_bins(p, bins), np.linspace(0, 1, bins + 1)
    resampled = bootstrap(lambda w: {"observed": divide((w * t) @ member, w @ member)}, groups, seed)["observed"]
    rows = []
    for b, inside in enumerate(member.T.astype(bool)):
        lesions = count_lesions(groups, inside)
        observed = float(t[inside].mean()) if inside.any() else np.nan
        rows.append(
            ReliabilityBin(
                start=float(edges[b]),
                end=float(edges[b + 1]),
                images=int(inside.sum()),
                lesions=lesions,
                probability=float(p[inside].mean()) if inside.any() else None,
                observed=to_estimate(observed, resampled[:, b], lesions),
            )
        )
    return tuple(rows)


def _to_bins(p: Floats, bins: int) -> Floats:
    """(n, bins): 1 where an image lies in a bin, else 0."""
    index = np.minimum((p * bins).astype(int), bins - 1)
    return np.asarray(index[:, None] == np.arange(bins), float)


def _average(losses: Floats, weights: npt.ArrayLike | None) -> Floats:
    w = to_weights(weights, len(losses))
    return divide(w @ losses, w.sum(1))


def _fit(probabilities: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None, free: bool) -> Floats:
    """(b, 2): intercept and slope of greatest likelihood, the slope fixed at 1 unless `free`; NaN without one."""
    p, t = to_probabilities(probabilities, truth)
    w = to_weights(weights, len(t))
    clipped = np.clip(p, EDGE, 1 - EDGE)
    x = np.log(clipped / (1 - clipped))
    # From the optimum of all images the resamples need half as many steps; without it they have none either.
    optimum = _optimize(x, t, np.ones((1, len(t))), np.array([0.0, 1.0]), free)
    return _optimize(x, t, w, optimum[0], free) if np.isfinite(optimum).all() else np.full((len(w), 2), np.nan)


def _optimize(x: Floats, t: Bools, w: Floats, start: Floats, free: bool) -> Floats:
    """(b, 2): the parameters that Newton's method reaches from `start`, NaN where it does not converge."""
    fitted = np.full((len(w), 2), np.nan)
    rows = np.flatnonzero(((w @ t) > 0) & ((w @ ~t) > 0))
    current = np.tile(start, (len(rows), 1))
    for _ in range(STEPS):
        if not len(rows):
            break
        step = _find_step(x, t, w[rows], current, free)
        current = current + np.clip(step, -LONGEST, LONGEST)
        # Convergence is quadratic: after a step this small the rest is rounding. Without curvature the step is NaN.
        done, lost = np.abs(step).max(1) < 1e-5, ~np.isfinite(current).all(1)
        fitted[rows[done]] = current[done]
        rows, current = rows[~(done | lost)], current[~(done | lost)]
    return fitted


def _find_step(x: Floats, t: Bools, w: Floats, current: Floats, free: bool) -> Floats:
    """The (b, 2) step of Newton's method from the `current` intercepts and slopes."""
    expected = current[:, 1:] * x
    expected += current[:, :1]
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(np.negative(expected, out=expected), out=expected))
    curve = w * expected
    rest = w * t - curve
    curve *= 1 - expected
    gradient, a = rest.sum(1), curve.sum(1)
    if not free:
        return np.stack([divide(gradient, a), np.zeros_like(a)], axis=1)
    along, b, c = rest @ x, curve @ x, curve @ (x * x)
    determinant = a * c - b * b
    determinant = np.where(determinant > 1e-12 * a * c, determinant, np.nan)
    return np.stack([(c * gradient - b * along) / determinant, (a * along - b * gradient) / determinant], axis=1)
