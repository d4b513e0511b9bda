"""A made-up evaluation with every part, from drawn probabilities and the library's own figures."""

from dataclasses import replace
from functools import cache

import numpy as np

from lesion.evaluation import Bin, Case, Evaluation, OperatingRow, Referral, Stress, Subgroup
from lesion.metrics import (
    confusion,
    estimate,
    estimate_decision_curve,
    estimate_diagnoses,
    estimate_lesions,
    estimate_precision_recall,
    estimate_reliability,
    estimate_risk_coverage,
    estimate_roc,
    estimate_thresholds,
)
from lesion.records import Curve, Estimate
from lesion.taxonomy import DIAGNOSES

THRESHOLD = 0.15
NOTHING = Estimate(None, None, None)
Pictures = dict[str, tuple[np.ndarray, np.ndarray]]


@cache
def make_evaluation(images: int = 400, seed: int = 0) -> Evaluation:
    """Images of about two thirds as many lesions, a fifth of them malignant."""
    rng = np.random.default_rng(seed)
    lesion = np.sort(rng.integers(0, images * 2 // 3, images))
    truth = rng.random(images * 2 // 3)[lesion] < 0.2
    p = 1 / (1 + np.exp(-(rng.normal(0, 1.3, images) + np.where(truth, 0.6, -2.6))))
    lesions = [f"HAM_{each:07d}" for each in lesion]
    dx = np.where(truth, rng.choice([0, 1, 4], images), rng.choice([2, 3, 5, 6], images))
    shares = rng.dirichlet(np.ones(7), images) + 0.8 * np.eye(7)[dx]
    metrics = estimate(p, truth, lesions, THRESHOLD)
    decision = estimate_decision_curve(p, truth, lesions)
    flat = (None,) * len(decision.model.x)
    found = estimate_diagnoses(shares / shares.sum(1, keepdims=True), dx, list(DIAGNOSES), lesions)
    return Evaluation(
        model="efficientnet-b0@0123456789ab", split="test", data="synthetic", fingerprint="c8b320cbe612",
        images=images, lesions=len(set(lesions)), malignant=int(truth.sum()),
        malignant_lesions=len({each for each, bad in zip(lesions, truth, strict=True) if bad}),
        threshold=THRESHOLD, operating_point="sensitivity >= 0.95 on validation", temperature=1.31, tta=False,
        metrics=metrics, lesion_metrics=estimate_lesions(p, truth, lesions, THRESHOLD), undefined={},
        confusion={name: int(count[0]) for name, count in confusion(p >= THRESHOLD, truth).items()},
        calibration_error_before=Estimate(0.081, 0.066, 0.095),
        diagnoses={**{name: each.figures for name, each in found.each.items()}, "macro": found.macro},
        diagnosis_counts={name: each.images for name, each in found.each.items()},
        roc=estimate_roc(p, truth, lesions),
        precision_recall=estimate_precision_recall(p, truth, lesions),
        reliability=_to_bins(p, truth, lesions),
        reliability_before=_to_bins(np.clip(2 * p - 0.4, 0, 1), truth, lesions),
        decision_curve={
            "model": decision.model,
            "all": Curve(decision.model.x, decision.everyone, flat, flat),
            "none": Curve(decision.model.x, (0.0,) * len(flat), flat, flat),
        },
        operating_table=_to_rows(p, truth, lesions),
        referral=_make_referral(p, truth, lesions, metrics),
        subgroups=_make_subgroups(truth, lesions, metrics),
        stress=_make_stress(metrics["auroc"]),
        worst=_make_worst(rng), seconds=41.2, images_per_second=212.0,
    )  # fmt: skip


def make_bare() -> Evaluation:
    """Three benign images: next to nothing has a value."""
    full, gap = make_evaluation(), Curve((0.0, 1.0), (None, None), (None, None), (None, None))
    reason = "no image is malignant"
    missing = dict.fromkeys(full.metrics, NOTHING) | {"accuracy": Estimate(1.0, None, None)}
    return replace(
        full, images=3, lesions=3, malignant=0, malignant_lesions=0, metrics=missing, lesion_metrics=missing,
        undefined=dict.fromkeys(full.metrics, reason), confusion={"tp": 0, "fp": 0, "fn": 0, "tn": 3},
        calibration_error_before=NOTHING, diagnoses={}, diagnosis_counts={}, roc=gap, precision_recall=gap,
        reliability=[Bin(0.0, 1.0, 0, None, NOTHING)], reliability_before=[], decision_curve={"model": gap},
        operating_table=[OperatingRow(0.15, None, 1.0, None, 1.0, 0.0, True)], subgroups=[], stress=[], worst=[],
        referral=Referral(0.9, NOTHING, NOTHING, NOTHING, {}, NOTHING, NOTHING, NOTHING, gap, NOTHING, 0.9, 0.9,
                          NOTHING, NOTHING, NOTHING),
    )  # fmt: skip


def make_pictures(evaluation: Evaluation, side: int = 128) -> Pictures:
    """A drawn spot and a drawn map for every case."""
    y, x = np.mgrid[0:side, 0:side] / side
    pictures = {}
    for index, case in enumerate(evaluation.worst):
        inside = ((x - 0.5) ** 2 + (y - 0.45) ** 2 * (1 + index % 3) < 0.07)[..., None]
        pixels = np.where(inside, (120, 70, 55), (215, 170, 150)) + np.random.default_rng(index).integers(0, 20, 3)
        heat = np.random.default_rng(index).normal(0, 0.2, (7, 7)).astype(np.float32)
        heat[3, 2 + index % 3] += 2.0 if case.truth == "malignant" else -2.0
        pictures[case.image_id] = (pixels.astype(np.uint8), heat)
    return pictures


def _to_bins(p: np.ndarray, truth: np.ndarray, lesions: list[str]) -> list[Bin]:
    found = estimate_reliability(p, truth, lesions)
    return [Bin(each.start, each.end, each.images, each.probability, each.observed) for each in found]


def _to_rows(p: np.ndarray, truth: np.ndarray, lesions: list[str]) -> list[OperatingRow]:
    names = ("sensitivity", "specificity", "precision", "negative_predictive_value")
    rows = estimate_thresholds(p, truth, lesions, [0.02, 0.05, 0.1, THRESHOLD, 0.3, 0.5, 0.8])
    return [
        OperatingRow(row.threshold, *(row.figures[name].value for name in names), float((p >= row.threshold).mean()),
                     row.threshold == THRESHOLD)
        for row in rows
    ]  # fmt: skip


def _make_referral(p: np.ndarray, truth: np.ndarray, lesions: list[str], metrics: dict[str, Estimate]) -> Referral:
    risk = estimate_risk_coverage(np.abs(p - THRESHOLD), (p >= THRESHOLD) != truth, lesions)
    flags = {"uncertain": 61, "unlike_training": 14, "blurred": 9, "too_dark": 3}
    covered, referred = Estimate(0.912, 0.861, 0.951), Estimate(0.195, 0.161, 0.231)
    return Referral(
        0.9, covered, Estimate(0.897, 0.870, 0.921), referred, flags, metrics["sensitivity"], metrics["specificity"],
        Estimate(0.021, 0.004, 0.048), risk.curve, risk.area, 0.9, 0.9,
        Estimate(0.048, 0.021, 0.086), Estimate(0.563, 0.25, 0.8), Estimate(0.24, 0.19, 0.29),
    )  # fmt: skip


def _make_subgroups(truth: np.ndarray, lesions: list[str], overall: dict[str, Estimate]) -> list[Subgroup]:
    values = {
        "age": ["under 30", "30 to 59", "60 and over", "unknown"],
        "sex": ["female", "male"],
        "site": ["back", "face", "lower extremity", "scalp"],
        "confirmation": ["histo", "follow_up", "consensus"],
        "skin tone (proxy)": ["very light", "light", "intermediate", "tan"],
    }
    subgroups = []
    for group, names in values.items():
        for index, name in enumerate(names):
            inside = np.arange(index, len(truth), len(names))
            shown = {key: _shift(overall[key], 0.02 * index) for key in ("auroc", "sensitivity", "specificity")}
            shown["referred"] = Estimate(0.2, 0.1, 0.3)
            undefined = {}
            if name == "follow_up":
                shown |= {"auroc": NOTHING, "sensitivity": NOTHING}
                undefined = dict.fromkeys(("auroc", "sensitivity"), "no malignant lesions, at least 10 expected")
            size = len(inside), len({lesions[each] for each in inside}), int(truth[inside].sum())
            subgroups.append(Subgroup(group, name, *size, shown, undefined))
    return subgroups


def _shift(estimate: Estimate, down: float) -> Estimate:
    assert estimate.value is not None
    return Estimate(estimate.value - down, estimate.value - down - 0.03, min(1.0, estimate.value - down + 0.025))


def _make_stress(auroc: Estimate) -> list[Stress]:
    changes = [("hair", "1 to some 20 drawn hairs", -0.012), ("ink", "a drawn spot near the rim", -0.051),
               ("colour cast", "red + 10 %, blue - 10 %", -0.004), ("JPEG", "quality 20", 0.001),
               ("blur", "2 % of the shorter side", -0.083), ("rotation", "30°", -0.002)]  # fmt: skip
    assert auroc.value is not None
    return [
        Stress(name, level, Estimate(auroc.value + change, auroc.value + change - 0.03, auroc.value + change + 0.02),
               Estimate(change, change - 0.015, change + 0.012), Estimate(abs(change), 0.0, 0.2), abs(change) * 3)
        for name, level, change in changes
    ]  # fmt: skip


def _make_worst(rng: np.random.Generator) -> list[Case]:
    cases = []
    for index in range(12):
        missed = index < 5
        p = 0.01 + 0.02 * index if missed else 0.99 - 0.04 * index
        dx = str(rng.choice(["mel", "bcc", "akiec"] if missed else ["nv", "bkl", "df", "vasc"]))
        shares = rng.dirichlet(np.ones(7)).tolist()
        flags = ("uncertain", "blurred") if index % 4 == 3 else ()
        answer = "benign" if missed else "malignant"
        cases.append(
            Case(f"ISIC_{24000 + index:07d}", dx, "malignant" if missed else "benign", p, answer,
                 "refer" if flags else answer, flags, dict(zip(DIAGNOSES, shares, strict=True)))
        )  # fmt: skip
    return cases
