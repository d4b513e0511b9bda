"""From the answers for a split to the record of an evaluation."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from lesion import metrics
from lesion.data.split import Dataset
from lesion.engine.evaluation.answers import SplitAnswers
from lesion.engine.evaluation.referral import estimate_referral
from lesion.engine.evaluation.subgroups import estimate_subgroups
from lesion.engine.evaluation.worst import find_worst
from lesion.evaluation import Bin, Evaluation, OperatingRow
from lesion.inference.predictor import Pixels
from lesion.metrics.bootstrap import count_lesions
from lesion.progress import Progress, show_bar
from lesion.records import Curve, Estimate

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Figure → its field of OperatingRow.
OF_THRESHOLDS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "positive_predictive_value",
    "negative_predictive_value": "negative_predictive_value",
}
Reasons = dict[str, str]
OfDiagnoses = dict[str, dict[str, Estimate]]


def find_findings(
    answers: SplitAnswers, pixels: Pixels, dataset: Dataset, split: str, model: str, progress: Progress
) -> Evaluation:
    """All that follows from the answers alone: no stress, no gain, no time but that of the answers."""
    p, truth, lesions, manifest = answers.malignant, answers.truth, answers.lesions, answers.manifest
    with show_bar(progress, "measure", 5):
        figures, of_lesions, undefined = _estimate_figures(answers)
        progress.advance()
        diagnoses, counts, why_diagnoses = _estimate_diagnoses(answers)
        progress.advance()
        referral, why_referral = estimate_referral(answers)
        progress.advance()
        subgroups, why_subgroups = estimate_subgroups(answers, pixels)
        progress.advance()
        return Evaluation(
            model=model,
            split=split,
            data=dataset.name,
            fingerprint=dataset.fingerprint,
            images=len(truth),
            lesions=len(set(lesions)),
            malignant=int(truth.sum()),
            malignant_lesions=count_lesions(lesions, truth),
            threshold=manifest.threshold,
            operating_point=str(manifest.provenance.get("operating_point", "not recorded")),
            temperature=manifest.temperature,
            tta=False,
            metrics=figures,
            lesion_metrics=of_lesions,
            undefined=undefined | why_diagnoses | why_referral | why_subgroups,
            confusion={name: int(n[0]) for name, n in metrics.confusion(answers.predicted, truth).items()},
            calibration_error_before=_measure_error(answers),
            diagnoses=diagnoses,
            diagnosis_counts=counts,
            roc=metrics.estimate_roc(p, truth, lesions),
            precision_recall=metrics.estimate_precision_recall(p, truth, lesions),
            reliability=_to_bins(metrics.estimate_reliability(p, truth, lesions)),
            reliability_before=_to_bins(metrics.estimate_reliability(answers.uncalibrated, truth, lesions)),
            decision_curve=_draw_decisions(metrics.estimate_decision_curve(p, truth, lesions)),
            operating_table=_tabulate(answers),
            referral=referral,
            subgroups=subgroups,
            stress=[],
            worst=find_worst(answers),
            seconds=0.0,
            images_per_second=len(truth) / answers.seconds,
        )


def _estimate_figures(answers: SplitAnswers) -> tuple[dict[str, Estimate], dict[str, Estimate], Reasons]:
    """By image, by lesion, and why what has none has no value or no interval."""
    p, truth, lesions, threshold = answers.malignant, answers.truth, answers.lesions, answers.manifest.threshold
    figures = metrics.estimate(p, truth, lesions, threshold)
    of_lesions = metrics.estimate_lesions(p, truth, lesions, threshold)
    pooled, any_malignant, ids = metrics.pool(p, truth, lesions)
    why = metrics.explain(figures, truth, p >= threshold, lesions)
    why |= _prefix("lesion", metrics.explain(of_lesions, any_malignant, pooled >= threshold, ids))
    why |= {name: reason for name in ("roc", "precision_recall") if (reason := metrics.why_undefined(name, truth))}
    return figures, of_lesions, why


def _estimate_diagnoses(answers: SplitAnswers) -> tuple[OfDiagnoses, dict[str, int], Reasons]:
    """Figures by diagnosis with their macro mean, images by diagnosis, and why there are none."""
    taxonomy = answers.manifest.taxonomy
    counts = dict(Counter(row.dx for row in answers.rows).most_common())
    if not taxonomy.knows_diagnoses:
        return {}, counts, {"diagnoses": "the model knows only benign and malignant"}
    if strange := sorted(set(counts) - set(taxonomy.labels)):
        return {}, counts, {"diagnoses": f"the model does not know {', '.join(strange)}"}
    targets = [taxonomy.labels.index(row.dx) for row in answers.rows]
    found = metrics.estimate_diagnoses(answers.probabilities, targets, taxonomy.labels, answers.lesions)
    why = _prefix("diagnoses.macro", found.missing)
    for label, one in found.each.items():
        why |= _prefix(f"diagnoses.{label}", one.missing)
    return {label: one.figures for label, one in found.each.items()} | {"macro": found.macro}, counts, why


def _prefix(prefix: str, reasons: Mapping[str, str]) -> Reasons:
    return {f"{prefix}.{name}": reason for name, reason in reasons.items()}


def _to_bins(bins: tuple[metrics.ReliabilityBin, ...]) -> list[Bin]:
    return [Bin(each.start, each.end, each.images, each.probability, each.observed) for each in bins]


def _draw_decisions(found: metrics.DecisionCurve) -> dict[str, Curve]:
    x, blank = found.model.x, (None,) * len(found.model.x)
    none = tuple(None if value is None else 0.0 for value in found.model.y)
    return {
        "model": found.model,
        "all": Curve(x, found.everyone, blank, blank),
        "none": Curve(x, none, blank, blank),
    }


def _measure_error(answers: SplitAnswers) -> Estimate:
    """The calibration error without the temperature."""
    (error,) = metrics.calibration_error(answers.uncalibrated, answers.truth).tolist()
    return Estimate(error if np.isfinite(error) else None, None, None)


def _tabulate(answers: SplitAnswers) -> list[OperatingRow]:
    """What round thresholds, and the model's own, would give."""
    own, p = answers.manifest.threshold, answers.malignant
    rows = metrics.estimate_thresholds(p, answers.truth, answers.lesions, sorted({*THRESHOLDS, own}))
    return [
        OperatingRow(
            threshold=row.threshold,
            sensitivity=row.figures["sensitivity"].value,
            specificity=row.figures["specificity"].value,
            positive_predictive_value=row.figures["precision"].value,
            negative_predictive_value=row.figures["negative_predictive_value"].value,
            flagged=float((p >= row.threshold).mean()),
            chosen=row.threshold == own,
            intervals={field: row.figures[name] for name, field in OF_THRESHOLDS.items()},
        )
        for row in rows
    ]
