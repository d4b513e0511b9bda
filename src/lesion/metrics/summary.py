"""All figures of malignant probabilities against truth, by image and by lesion."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import average, count_pairs, count_trials, estimate_figures, to_finite
from lesion.metrics.calibration import (
    brier,
    calibration_error,
    estimate_recalibration,
    expect_calibration_error,
    log_loss,
)
from lesion.metrics.decisions import confusion, rates
from lesion.metrics.ranking import Ranking
from lesion.metrics.samples import Bools, Floats, check_probabilities, to_probabilities
from lesion.records import Estimate

# What `estimate` adds to the figures of `measure`.
OF_CALIBRATION = (
    "calibration_error_expected",
    "calibration_error_excess",
    "calibration_slope",
    "calibration_intercept",
)


def measure(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, threshold: float, weights: npt.ArrayLike | None = None
) -> dict[str, Floats]:
    """All figures for (n,) malignant probabilities against (n,) bool truth: name → (b,), NaN where undefined.

    Malignant from `threshold` on. Raises DataError when a probability is NaN or outside [0, 1].
    """
    p, t = to_probabilities(probabilities, truth)
    ranking = Ranking.of(p, t, weights)
    return {
        "auroc": ranking.auroc,
        "average_precision": ranking.average_precision,
        "partial_auroc": ranking.partial_auroc(),
        "sensitivity_at_95_specificity": ranking.sensitivity_at(0.95),
        "specificity_at_95_sensitivity": ranking.specificity_at(0.95),
        **rates(confusion(p >= threshold, t, weights)),
        "brier": brier(p, t, weights),
        "log_loss": log_loss(p, t, weights),
        "calibration_error": calibration_error(p, t, weights),
    }


def estimate(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], threshold: float, seed: int = 0
) -> dict[str, Estimate]:
    """`measure` and `OF_CALIBRATION` with 95 % intervals from resampling groups (lesions) with replacement.

    Images of one lesion are no independent evidence, so whole lesions are drawn. `groups` is (n,) lesion ids. Shares
    have the intervals of `to_share`, AUROC that of `to_area`, balanced accuracy that of `average`, slope and intercept
    those of `to_normal`, the others percentiles of the resamples. "calibration_error" and "calibration_error_excess"
    have none: what a perfectly calibrated model would show, mean and 95 % range, is "calibration_error_expected".
    """
    p, t = to_probabilities(probabilities, truth)
    trials, pairs = count_trials(p >= threshold, t, groups), {"auroc": count_pairs(t, groups)}
    found = estimate_figures(partial(measure, p, t, threshold), groups, seed, trials, pairs)
    expected = expect_calibration_error(p, groups, seed)
    return {
        **found,
        "balanced_accuracy": average(found["sensitivity"], found["specificity"]),
        "calibration_error_expected": expected,
        "calibration_error_excess": _find_excess(found["calibration_error"].value, expected.value),
        **estimate_recalibration(p, t, groups, seed),
    }


def estimate_lesions(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], threshold: float, seed: int = 0
) -> dict[str, Estimate]:
    """`estimate` with one answer per lesion, as `pool` makes it."""
    p, t, lesions = pool(probabilities, truth, groups)
    return estimate(p, t, lesions, threshold, seed)


def estimate_auroc(scores: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], seed: int = 0) -> Estimate:
    """AUROC of (n,) scores alone, with the interval that it has in `estimate`."""
    t = np.asarray(truth, bool)
    pairs = {"auroc": count_pairs(t, groups)}
    return estimate_figures(lambda w: {"auroc": Ranking.of(scores, t, w).auroc}, groups, seed, pairs=pairs)["auroc"]


def pool(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str]
) -> tuple[Floats, Bools, tuple[str, ...]]:
    """One row per group: mean probability, whether any image is malignant, and the group's id; ordered by id.

    `probabilities` is (n,) or (n, classes). Raises DataError when one is NaN or outside [0, 1].
    """
    p, t = check_probabilities(probabilities), np.asarray(truth, bool)
    ids, index, images = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    sums = np.zeros((len(ids), *p.shape[1:]))
    np.add.at(sums, index, p)
    malignant = np.bincount(index, weights=t, minlength=len(ids)) > 0
    return (sums.T / images).T, malignant, tuple(ids.tolist())


def _find_excess(error: float | None, expected: float | None) -> Estimate:
    """What of a calibration error exceeds the mean of a perfectly calibrated model; at least 0."""
    return Estimate(None if error is None or expected is None else max(0.0, error - expected), None, None)


def point(values: dict[str, Floats]) -> dict[str, float | None]:
    """The single figures of `measure` without weights, None for NaN."""
    return {name: to_finite(float(value[0])) for name, value in values.items()}
