"""Whether probabilities mean what they say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import bootstrap, count_lesions, to_estimate
from lesion.metrics.samples import Floats, divide, to_probabilities, to_weights
from lesion.records import Estimate

BINS = 15  # of the expected calibration error (Guo et al. 2017, arXiv:1706.04599)


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
    """Expected calibration error of the malignant probability over 15 equal bins of [0, 1]; (b,) in [0, 1]."""
    p, t = to_probabilities(probabilities, truth)
    w = to_weights(weights, len(t))
    return divide(np.abs(w @ (_to_bins(p, BINS) * (p - t)[:, None])).sum(1), w.sum(1))


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
