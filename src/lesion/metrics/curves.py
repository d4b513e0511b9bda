"""Curves with bands, on fixed grids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import bootstrap, to_band, to_finite
from lesion.metrics.decisions import net_benefit
from lesion.metrics.ranking import Ranking
from lesion.metrics.samples import Floats
from lesion.records import Curve

UNIT = np.linspace(0, 1, 201)  # the grid of shares
THRESHOLDS = np.arange(1, 100) / 100  # the grid of threshold probabilities


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Net benefit over threshold probabilities; treating nobody is 0."""

    model: Curve
    everyone: tuple[float | None, ...]
    """Of treating everyone, at `model.x`."""


def estimate_roc(scores: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0) -> Curve:
    """Sensitivity over the share of false alarms (1 - specificity); intervals as in `estimate`."""
    return trace(lambda w: Ranking.of(scores, truth, w).sensitivity_on(UNIT), UNIT, groups, seed)


def estimate_precision_recall(
    scores: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0
) -> Curve:
    """Precision over sensitivity (recall); intervals as in `estimate`."""
    return trace(lambda w: Ranking.of(scores, truth, w).precision_on(UNIT), UNIT, groups, seed)


def estimate_decision_curve(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0
) -> DecisionCurve:
    """`net_benefit` at 0.01, 0.02 … 0.99; intervals as in `estimate`."""
    model = trace(lambda w: net_benefit(probabilities, truth, THRESHOLDS, w)[0], THRESHOLDS, groups, seed)
    return DecisionCurve(model, _to_plain(net_benefit(probabilities, truth, THRESHOLDS)[1][0]))


def trace(curve: Callable[[Floats], Floats], grid: Floats, groups: Sequence[str], seed: int = 0) -> Curve:
    """`curve`, weights (b, n) → (b, g) values on the (g,) grid, with the interval of each value."""
    values = curve(np.ones((1, len(groups))))[0]
    low, high = to_band(bootstrap(lambda w: {"y": curve(w)}, groups, seed)["y"])
    return Curve(
        x=tuple(grid.tolist()),
        y=_to_plain(values),
        low=_to_plain(np.minimum(low, values)),
        high=_to_plain(np.maximum(high, values)),
    )


def _to_plain(values: Floats) -> tuple[float | None, ...]:
    return tuple(to_finite(value) for value in values.tolist())
