"""Logits to an answer: the only softmax, the only malignant sum, the only threshold, the only referral."""

import numpy as np
import numpy.typing as npt

from lesion.errors import CheckFailed
from lesion.manifest import Manifest
from lesion.records import REFER, Prediction
from lesion.taxonomy import BENIGN, MALIGNANT

Floats = npt.NDArray[np.float64]
UNCERTAIN = "uncertain"


def to_probabilities(logits: npt.ArrayLike, temperature: float) -> Floats:
    """Calibrated probabilities of (n, c) logits: (n, c) float64, rows add up to 1 or, of infinite logits, are NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = np.asarray(logits, np.float64) / temperature
        z = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(z / z.sum(axis=1, keepdims=True))


def to_malignant(probabilities: npt.ArrayLike, manifest: Manifest) -> Floats:
    """The probability of "malignant" for (n, c) probabilities: (n,) float64."""
    return np.asarray(np.asarray(probabilities, np.float64)[:, list(manifest.taxonomy.malignant_outputs)].sum(axis=1))


def is_certain(malignant: npt.ArrayLike, manifest: Manifest) -> npt.NDArray[np.bool_]:
    """Whether the two-class answer is all that the conformal set of each of (n,) malignant probabilities holds."""
    p, sets = np.asarray(malignant, np.float64), manifest.conformal
    alarmed, may_be_malignant, may_be_benign = p >= manifest.threshold, p >= sets.malignant_from, p <= sets.benign_to
    return np.where(alarmed, may_be_malignant & ~may_be_benign, may_be_benign & ~may_be_malignant)


def find_flags(measures: npt.ArrayLike, manifest: Manifest) -> list[tuple[str, ...]]:
    """What each of n images is flagged for, from the graph's measures (n, k) of it. Not a number is out of range."""
    return [
        tuple(flag for check, value in zip(manifest.checks, row, strict=True) if (flag := check.flag(value)))
        for row in np.asarray(measures, np.float64)
    ]


def decide(probabilities: Floats, measures: npt.ArrayLike, source: str, manifest: Manifest, model: str) -> Prediction:
    """The record for one image from its (c,) probabilities and (k,) measures.

    Raises CheckFailed when a probability is NaN. The message does not hold `source`: a server logs the message, and the
    name that a client gave its file may be that of a patient.
    """
    if not np.isfinite(probabilities).all():  # NaN is below every threshold: it would read as benign
        raise CheckFailed(f"{model} has no answer: a probability is not a number", hint="export the model again")
    malignant = min(float(to_malignant(probabilities[None], manifest)[0]), 1.0)
    by_class = {BENIGN: 1 - malignant, MALIGNANT: malignant}
    answer = MALIGNANT if malignant >= manifest.threshold else BENIGN
    flags = find_flags(np.asarray(measures)[None], manifest)[0]
    if not is_certain([malignant], manifest)[0]:
        flags = (UNCERTAIN, *flags)
    labels = manifest.taxonomy.labels
    diagnoses = dict(zip(labels, map(float, probabilities), strict=True)) if manifest.taxonomy.knows_diagnoses else None
    decision = REFER if flags else answer
    return Prediction(source, answer, by_class[answer], decision, flags, by_class, diagnoses, model)
