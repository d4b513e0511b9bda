"""What decisions at a threshold are worth: counts, rates, net benefit."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lesion.metrics.samples import Floats, divide, to_probabilities, to_weights


def confusion(
    predicted: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> dict[str, Floats]:
    """Weighted counts tp, fp, fn, tn, each (b,), of (n,) bool predictions against (n,) bool truth."""
    p, t = np.asarray(predicted, bool), np.asarray(truth, bool)
    w = to_weights(weights, len(t))
    counts = w @ np.stack([p & t, p & ~t, ~p & t, ~p & ~t], axis=1).astype(float)
    return dict(zip(("tp", "fp", "fn", "tn"), counts.T, strict=True))


def confusion_at(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> dict[str, Floats]:
    """As `confusion` for each of (k,) thresholds, from which on an image counts as malignant: (b, k)."""
    p, t = to_probabilities(probabilities, truth)
    w = to_weights(weights, len(t))
    flagged = (p[:, None] >= np.asarray(thresholds, float)).astype(float)
    tp, fp = (w * t) @ flagged, (w * ~t) @ flagged
    return {"tp": tp, "fp": fp, "fn": (w @ t)[:, None] - tp, "tn": (w @ ~t)[:, None] - fp}


def rates(cells: Mapping[str, Floats]) -> dict[str, Floats]:
    """What follows from the counts of `confusion`, in their shape; NaN where a rate has no images to be of."""
    tp, fp, fn, tn = (cells[name] for name in ("tp", "fp", "fn", "tn"))
    sensitivity, specificity = divide(tp, tp + fn), divide(tn, tn + fp)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": divide(tp, tp + fp),
        "negative_predictive_value": divide(tn, tn + fn),
        "f1": np.where(tp + fn > 0, divide(2 * tp, 2 * tp + fp + fn), np.nan),  # else 0, however good the model
        "accuracy": divide(tp + tn, tp + fp + fn + tn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
    }


def net_benefit(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Net benefit of the model, and of treating everyone, at (k,) threshold probabilities in [0, 1).

    True positives per image, less the false ones at the odds of the threshold: whoever acts from a probability of
    0.1 on accepts nine false alarms for a find (Vickers & Elkin 2006, doi:10.1177/0272989X06295361). Treating nobody
    is 0. The probabilities have to be calibrated for the curve to mean this.

    Returns:
        Two (b, k), at most the share of positives; NaN in a row without images.
    """
    pt = np.asarray(thresholds, float)
    odds = pt / (1 - pt)
    cells = confusion_at(probabilities, truth, pt, weights)
    positives, negatives = cells["tp"] + cells["fn"], cells["fp"] + cells["tn"]
    images = positives + negatives
    return divide(cells["tp"] - odds * cells["fp"], images), divide(positives - odds * negatives, images)
