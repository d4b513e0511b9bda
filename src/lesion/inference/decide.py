"""Logits to an answer: the only softmax, the only malignant sum, the only threshold."""

import numpy as np
import numpy.typing as npt

from lesion.artifact import Manifest
from lesion.errors import CheckFailed
from lesion.records import Prediction
from lesion.taxonomy import BENIGN, MALIGNANT

Floats = npt.NDArray[np.float64]


def to_probabilities(logits: npt.ArrayLike, temperature: float) -> Floats:
    """Calibrated probabilities of (n, c) logits: (n, c) float64, rows add up to 1 or, of infinite logits, are NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = np.asarray(logits, np.float64) / temperature
        z = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(z / z.sum(axis=1, keepdims=True))


def to_malignant(probabilities: npt.ArrayLike, manifest: Manifest) -> Floats:
    """The probability of "malignant" for (n, c) probabilities: (n,) float64."""
    return np.asarray(np.asarray(probabilities, np.float64)[:, list(manifest.taxonomy.malignant_outputs)].sum(axis=1))


def decide(probabilities: Floats, source: str, manifest: Manifest, model: str) -> Prediction:
    """The record for one image from its (c,) probabilities; CheckFailed when they are NaN."""
    if not np.isfinite(probabilities).all():  # NaN is below every threshold: it would read as benign
        raise CheckFailed(
            f"{model} has no answer for {source}: a probability is not a number", hint="export the model again"
        )
    malignant = min(float(to_malignant(probabilities[None], manifest)[0]), 1.0)
    by_class = {BENIGN: 1 - malignant, MALIGNANT: malignant}
    answer = MALIGNANT if malignant >= manifest.threshold else BENIGN
    labels = manifest.taxonomy.labels
    diagnoses = dict(zip(labels, map(float, probabilities), strict=True)) if manifest.taxonomy.knows_diagnoses else None
    return Prediction(source, answer, by_class[answer], by_class, diagnoses, model)
