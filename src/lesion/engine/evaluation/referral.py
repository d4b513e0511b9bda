"""When the model does not answer alone, and what that is worth."""

from collections import Counter

import numpy as np

from lesion.engine.evaluation.answers import Bools, SplitAnswers
from lesion.evaluation import Referral
from lesion.inference.decide import Floats
from lesion.metrics import confusion, estimate_figures, estimate_risk_coverage, rates
from lesion.metrics.bootstrap import count_lesions
from lesion.metrics.reasons import explain_interval
from lesion.metrics.samples import divide

EDGE = 1e-9  # of probabilities, so that the log-odds of the most certain ones stay finite


def estimate_referral(answers: SplitAnswers) -> tuple[Referral, dict[str, str]]:
    """All about sets, flags and third answers, and why what cannot be computed cannot ("referral.missed" → why)."""
    sets, p, truth = answers.manifest.conformal, answers.malignant, answers.truth
    predicted, referred, lesions = answers.predicted, answers.referred, answers.lesions
    share = _weigh_lesions(lesions)

    def measure(weights: Floats) -> dict[str, Floats]:
        answered = rates(confusion(predicted, truth, weights * ~referred))
        return {
            "malignant_covered": _share(p >= sets.malignant_from, truth, weights * share),
            "benign_covered": _share(p <= sets.benign_to, ~truth, weights * share),
            "referred": _share(referred, np.ones_like(truth), weights),
            "sensitivity": answered["sensitivity"],
            "specificity": answered["specificity"],
            "missed": _share(~predicted & ~referred, truth, weights),
            "missed_alone": _share(~predicted, truth, weights),
            "rescued": _share(referred, truth & ~predicted, weights),
            "withdrawn": _share(referred, predicted, weights),
        }

    of = {
        "malignant_covered": (truth, "no image is malignant"),
        "benign_covered": (~truth, "every image is malignant"),
        "referred": (np.ones_like(truth), "there are no images"),
        "sensitivity": (truth & ~referred, "no malignant image is answered"),
        "specificity": (~truth & ~referred, "no benign image is answered"),
        "missed": (truth, "no image is malignant"),
        "missed_alone": (truth, "no image is malignant"),
        "rescued": (truth & ~predicted, "no malignant image is answered benign"),
        "withdrawn": (predicted, "no image is answered malignant"),
    }
    found = estimate_figures(
        measure, lesions, trials={name: count_lesions(lesions, each) for name, (each, _) in of.items()}
    )
    risk = estimate_risk_coverage(measure_certainty(p, answers.manifest.threshold), predicted != truth, lesions)
    why = {
        f"referral.{name}": explain_interval(count_lesions(lesions, each)) if each.any() else reason
        for name, (each, reason) in of.items()
        if found[name].low is None
    }
    if risk.area.low is None:
        why["referral.area"] = explain_interval(len(set(lesions)))
    flags = Counter(flag for each in answers.predictions for flag in each.flags)
    return Referral(
        sets.coverage, **found, flags=dict(flags.most_common()), risk_coverage=risk.curve, area=risk.area,
        malignant_goal=sets.goals[0], benign_goal=sets.goals[1],
    ), why  # fmt: skip


def measure_certainty(malignant: Floats, threshold: float) -> Floats:
    """How far (n,) malignant probabilities lie from the operating point, in log-odds: (n,), 0 is least certain."""
    p, t = (np.clip(each, EDGE, 1 - EDGE) for each in (malignant, threshold))
    return np.asarray(np.abs(np.log(p / (1 - p)) - np.log(t / (1 - t))))


def _weigh_lesions(lesions: list[str]) -> Floats:
    """(n,) weights that let each lesion count once."""
    _, index, images = np.unique(lesions, return_inverse=True, return_counts=True)
    return np.asarray(1 / images[index])


def _share(inside: Bools, of: Bools, weights: Floats) -> Floats:
    return divide(weights @ (inside & of), weights @ of)
