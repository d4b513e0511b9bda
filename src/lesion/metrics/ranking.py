"""How well scores rank positives above negatives, whatever the threshold."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.metrics.samples import Bools, Floats, divide, to_scores, to_weights

LOWEST_SENSITIVITY = 0.8  # of the partial AUROC, as in the ISIC 2024 challenge
ROUNDING = 1e-9  # relative; a sensitivity of 19 in 20 reaches 0.95


@dataclass(frozen=True, slots=True)
class Ranking:
    """Images counted from the highest score down, once per resample; images of equal score are one step.

    All figures are (b,) and NaN in a row without positives or without negatives.
    """

    scores: Floats
    """(k,) distinct, falling."""
    found: Floats
    """(b, k + 1) weight of the positives among the images of the j highest scores; 0 in column 0."""
    alarms: Floats
    """(b, k + 1) the same for the negatives."""

    @classmethod
    def of(cls, scores: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> "Ranking":
        """Count (n,) real scores, higher for positive, against (n,) bool truth.

        `weights` is (b, n), non-negative, one row per resample; all ones when None. Raises DataError for NaN.
        """
        s, t = to_scores(scores, truth)
        order = np.argsort(-s, kind="stable")
        s, t, w = s[order], t[order], to_weights(weights, len(s))[:, order]
        ends = np.flatnonzero(np.append(s[1:] != s[:-1], True)[: len(s)])
        return cls(s[ends], _accumulate(w * t, ends), _accumulate(w * ~t, ends))

    @property
    def positives(self) -> Floats:
        """Weight of all positives, (b,)."""
        return self.found[:, -1]

    @property
    def negatives(self) -> Floats:
        """Weight of all negatives, (b,)."""
        return self.alarms[:, -1]

    @property
    def auroc(self) -> Floats:
        """See `auroc`."""
        twice = np.einsum("bk,bk->b", np.diff(self.alarms), self.found[:, 1:] + self.found[:, :-1])
        return divide(twice / 2, self.positives * self.negatives)

    @property
    def average_precision(self) -> Floats:
        """See `average_precision`."""
        gained, found, alarms = np.diff(self.found), self.found[:, 1:], self.alarms[:, 1:]
        # Where nothing is counted yet, nothing is gained either.
        area = np.einsum("bk,bk->b", gained, found / np.maximum(found + alarms, np.finfo(float).tiny))
        return self._with_both(divide(area, self.positives))

    def sensitivity_at(self, specificity: float) -> Floats:
        """See `sensitivity_at_specificity`."""
        allowed = ((1 - specificity + ROUNDING) * self.negatives)[:, None]
        return self._with_both(divide(np.where(self.alarms <= allowed, self.found, 0).max(1), self.positives))

    def specificity_at(self, sensitivity: float) -> Floats:
        """See `specificity_at_sensitivity`."""
        goal = ((sensitivity - ROUNDING) * self.positives)[:, None]
        alarms = np.where(self.found >= goal, self.alarms, np.inf).min(1)
        return self._with_both(1 - divide(alarms, self.negatives))

    def partial_auroc(self, lowest: float = LOWEST_SENSITIVITY) -> Floats:
        """See `partial_auroc`."""
        rise, run = np.diff(self.found), np.diff(self.alarms)
        above = np.clip(self.found[:, 1:] - (lowest * self.positives)[:, None], 0, rise)
        share = above / np.where(rise > 0, rise, 1)  # of a step's slope that lies above the lowest sensitivity
        height = self.negatives[:, None] - self.alarms[:, 1:] + share * run / 2
        return divide(np.einsum("bk,bk->b", above, height), self.positives * self.negatives)

    def sensitivity_on(self, grid: Floats) -> Floats:
        """The ROC curve: (b, g) sensitivity at the (g,) shares of false alarms, straight between two steps."""
        x, y = divide(self.alarms, self.negatives[:, None]), divide(self.found, self.positives[:, None])
        # Of the points at one x, np.interp takes the last: the top of a vertical piece.
        curves = np.stack([np.interp(grid, *row) for row in zip(x, y, strict=True)])
        return np.where(self._has_both[:, None], curves, np.nan)

    def precision_on(self, grid: Floats) -> Floats:
        """The precision-recall curve: (b, g) precision of the first step that reaches the (g,) sensitivities.

        A straight line between two steps would promise what no threshold reaches (Davis & Goadrich 2006,
        doi:10.1145/1143844.1143874).
        """
        goals = np.maximum((grid - ROUNDING) * self.positives[:, None], np.finfo(float).tiny)
        steps = np.stack([np.searchsorted(*row) for row in zip(self.found, goals, strict=True)])
        steps = np.minimum(steps, len(self.scores))
        found, alarms = (np.take_along_axis(part, steps, axis=1) for part in (self.found, self.alarms))
        return np.where(self._has_both[:, None], divide(found, found + alarms), np.nan)

    @property
    def _has_both(self) -> Bools:
        return (self.positives > 0) & (self.negatives > 0)

    def _with_both(self, values: Floats) -> Floats:
        return np.where(self._has_both, values, np.nan)


def auroc(scores: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Area under the ROC curve: the share of (positive, negative) pairs ranked rightly, ties counting half.

    Args:
        scores: (n,) any real numbers, higher for positive.
        truth: (n,) bool.
        weights: (b, n) non-negative, one row per resample; all ones when None.

    Returns:
        (b,) in [0, 1]; NaN in a row without positives or without negatives.

    Raises:
        DataError: A score is NaN or infinite.
    """
    return Ranking.of(scores, truth, weights).auroc


def average_precision(scores: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Area under the precision-recall curve as a step function; arguments and result as in `auroc`.

    Without negatives every ranking would score 1, so there is no figure either.
    """
    return Ranking.of(scores, truth, weights).average_precision


def sensitivity_at_specificity(
    scores: npt.ArrayLike, truth: npt.ArrayLike, specificity: float, weights: npt.ArrayLike | None = None
) -> Floats:
    """The highest sensitivity of a threshold that reaches `specificity` in [0, 1]; otherwise as `auroc`."""
    return Ranking.of(scores, truth, weights).sensitivity_at(specificity)


def specificity_at_sensitivity(
    scores: npt.ArrayLike, truth: npt.ArrayLike, sensitivity: float, weights: npt.ArrayLike | None = None
) -> Floats:
    """The highest specificity of a threshold that reaches `sensitivity` in [0, 1]; otherwise as `auroc`."""
    return Ranking.of(scores, truth, weights).specificity_at(sensitivity)


def partial_auroc(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    lowest: float = LOWEST_SENSITIVITY,
    weights: npt.ArrayLike | None = None,
) -> Floats:
    """Area between the ROC curve and the line at the `lowest` sensitivity, as in the ISIC 2024 challenge.

    In [0, 1 - lowest], so up to 0.2 for the default; a random ranking gives 0.02. Otherwise as `auroc`.
    """
    return Ranking.of(scores, truth, weights).partial_auroc(lowest)


def _accumulate(weights: Floats, ends: npt.NDArray[np.intp]) -> Floats:
    sums = np.zeros((len(weights), len(ends) + 1))
    sums[:, 1:] = np.cumsum(weights, axis=1)[:, ends]
    return sums
