"""The largest errors, one picture each, and where the model looked."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lesion.engine.evaluation.answers import SplitAnswers
from lesion.evaluation import Case
from lesion.inference.explain import Singles
from lesion.inference.predictor import Pixels, Predictor
from lesion.taxonomy import BENIGN, MALIGNANT

MOST = 12  # of either kind
Pictures = Mapping[str, tuple[Pixels, Singles]]
"""Image id → pixels (s, s, 3) and what each of (h, w) positions adds to the log-odds of "malignant"."""


def find_worst(answers: SplitAnswers) -> list[Case]:
    """The missed malignant images, then the false alarms, the most certain first; of a lesion the worst."""
    wrong, p = answers.predicted != answers.truth, answers.malignant
    missed = _pick(answers, np.flatnonzero(wrong & answers.truth).tolist(), p)
    alarms = _pick(answers, np.flatnonzero(wrong & ~answers.truth).tolist(), -p)
    return [_to_case(answers, i) for i in (*missed, *alarms)]


def explain_worst(worst: Sequence[Case], answers: SplitAnswers, pixels: Pixels, predictor: Predictor) -> Pictures:
    """Picture and heat map of each case."""
    place = {row.image_id: i for i, row in enumerate(answers.rows)}
    chosen = pixels[[place[case.image_id] for case in worst]]
    heats = predictor.explain(chosen) if worst else ()
    return {case.image_id: (picture, heat) for case, picture, heat in zip(worst, chosen, heats, strict=True)}


def _pick(answers: SplitAnswers, places: Sequence[int], score: npt.NDArray[np.float64]) -> list[int]:
    worst: dict[str, int] = {}
    for i in sorted(places, key=lambda i: float(score[i])):
        worst.setdefault(answers.rows[i].lesion_id, i)
    return list(worst.values())[:MOST]


def _to_case(answers: SplitAnswers, i: int) -> Case:
    row, answer = answers.rows[i], answers.predictions[i]
    return Case(
        image_id=row.image_id,
        dx=row.dx,
        truth=MALIGNANT if answers.truth[i] else BENIGN,
        malignant=answer.class_probabilities[MALIGNANT],
        prediction=answer.prediction,
        decision=answer.decision,
        flags=answer.flags,
        diagnosis_probabilities=answer.diagnosis_probabilities,
    )
