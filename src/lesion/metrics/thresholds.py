"""The choice of an operating point."""

import numpy as np
import numpy.typing as npt

from lesion.metrics.samples import to_scores


def threshold_for_sensitivity(
    scores: npt.ArrayLike, truth: npt.ArrayLike, goal: float, margin: float = 0.0
) -> float | None:
    """The highest threshold whose sensitivity reaches `goal` in (0, 1]; None without positives.

    It lies halfway between two neighbouring scores, at least `margin` from both, so that no rounding error decides
    about an image. Where the scores are too dense for that, it is lower. Raises DataError for NaN.
    """
    s, t = to_scores(scores, truth)
    positives = np.sort(s[t])
    if not len(positives):
        return None
    # At most floor((1 - goal) · n) positives may lie below the threshold.
    lowest = positives[int(np.floor((1 - goal) * len(positives) + 1e-9))]
    above = np.unique(s[s <= lowest])
    below = np.concatenate([[0.0], above[:-1]])
    wide = np.flatnonzero(above - below >= 2 * margin)
    return float((above[wide[-1]] + below[wide[-1]]) / 2) if len(wide) else 0.0
