"""All figures of malignant probabilities against truth, by image and by lesion."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import count_trials, estimate_figures, to_finite
from lesion.metrics.calibration import brier, calibration_error, log_loss
from lesion.metrics.decisions import confusion, rates
from lesion.metrics.ranking import Ranking
from lesion.metrics.samples import Bools, Floats, check_probabilities, to_probabilities
from lesion.records import Estimate


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
    """`measure` with 95 % percentile intervals from resampling groups (lesions) with replacement.

    Images of one lesion are no independent evidence, so whole lesions are drawn. `groups` is (n,) lesion ids.
    """
    p, t = to_probabilities(probabilities, truth)
    return estimate_figures(partial(measure, p, t, threshold), groups, seed, count_trials(p >= threshold, t, groups))


def estimate_lesions(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, groups: Sequence[str], threshold: float, seed: int = 0
) -> dict[str, Estimate]:
    """`estimate` with one answer per lesion, as `pool` makes it."""
    p, t, lesions = pool(probabilities, truth, groups)
    return estimate(p, t, lesions, threshold, seed)


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


def point(values: dict[str, Floats]) -> dict[str, float | None]:
    """The single figures of `measure` without weights, None for NaN."""
    return {name: to_finite(float(value[0])) for name, value in values.items()}
