"""Figures, flags and groups in words: the same on the page and on the card."""

from collections.abc import Mapping

from lesion.evaluation import Evaluation, Subgroup
from lesion.metrics.reasons import POINTS
from lesion.records import Estimate
from lesion.taxonomy import DIAGNOSES

# Name → title, and what it says in one line.
FIGURES = {
    "auroc": ("AUROC", "chance that a malignant image is ranked above a benign one; 0.5 is guessing"),
    "average_precision": ("AUPRC", "precision averaged over all sensitivities (average precision)"),
    "partial_auroc": ("Partial AUROC", "area of the ROC curve above 80 % sensitivity; 0.2 is perfect, 0.02 guessing"),
    "sensitivity_at_95_specificity": ("Sensitivity at 95 % specificity", "at the threshold that 5 % of benign reach"),
    "specificity_at_95_sensitivity": (
        "Specificity at 95 % sensitivity",
        "at the threshold that 95 % of malignant reach",
    ),
    "sensitivity": ("Sensitivity (recall)", "share of malignant that are called malignant"),
    "specificity": ("Specificity", "share of benign that are called benign"),
    "precision": ("Precision (PPV)", "share of those called malignant that are"),
    "negative_predictive_value": ("Negative predictive value", "share of those called benign that are"),
    "f1": ("F1", "harmonic mean of sensitivity and precision"),
    "accuracy": ("Accuracy", "share of right answers; calling all benign scores high, too"),
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity"),
    "diagnoses": ("Diagnoses", ""),
    "brier": ("Brier score", "mean squared error of the probability; lower is better"),
    "log_loss": ("Log loss", "mean surprise at the truth, in nats; lower is better"),
    "calibration_error": (
        "Calibration error (ECE)",
        "mean distance of probability and frequency, chance included; no interval holds for it",
    ),
    "calibration_error_expected": (
        "ECE by chance",
        "what these probabilities would show if they were perfectly calibrated: mean and 95 % range",
    ),
    "calibration_error_excess": ("ECE beyond chance", "the calibration error less its mean by chance; 0 is best"),
    "calibration_slope": ("Calibration slope", "1 is best; below 1 the probabilities are too extreme"),
    "calibration_intercept": (
        "Calibration intercept",
        "0 is best; above 0 the probabilities are too low on average (in log-odds)",
    ),
    "roc": ("ROC curve", ""),
    "precision_recall": ("Precision-recall curve", ""),
    "referred": ("Referred", "share of images that are referred to a person"),
    "missed": ("Missed", "share of malignant images that are neither found nor referred"),
    "missed_alone": ("Missed without referral", "share of malignant images that are answered benign"),
    "rescued": ("Rescued", "share of the malignant images answered benign that are referred"),
    "withdrawn": ("Alarms withdrawn", "share of the images answered malignant that are referred instead"),
    "malignant_covered": ("Malignant covered", "share of malignant images with “malignant” in their set, over lesions"),
    "benign_covered": ("Benign covered", "share of benign images with “benign” in their set, over lesions"),
    "flipped": ("Flipped", "share of images whose two-class answer changes"),
    "area": ("Area under the risk-coverage curve", "lower is better"),
}
SHARES = {
    "sensitivity", "specificity", "precision", "negative_predictive_value", "accuracy", "balanced_accuracy",
    "sensitivity_at_95_specificity", "specificity_at_95_sensitivity", "referred", "missed",
    "missed_alone", "rescued", "withdrawn", "malignant_covered",
    "benign_covered", "flipped",
}  # fmt: skip
FLAGS = {
    "uncertain": "the probability fits both classes, or neither",
    "unlike_training": "unlike the images that the model learned from",
    "blurred": "blurred",
    "noisy": "noisy or full of fine detail",
    "too_dark": "too dark",
    "too_bright": "too bright",
    "low_contrast": "too little contrast",
    "high_contrast": "too much contrast",
}
GROUPS = {
    "age": "Age",
    "sex": "Sex",
    "site": "Body site",
    "confirmation": "How the diagnosis was confirmed",
}
VALUES = {
    "histo": "histopathology",
    "follow_up": "follow-up",
    "consensus": "consensus of experts",
    "confocal": "confocal microscopy",
}
SPLITS = {
    "test": "No lesion of this split was used to train the model or to choose its threshold.",
    "val": "The threshold, the temperature and the checks were fitted to this very split: its figures flatter.",
    "train": "The model was trained on these very images: the figures say nothing about new ones.",
}
MEAN = "macro"
INTERVALS = (
    "95 % intervals from a bootstrap over lesions: all images of a lesion are drawn together; of shares Wilson's, for "
    "as many trials as their variance is worth"
)
WEAK = 0.05  # corrected p-value of a subgroup, below which it is named
CORRECTED = (
    f"The chance that any of the comparisons names a subgroup that is no worse is at most {100 * WEAK:g} % (Holm). A "
    "subgroup can be lower because its lesions are harder to judge."
)
PROXY = (
    "Skin tone is a proxy here: it is computed from the colours of the picture, which light and camera change, too. It "
    "is not the skin type of the patient."
)


