"""Why a figure has no value, in words."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import count_lesions
from lesion.records import Estimate
from lesion.taxonomy import MALIGNANT

OF_POSITIVES = ("sensitivity", "f1")
OF_NEGATIVES = ("specificity",)
OF_BOTH = (
    "auroc", "average_precision", "partial_auroc", "sensitivity_at_95_specificity", "specificity_at_95_sensitivity",
    "balanced_accuracy", "roc", "precision_recall", "calibration_slope", "calibration_intercept",
)  # fmt: skip
POINTS = ("calibration_error", "calibration_error_excess")  # figures that never have an interval
TOO_FEW = "there are too few lesions for an interval"
AGREE = "all resamples of the lesions give the same value, so they do not show how far it may be off"
NO_SLOPE = "no slope fits: the probabilities are all equal, or they separate the classes"
LEAST = 3  # lesions; in resamples of fewer a class is often absent


def why_undefined(
    name: str, truth: npt.ArrayLike, predicted: npt.ArrayLike | None = None, positive: str = MALIGNANT
) -> str | None:
    """Why the figure `name` of `measure` cannot be computed, or None when it can.

    `truth` and `predicted` are (n,) bool, of which `positive` is the word for True. Without `predicted`, precision
    and negative predictive value are judged by `truth` alone.
    """
    t = np.asarray(truth, bool)
    if not len(t):
        return "there are no images"
    if name in OF_POSITIVES + OF_BOTH and not t.any():
        return f"no image is {positive}"
    if name in OF_NEGATIVES + OF_BOTH and t.all():
        return f"every image is {positive}"
    if predicted is None:
        return None
    p = np.asarray(predicted, bool)
    if name == "precision" and not p.any():
        return f"no image is called {positive}"
    if name == "negative_predictive_value" and p.all():
        return f"every image is called {positive}"
    return None


def explain(
    estimates: Mapping[str, Estimate],
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    groups: Sequence[str],
    positive: str = MALIGNANT,
) -> dict[str, str]:
    """The reason for every figure that lacks its value or its interval, except the interval of `POINTS`.

    `groups` is (n,) lesion ids; other arguments as in `why_undefined`.
    """
    t = np.asarray(truth, bool)
    smallest = min((count_lesions(groups, each) for each in (t, ~t) if each.any()), default=0)
    return {
        name: why_undefined(name, truth, predicted, positive)
        or (NO_SLOPE if name == "calibration_slope" and estimate.value is None else explain_interval(smallest))
        for name, estimate in estimates.items()
        if estimate.low is None and not (name in POINTS and estimate.value is not None)
    }


def explain_interval(lesions: int) -> str:
    """Why a figure has a value and no interval, the smallest class that it is of having so many lesions."""
    return TOO_FEW if lesions < LEAST else AGREE
