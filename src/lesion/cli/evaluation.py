"""How an evaluation, a comparison and a gate look on a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lesion.cli.render import log, print_line, print_table, write_estimate
from lesion.evaluation import ComparisonReport, Difference, Evaluation, Stress
from lesion.records import NOTICE, Estimate, to_dict, to_json

if TYPE_CHECKING:
    from lesion.engine.evaluation.gate import Verdict

SHOWN = (
    "auroc", "average_precision", "sensitivity", "specificity", "sensitivity_at_95_specificity",
    "specificity_at_95_sensitivity", "calibration_slope", "calibration_intercept", "calibration_error",
    "calibration_error_expected",
)  # fmt: skip
WORST = 3  # stresses shown


def show_evaluation(found: Evaluation, verdicts: "Sequence[Verdict]", written: Sequence[Path], as_json: bool) -> None:
    """The summary, the gate, and where the rest lies; or all of it as one document."""
    if as_json:
        print(to_json(found, **({"gate": [to_dict(each) for each in verdicts]} if verdicts else {})))
        return
    tta = ", mean over eight views" if found.tta else ""
    print_line(
        f"{found.model} on {found.split}: {found.images} images of {found.lesions} lesions, {found.malignant} "
        f"malignant; malignant from a probability of {found.threshold:.3f} ({found.operating_point}){tta}"
    )
    print_table(
        [
            ["figure", "value", "95 % interval"],
            *([name, *write_estimate(each)] for name, each in _find_headlines(found)),
        ]
    )
    cells = found.confusion
    print_line(
        f"malignant: {cells['tp']} found, {cells['fn']} missed; benign: {cells['tn']} cleared, {cells['fp']} alarmed"
    )
    _print_stress(found.stress)
    if found.tta_gain:
        speeds = f"{found.images_per_second:.0f} instead of {found.plain_images_per_second:.0f} images/s"
        print_line(f"eight views (A) less one (B), at {speeds}:")
        _print_differences(found.tta_gain)
    _print_undefined(found)
    for each in verdicts:
        print_line(_word(each))
    for path in written:
        log.info("written to %s", path)
    if not written:
        log.info("the whole report: --html FILE, or --json")
    log.info("%s", NOTICE)


def show_comparison(report: ComparisonReport, page: Path | None, as_json: bool) -> None:
    """Figures of both, their differences and how likely chance makes such."""
    if as_json:
        print(to_json(report))
        return
    print_line(f"A {report.a}, B {report.b} on {report.split}: {report.images} images of {report.lesions} lesions")
    _print_differences(report.differences)
    print_line(f"{report.flipped} images are called otherwise")
    log.info("written to %s" if page else "as a page: --html FILE", *([page] if page else []))
    log.info("%s", NOTICE)


def _find_headlines(found: Evaluation) -> list[tuple[str, Estimate]]:
    referral = found.referral
    return [
        *((name.replace("_", " "), found.metrics[name]) for name in SHOWN),
        ("calibration error before", found.calibration_error_before),
        ("auroc of lesions", found.lesion_metrics["auroc"]),
        ("referred", referral.referred),
        ("malignant missed without referral", referral.missed_alone),
        ("malignant missed and not referred", referral.missed),
        ("alarms withdrawn by referral", referral.withdrawn),
        (f"malignant covered, goal {referral.malignant_goal:.2f}", referral.malignant_covered),
        (f"benign covered, goal {referral.benign_goal:.2f}", referral.benign_covered),
    ]


def _print_stress(stress: Sequence[Stress]) -> None:
    known = sorted(
        (each for each in stress if each.auroc_change.value is not None), key=lambda s: s.auroc_change.value or 0
    )
    if not known:
        return
    print_line(f"the worst {min(WORST, len(known))} of {len(stress)} changes of the picture:")
    rows = [
        [
            each.name,
            each.level,
            *write_estimate(each.auroc_change, "+"),
            f"{each.flipped.value:.1%}",
            f"{each.referred:.1%}",
        ]
        for each in known[:WORST]
    ]
    print_table([["change", "how", "auroc", "95 % interval", "flipped", "referred"], *rows], texts=2)


def _print_differences(differences: Sequence[Difference]) -> None:
    rows = [
        [
            each.figure.replace("_", " "), write_estimate(each.a)[0], write_estimate(each.b)[0],
            *write_estimate(each.difference, "+"),
            "–" if each.p_value is None else f"{each.p_value:.3f}" if each.p_value >= 0.001 else "< 0.001", each.method,
        ]
        for each in differences
    ]  # fmt: skip
    print_table([["figure", "A", "B", "A - B", "95 % interval", "p", "by"], *rows])


def _print_undefined(found: Evaluation, most: int = 5) -> None:
    named = [name for name in found.undefined if "." not in name or name.startswith("subgroups.")]
    for name in named[:most]:
        print_line(f"not known: {name.replace('_', ' ')}: {found.undefined[name]}")
    if left := len(found.undefined) - len(named[:most]):
        print_line(f"{left} more without a value or an interval: the report says why")


def _word(verdict: "Verdict") -> str:
    sign = ">=" if verdict.at_least else "<="
    value = f"{verdict.value:.4f}" if verdict.value is not None else verdict.reason
    return f"{'passed' if verdict.passed else 'FAILED'}: {verdict.figure} {sign} {verdict.limit:g}: {value}"
