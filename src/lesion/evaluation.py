"""What an evaluation found: the records behind `lesion eval`, its JSON, its page and the model card."""

from dataclasses import dataclass, field

from lesion.records import Curve, Estimate


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram."""

    low: float
    high: float
    """Its range of malignant probabilities."""
    count: int
    mean: float | None
    """Mean probability of its images; None when it is empty."""
    frequency: Estimate
    """Share of its images that are malignant."""


@dataclass(frozen=True, slots=True)
class OperatingRow:
    """What a threshold would give."""

    threshold: float
    sensitivity: float | None
    specificity: float | None
    positive_predictive_value: float | None
    negative_predictive_value: float | None
    flagged: float
    """Share of all images that would be called malignant."""
    chosen: bool
    """Whether it is the model's own."""
    intervals: dict[str, Estimate] = field(default_factory=dict)
    """Field → its figure with interval, of the four above; empty in evaluations of older versions."""


@dataclass(frozen=True, slots=True)
class Referral:
    """When the model does not answer alone."""

    coverage: float
    """The goal of the conformal sets; the lesser of the two when each class has its own."""
    malignant_covered: Estimate
    """Share of malignant images with "malignant" in their set, over lesions."""
    benign_covered: Estimate
    referred: Estimate
    """Share of images that are referred, for whatever reason."""
    flags: dict[str, int]
    """Flag → images; one image can have several."""
    sensitivity: Estimate
    """Of the images that are answered; a referred one counts neither way."""
    specificity: Estimate
    missed: Estimate
    """Share of malignant images that are answered "benign" and not referred."""
    risk_coverage: Curve
    """Share of answered images (x) to share of wrong answers among them (y), the least certain referred first."""
    area: Estimate
    """Under that curve; 0 is best."""
    malignant_goal: float
    """The share of malignant lesions that the sets were made to cover."""
    benign_goal: float
    missed_alone: Estimate
    """Share of malignant images that are answered "benign": what `missed` would be without referral."""
    rescued: Estimate
    """Share of those that are referred."""
    withdrawn: Estimate
    """Share of the images answered "malignant" that are referred instead."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """How the model does on some of the images."""

    group: str
    """What is told apart: age, sex, site …"""
    value: str
    images: int
    lesions: int
    malignant: int
    metrics: dict[str, Estimate]
    undefined: dict[str, str]
    """Figure → why it has no value, or no interval, here."""
    rest: dict[str, float] = field(default_factory=dict)
    """AUROC, sensitivity and specificity of all other images, where they can be compared."""
    p_lower: dict[str, float] = field(default_factory=dict)
    """Figure → one-sided p-value of being lower than in `rest`, corrected for all comparisons (Holm)."""


@dataclass(frozen=True, slots=True)
class Stress:
    """How the model does when every image is changed in one way."""

    name: str
    level: str
    """How strong the change is, in words with units."""
    auroc: Estimate
    auroc_change: Estimate
    """Paired with the unchanged images; negative is worse."""
    flipped: Estimate
    """Share of images whose two-class answer changes."""
    referred: float
    """Share of the changed images that are referred."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image worth a look."""

    image_id: str
    dx: str
    truth: str
    """"malignant" or "benign"."""
    malignant: float
    """Its malignant probability."""
    prediction: str
    decision: str
    flags: tuple[str, ...]
    diagnosis_probabilities: dict[str, float] | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How model A does less how model B does, on the same images."""

    figure: str
    a: Estimate
    b: Estimate
    difference: Estimate
    p_value: float | None
    """Two-sided; None where it cannot be computed."""
    method: str
    """How interval and p-value were found: "lesion bootstrap", "Newcombe, lesion bootstrap", "DeLong" …"""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model file did on a split."""

    model: str
    split: str
    data: str
    """Name of the dataset."""
    fingerprint: str
    """Of the split."""
    images: int
    lesions: int
    malignant: int
    malignant_lesions: int
    threshold: float
    operating_point: str
    """How the threshold was chosen."""
    temperature: float
    tta: bool
    """Whether each answer is the mean over eight views."""
    metrics: dict[str, Estimate]
    """Over images."""
    lesion_metrics: dict[str, Estimate]
    """Over lesions, each with the mean probability of its images."""
    undefined: dict[str, str]
    """Figure → why it has no value, or no interval; "lesion.auroc", "diagnoses.mel.f1", "referral.missed" …"""
    confusion: dict[str, int]
    """tp, fp, fn, tn at the threshold; malignant is positive."""
    calibration_error_before: Estimate
    """Without the temperature; no interval."""
    diagnoses: dict[str, dict[str, Estimate]]
    """Diagnosis, and "macro", → figures one against the rest; empty for a model of two classes."""
    diagnosis_counts: dict[str, int]
    roc: Curve
    """1 - specificity to sensitivity."""
    precision_recall: Curve
    """Recall to precision."""
    reliability: list[Bin]
    reliability_before: list[Bin]
    decision_curve: dict[str, Curve]
    """"model", "all" and "none": threshold probability to net benefit."""
    operating_table: list[OperatingRow]
    referral: Referral
    subgroups: list[Subgroup]
    stress: list[Stress]
    """Empty when it was not asked for."""
    worst: list[Case]
    """Missed malignant images first, each with the largest error first, then false alarms."""
    seconds: float
    images_per_second: float
    """Of the answers alone, from ready pixels."""
    tta_gain: list[Difference] = field(default_factory=list)
    """What the eight views change: with them (a) less without (b); empty for a plain evaluation."""
    plain_images_per_second: float | None = None
    """Without them, for comparison."""


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Two models on the same split."""

    a: str
    b: str
    split: str
    fingerprint: str
    images: int
    lesions: int
    differences: list[Difference]
    flipped: int
    """Images with another two-class answer."""
    roc_a: Curve
    roc_b: Curve
    """1 - specificity to sensitivity."""