def name_figure(name: str) -> str:
    """The title of a figure; one that is not known keeps its name."""
    return FIGURES.get(name, (to_words(name), ""))[0]


def name_path(path: str) -> str:
    """What a dotted name of a figure means: "lesion.auroc", "diagnoses.mel.f1", "subgroups.sex"."""
    place, _, last = path.rpartition(".")
    if place == "lesion":
        return f"{name_figure(last)} over lesions"
    if place == "subgroups":
        return f"Subgroups by {last}"
    if place.startswith("diagnoses."):
        dx = place.removeprefix("diagnoses.")
        return f"{name_figure(last)}, {'mean of all diagnoses' if dx == MEAN else name_diagnosis(dx)}"
    return f"{name_figure(last)}, referral" if place else name_figure(last)


def name_diagnosis(dx: str) -> str:
    """A diagnosis in words, its code behind."""
    return f"{DIAGNOSES[dx]} ({dx})" if dx in DIAGNOSES else dx


def name_group(group: str) -> str:
    """What subgroups are told apart by."""
    return GROUPS.get(group, to_words(group))


def is_proxy(group: str) -> bool:
    """Whether subgroups by this are told apart by a stand-in for skin tone."""
    return "tone" in group


def name_flags(flags: Mapping[str, int] | tuple[str, ...]) -> str:
    """Flags in words, in their order."""
    return "; ".join(FLAGS.get(flag, to_words(flag)) for flag in flags)


def to_words(name: str) -> str:
    """A name as a heading."""
    return (name[:1].upper() + name[1:]).replace("_", " ")


def is_lower(group: Subgroup, figure: str) -> bool:
    """Whether a subgroup is lower than all other images, by its corrected p-value."""
    return group.p_lower.get(figure, 1.0) < WEAK


def show_chance_error(evaluation: Evaluation) -> str:
    """What of the calibration error chance explains, with slope and intercept, in sentences; empty if unknown."""
    metrics = evaluation.metrics
    chance = metrics.get("calibration_error_expected")
    if chance is None or chance.value is None:
        return ""
    shape = ", ".join(
        f"{title} {show(metrics[name])}"
        for name, title in (("calibration_slope", "Slope"), ("calibration_intercept", "intercept"))
        if name in metrics
    )
    return (
        f"With perfectly calibrated probabilities, chance alone would show {show_number(chance.value)} on average, "
        f"{show_number(chance.low)} to {show_number(chance.high)} in 95 % of the cases. {shape}."
    )


def show(estimate: Estimate, name: str = "", alone: bool = False) -> str:
    """A figure with its interval, as a percentage where `name` is a share; "–" without a value.

    A figure that never has an interval, or that is to be shown `alone`, is its value.
    """
    if estimate.value is None:
        return "–"
    write = show_share if name in SHARES else show_number
    if alone or (name in POINTS and estimate.low is None):
        return write(estimate.value)
    if estimate.low is None or estimate.high is None:
        return f"{write(estimate.value)} (no interval)"
    low, high = write(estimate.low), write(estimate.high)
    return f"{write(estimate.value)} ({low.removesuffix(' %')} to {high})"


def show_number(value: float | None) -> str:
    """Three decimals, with a true minus; "–" for None."""
    return "–" if value is None else f"{value + 0.0:.3f}".replace("-", "−").replace("−0.000", "0.000")


def show_share(value: float | None) -> str:
    """A share in percent; "–" for None."""
    return "–" if value is None else f"{100 * value + 0.0:.1f} %".replace("-", "−").replace("−0.0 ", "0.0 ")


def show_chance(p_value: float | None) -> str:
    """A p-value; one that is not 0 is never rounded to it."""
    return "< 0.001" if p_value is not None and p_value < 0.001 else show_number(p_value)


def show_round(share: float) -> str:
    """A share that was set, not measured, in percent."""
    return f"{100 * share:.3g} %"


def show_rule(rule: str) -> str:
    """How an operating point was chosen, as it is recorded."""
    return rule.replace(">=", "≥")


def of_hundred(share: float) -> str:
    """A share as a count out of 100; what is not none or all is never rounded to it."""
    if 0 < share < 0.005:
        return "fewer than 1"
    return "more than 99" if 0.995 <= share < 1 else f"{100 * share:.0f}"
