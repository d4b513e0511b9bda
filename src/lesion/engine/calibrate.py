"""All that is fitted on validation and stored in the file: temperature, threshold, sets, limits of the checks."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lesion.errors import DataError
from lesion.inference.decide import Floats, to_probabilities
from lesion.manifest import Check, Conformal, Reference
from lesion.metrics import threshold_for_sensitivity

MARGIN = 1e-5  # of the threshold to every validation score; rounding moves probabilities by less than 1e-6
BINS = 10  # of the distributions that service is compared with
RANGE = (0.05, 20.0)  # of temperatures; a fit at an end means that the logits carry next to no information


def fit_temperature(logits: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """The temperature that minimises the negative log-likelihood of (n,) int targets given (n, c) logits.

    Golden-section search over its logarithm: the likelihood is convex in 1/T, so there is one minimum
    (Guo et al. 2017, arXiv:1706.04599).
    """
    z, t = np.asarray(logits, np.float64), np.asarray(targets, int)

    def loss(log_temperature: float) -> float:
        chosen = to_probabilities(z, float(np.exp(log_temperature)))[np.arange(len(t)), t]
        return float(-np.log(np.maximum(chosen, 1e-300)).mean())

    ratio = (np.sqrt(5) - 1) / 2
    low, high = map(np.log, RANGE)
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def choose_threshold(malignant: npt.ArrayLike, truth: npt.ArrayLike, sensitivity: float) -> float:
    """The operating point for (n,) malignant probabilities against (n,) bool truth.

    Raises DataError when validation holds no malignant image.
    """
    threshold = threshold_for_sensitivity(malignant, truth, sensitivity, MARGIN)
    if threshold is None:
        raise DataError(
            "the validation split has no malignant image, so no operating point can be chosen",
            hint="add malignant lesions, or check data.malignant",
        )
    return threshold


def fit_conformal(malignant: npt.ArrayLike, truth: npt.ArrayLike, lesions: Sequence[str], coverage: float) -> Conformal:
    """The sets that cover a new lesion of either class with probability `coverage`, split-conformal per class.

    From (n,) malignant probabilities against (n,) bool truth. Images of one lesion are not exchangeable with those of
    another, lesions are: each weighs one, shared by its images, and the new lesion weighs one at the worst place
    (Lee, Barber & Willett 2023, arXiv:2306.06342). With too few lesions of a class, it is in every set.
    """
    p, t = np.asarray(malignant, float), np.asarray(truth, bool)
    _, index, counts = np.unique(np.asarray(lesions), return_inverse=True, return_counts=True)
    weights = 1 / counts[index]
    lowest = -_conformal_quantile(-p[t], weights[t], coverage, 0)
    return Conformal(coverage, abs(lowest), _conformal_quantile(p[~t], weights[~t], coverage, 1))  # abs: no -0.0


def _conformal_quantile(scores: Floats, weights: Floats, coverage: float, worst: float) -> float:
    """The least score that `coverage` of the weight keeps to, one more lesion at the `worst` place included."""
    order = np.argsort(scores)
    reached = np.cumsum(weights[order]) >= coverage * (weights.sum() + 1) - 1e-9
    return float(scores[order][reached.argmax()]) if reached.any() else worst


def fit_limits(measures: npt.ArrayLike, checks: Sequence[Check], acceptance: float) -> tuple[Check, ...]:
    """`checks` with limits that `acceptance` of the images pass, from their (n, k) measures.

    The images lowest in the first measure pass: it is of the image as a whole. The limits are the extremes of those
    that pass, so the other checks do not refuse more of what is usual, but say in which way an image is not.
    """
    m = np.asarray(measures, float)
    kept = m[np.argsort(m[:, 0])[: math.ceil(acceptance * len(m) - 1e-9)]]
    return tuple(
        replace(check, low=float(low) if check.low_flag else None, high=float(high) if check.high_flag else None)
        for check, low, high in zip(checks, kept.min(axis=0), kept.max(axis=0), strict=True)
    )


def summarize(name: str, values: npt.ArrayLike) -> Reference:
    """The distribution of (n,) values in ten bins of about equal share; fewer where values are the same."""
    v = np.asarray(values, float)
    edges = np.unique(np.quantile(v, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1)
    return Reference(name, tuple(map(float, edges)), tuple(map(float, counts / len(v))))
