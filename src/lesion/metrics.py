"""Figures from malignant probabilities: definitions in plain NumPy, intervals by resampling lesions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lesion.records import Estimate

Floats = npt.NDArray[np.float64]
RESAMPLES = 1000
BINS = 15  # of the expected calibration error (Guo et al. 2017, arXiv:1706.04599)


def auroc(scores: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Area under the ROC curve: the share of (positive, negative) pairs ranked rightly, ties counting half.

    Args:
        scores: (n,) any real numbers, higher for positive.
        truth: (n,) bool.
        weights: (b, n) non-negative, one row per resample; all ones when None.

    Returns:
        (b,) in [0, 1]; NaN in a row without positives or without negatives.
    """
    ranks = np.unique(np.asarray(scores, float), return_inverse=True)[1]
    positive = np.asarray(truth, bool)
    w = _weights(weights, len(positive))
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))  # first member of each group of ties
    up = np.add.reduceat((w * positive)[:, order], starts, axis=1)
    down = np.add.reduceat((w * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(down, axis=1) - down
    with np.errstate(invalid="ignore"):
        return np.asarray((up * (below + down / 2)).sum(1) / (up.sum(1) * down.sum(1)))


def average_precision(scores: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Area under the precision-recall curve as a step function; arguments and result as in `auroc`."""
    ranks = np.unique(-np.asarray(scores, float), return_inverse=True)[1]
    positive = np.asarray(truth, bool)
    w = _weights(weights, len(positive))
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    up = np.add.reduceat((w * positive)[:, order], starts, axis=1)
    all_ = np.add.reduceat(w[:, order], starts, axis=1)
    with np.errstate(invalid="ignore"):
        precision = np.cumsum(up, axis=1) / np.cumsum(all_, axis=1)
        area = np.nansum(precision * up, axis=1) / up.sum(1)
    return np.where(up.sum(1) < all_.sum(1), area, np.nan)  # without negatives every ranking would score 1


def confusion(
    predicted: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> dict[str, Floats]:
    """Weighted counts tp, fp, fn, tn, each (b,), of (n,) bool predictions against (n,) bool truth."""
    p, t = np.asarray(predicted, bool), np.asarray(truth, bool)
    w = _weights(weights, len(t))
    cells = {"tp": p & t, "fp": p & ~t, "fn": ~p & t, "tn": ~p & ~t}
    return {name: w @ cell.astype(float) for name, cell in cells.items()}


def calibration_error(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Floats:
    """Expected calibration error of the malignant probability over 15 equal bins of [0, 1]; (b,) in [0, 1]."""
    p, t = np.asarray(probabilities, float), np.asarray(truth, bool)
    w = _weights(weights, len(t))
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gap = np.stack([w[:, bins == b] @ (p - t)[bins == b] for b in range(BINS)], axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(gap).sum(1) / w.sum(1))


def threshold_for_sensitivity(
    scores: npt.ArrayLike, truth: npt.ArrayLike, goal: float, margin: float = 0.0
) -> float | None:
    """The highest threshold whose sensitivity reaches `goal` in (0, 1]; None without positives.

    It lies halfway between two neighbouring scores, at least `margin` from both, so that no rounding error decides
    about an image. Where the scores are too dense for that, it is lower.
    """
    s = np.unique(np.asarray(scores, float))
    positives = np.sort(np.asarray(scores, float)[np.asarray(truth, bool)])
    if not len(positives):
        return None
    # At most floor((1 - goal) · n) positives may lie below the threshold.
    lowest = positives[int(np.floor((1 - goal) * len(positives) + 1e-9))]
    above = s[s <= lowest]
    below = np.concatenate([[0.0], above[:-1]])
    wide = np.flatnonzero(above - below >= 2 * margin)
    return float((above[wide[-1]] + below[wide[-1]]) / 2) if len(wide) else 0.0


def measure(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, threshold: float, weights: npt.ArrayLike | None = None
) -> dict[str, Floats]:
    """All figures for (n,) malignant probabilities against (n,) bool truth: name → (b,), NaN where undefined."""
    p, t = np.asarray(probabilities, float), np.asarray(truth, bool)
    w = _weights(weights, len(t))
    cell = confusion(p >= threshold, t, w)
    tp, fp, fn, tn = cell["tp"], cell["fp"], cell["fn"], cell["tn"]
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        return {
            "auroc": auroc(p, t, w),
            "average_precision": average_precision(p, t, w),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "precision": tp / (tp + fp),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "accuracy": (tp + tn) / w.sum(1),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "brier": (w @ np.square(p - t)) / w.sum(1),
            "calibration_error": calibration_error(p, t, w),
        }


def estimate(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], threshold: float, seed: int = 0
) -> dict[str, Estimate]:
    """`measure` with 95 % percentile intervals from resampling groups (lesions) with replacement.

    Images of one lesion are no independent evidence, so whole lesions are drawn. `groups` is (n,) lesion ids.
    """
    values = measure(probabilities, truth, threshold)
    resampled = measure(probabilities, truth, threshold, _resample(groups, seed))
    return {name: _interval(float(values[name][0]), resampled[name]) for name in values}


def estimate_auroc_loss(
    before: npt.ArrayLike, after: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0
) -> Estimate:
    """AUROC of the scores `before` minus that of `after`, both (n,), with a paired interval as in `estimate`."""
    weights = _resample(groups, seed)
    value = auroc(before, truth) - auroc(after, truth)
    return _interval(float(value[0]), auroc(before, truth, weights) - auroc(after, truth, weights))


def point(values: dict[str, Floats]) -> dict[str, float | None]:
    """The single figures of `measure` without weights, None for NaN."""
    return {name: _finite(float(value[0])) for name, value in values.items()}


def _resample(groups: Sequence[str], seed: int) -> Floats:
    """How often each image appears when groups are drawn with replacement: (RESAMPLES, n)."""
    members, index = np.unique(np.asarray(groups), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(members), np.full(len(members), 1 / len(members)), RESAMPLES)
    return draws[:, index].astype(float)


def _interval(value: float, resampled: Floats) -> Estimate:
    usable = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(usable) < len(resampled) / 2:
        return Estimate(_finite(value), None, None)
    low, high = np.quantile(usable, (0.025, 0.975))
    # Resampling inflates the calibration error, so that a small value can lie below all its resamples.
    return Estimate(value, min(float(low), value), max(float(high), value))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _weights(weights: npt.ArrayLike | None, n: int) -> Floats:
    return np.ones((1, n)) if weights is None else np.atleast_2d(np.asarray(weights, float))
