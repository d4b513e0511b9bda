"""Fit the temperature and the operating point on validation logits."""

import numpy as np
import numpy.typing as npt

from lesion.errors import DataError
from lesion.inference.decide import to_probabilities
from lesion.metrics import threshold_for_sensitivity

MARGIN = 1e-5  # of the threshold to every validation score; rounding moves probabilities by less than 1e-6
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
