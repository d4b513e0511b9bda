"""What each of several thresholds would mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy.typing as npt

from lesion.metrics.bootstrap import average, bootstrap, count_trials, to_estimate
from lesion.metrics.decisions import confusion_at, rates
from lesion.metrics.reasons import explain
from lesion.metrics.samples import to_probabilities
from lesion.records import Estimate


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """Decisions at one threshold, malignant from it on."""

    threshold: float
    confusion: dict[str, int]
    """tp, fp, fn, tn; malignant is positive."""
    figures: dict[str, Estimate]
    """As in `measure`, those that depend on the threshold."""
    missing: dict[str, str]
    """Figure → why it has no value or no interval."""


def estimate_thresholds(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    groups: Sequence[str],
    thresholds: Sequence[float],
    seed: int = 0,
) -> tuple[ThresholdRow, ...]:
    """One row per threshold, with intervals as in `estimate`; DataError when a probability is NaN."""
    p, t = to_probabilities(probabilities, truth)
    cells = confusion_at(p, t, thresholds)
    values = rates(cells)
    resampled = bootstrap(lambda w: rates(confusion_at(p, t, thresholds, w)), groups, seed)
    rows = []
    for k, threshold in enumerate(thresholds):
        trials = count_trials(p >= threshold, t, groups)
        figures = {
            name: to_estimate(float(value[0, k]), resampled[name][:, k], trials.get(name))
            for name, value in values.items()
        }
        figures["balanced_accuracy"] = average(figures["sensitivity"], figures["specificity"])
        counts = {name: int(count[0, k]) for name, count in cells.items()}
        rows.append(ThresholdRow(float(threshold), counts, figures, explain(figures, t, p >= threshold, groups)))
    return tuple(rows)
