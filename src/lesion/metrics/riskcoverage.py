"""What referring the least certain images is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import estimate_figures
from lesion.metrics.curves import UNIT, trace
from lesion.metrics.ranking import ROUNDING, Ranking
from lesion.metrics.samples import Floats, divide
from lesion.records import Curve, Estimate


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The share of wrong decisions among the images that are answered, as the least certain are referred."""

    curve: Curve
    """Over the share that is answered, from 0 (only the most certain images) to 1 (all)."""
    area: Estimate
    """Mean of that share over all coverages: lower is better, and the error rate when certainty says nothing."""


def risk_area(certainty: npt.ArrayLike, wrong: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Area under the risk-coverage curve (Geifman et al. 2019, arXiv:1805.08206).

    Args:
        certainty: (n,) any real numbers, higher for images to answer first; equal ones are answered together.
        wrong: (n,) bool.
        weights: (b, n) non-negative, one row per resample; all ones when None.

    Returns:
        (b,) in [0, 1]; NaN without images.

    Raises:
        DataError: A certainty is NaN or infinite.
    """
    answered, risk = _answer(Ranking.of(certainty, wrong, weights))
    return divide((np.diff(answered) * risk).sum(1), answered[:, -1])


def risk_on(
    grid: Floats, certainty: npt.ArrayLike, wrong: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Floats:
    """The share of wrong decisions, (b, g), once at least the (g,) shares are answered; arguments as `risk_area`."""
    answered, risk = _answer(Ranking.of(certainty, wrong, weights))
    goals = np.maximum((grid - ROUNDING) * answered[:, -1:], np.finfo(float).tiny)
    steps = np.stack([np.searchsorted(*row) for row in zip(answered[:, 1:], goals, strict=True)])
    return np.take_along_axis(np.append(risk, np.full((len(risk), 1), np.nan), axis=1), steps, axis=1)


def estimate_risk_coverage(
    certainty: npt.ArrayLike, wrong: npt.ArrayLike, groups: Sequence[str], seed: int = 0
) -> RiskCoverage:
    """The curve and its area, arguments as in `risk_area`, with intervals as in `estimate`."""
    area = estimate_figures(lambda w: {"area": risk_area(certainty, wrong, w)}, groups, seed)["area"]
    return RiskCoverage(trace(lambda w: risk_on(UNIT, certainty, wrong, w), UNIT, groups, seed), area)


def _answer(ranking: Ranking) -> tuple[Floats, Floats]:
    """Weight answered, (b, k + 1), and the share of it that is wrong after each step, (b, k)."""
    answered = ranking.found + ranking.alarms
    # Before anything is answered nothing is wrong; such steps have no weight.
    return answered, ranking.found[:, 1:] / np.maximum(answered[:, 1:], np.finfo(float).tiny)
