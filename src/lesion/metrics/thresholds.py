"""The choice of an operating point."""

import numpy as np
import numpy.typing as npt

from lesion.metrics.decisions import expected_cost
from lesion.metrics.ranking import Ranking
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


def threshold_for_cost(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, ratio: float, margin: float = 0.0
) -> float | None:
    """The threshold of least `expected_cost`, a missed malignant image costing as much as `ratio` > 0 false alarms.

    The lowest one, where several cost the same; None without positives or without negatives. Place and `margin` as
    in `threshold_for_sensitivity`. For perfectly calibrated probabilities and endless data it is 1 / (1 + ratio)
    (Elkan 2001, The foundations of cost-sensitive learning).
    """
    ranking = Ranking.of(probabilities, truth)
    found, alarms, positives, negatives = ranking.found[0], ranking.alarms[0], ranking.positives, ranking.negatives
    if not (positives and negatives):
        return None
    cost = expected_cost({"tp": found, "fp": alarms, "fn": positives - found, "tn": negatives - alarms}, ratio)
    above, below = np.append(1.0, ranking.scores), np.append(ranking.scores, 0.0)  # of the gaps between scores
    usable = (above - below >= 2 * margin) & (above > below)
    usable[-1] = True  # malignant from 0 on
    cheapest = np.flatnonzero(usable & (cost <= cost[usable].min() + 1e-12))[-1]
    wide = above[cheapest] - below[cheapest] >= 2 * margin
    return float((above[cheapest] + below[cheapest]) / 2) if wide else 0.0
