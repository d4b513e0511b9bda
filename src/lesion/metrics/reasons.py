"""Why a figure has no value, in words."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lesion.records import Estimate
from lesion.taxonomy import MALIGNANT

OF_POSITIVES = ("sensitivity", "f1")
OF_NEGATIVES = ("specificity",)
OF_BOTH = (
    "auroc", "average_precision", "partial_auroc", "sensitivity_at_95_specificity", "specificity_at_95_sensitivity",
    "balanced_accuracy", "roc", "precision_recall",
)  # fmt: skip
TOO_FEW = "there are too few lesions for an interval"


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
    estimates: Mapping[str, Estimate], truth: npt.ArrayLike, predicted: npt.ArrayLike, positive: str = MALIGNANT
) -> dict[str, str]:
    """The reason for every figure that lacks its value or its interval; arguments as in `why_undefined`."""
    return {
        name: why_undefined(name, truth, predicted, positive) or TOO_FEW
        for name, estimate in estimates.items()
        if estimate.low is None
    }
