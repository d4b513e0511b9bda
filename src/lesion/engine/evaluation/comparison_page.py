"""A comparison of two models as one HTML file that needs nothing else."""

from lesion.chart import Frame
from lesion.engine.evaluation.charts import (
    SQUARE,
    Line,
    choose_scale,
    draw_curves,
    draw_interval,
    draw_straight,
    is_drawable,
)
from lesion.engine.evaluation.markup import draw_figure, draw_section, draw_table, stack, to_paragraph
from lesion.engine.evaluation.style import STYLE
from lesion.engine.evaluation.words import INTERVALS, SPLITS, name_path, show, show_chance
from lesion.escape import to_html
from lesion.evaluation import ComparisonReport, Difference
from lesion.metrics.reasons import POINTS
from lesion.page import render_shell
from lesion.records import NOTICE

LESS_IS_BETTER = ("calibration_error", "brier")


def render_comparison(report: ComparisonReport) -> str:
    """The page; every name is escaped, nothing is loaded from anywhere, and no script runs."""
    parts = [
        f"<header><h1>{to_html(report.a)} against {to_html(report.b)}</h1>",
        f'<p class="notice" role="note">{to_html(NOTICE)}</p>',
        to_paragraph(
            f"A is {report.a}, B is {report.b}. Both were asked about the same {report.images:,} images of "
            f"{report.lesions:,} skin lesions, the {report.split} split with fingerprint {report.fingerprint}. "
            f"{SPLITS.get(report.split, '')}"
        ),
        *(to_paragraph(each) for each in tell_differences(report)),
        "</header><main>",
        _draw_differences(report),
        _draw_rocs(report),
        f'</main><footer class="soft">{to_html(NOTICE)}</footer>',
    ]
    return render_shell(f"{report.a} against {report.b}", STYLE, "\n".join(parts))


def tell_differences(report: ComparisonReport) -> list[str]:
    """Where one model is better, as far as the data can tell: a sentence each."""
    told = []
    for name in ("A", "B"):
        better = [
            f"{name_path(each.figure)} by {show(each.difference, each.figure)}"
            for each in report.differences
            if find_better(each) == name
        ]
        if better:
            told.append(f"{name} is better in {'; '.join(better)} (A less B).")
    tested = [each for each in report.differences if each.figure not in POINTS]
    open_ = [name_path(each.figure) for each in tested if find_better(each) is None]
    if open_:
        told.append(f"These images do not tell which of the two is better in {', '.join(open_)}.")
    share = report.flipped / report.images
    return [*told, f"They call {report.flipped:,} images differently, {100 * share:.1f} % of them all."]


def find_better(difference: Difference) -> str | None:
    """Which of "A" and "B" is better: the one whose figure is so by an interval without zero; None if neither is."""
    low, high = difference.difference.low, difference.difference.high
    if low is None or high is None or low <= 0 <= high:
        return None
    return "A" if (low > 0) != (difference.figure in LESS_IS_BETTER) else "B"


def _draw_differences(report: ComparisonReport) -> str:
    scale = choose_scale([each.difference for each in report.differences], 0.0)
    drawn = f"A less B (drawn from {scale[0]:g} to {scale[1]:g})".replace("-", "−")
    rows = []
    for each in report.differences:
        told = stack(each.difference, each.figure)
        drawing = "" if each.difference.value is None else draw_interval(each.difference, *scale, 0.0)
        wish = "<small>less is better</small>" if each.figure in LESS_IS_BETTER else ""
        rows.append(
            [f"{to_html(name_path(each.figure))}{wish}", f'<div class="beside">{drawing}<span>{told}</span></div>',
             stack(each.a, each.figure), stack(each.b, each.figure), show_chance(each.p_value), to_html(each.method)]
        )  # fmt: skip
    note = (
        "Differences are paired: both models are measured on the same resampled lesions. The p-value says how often so "
        "large a difference would come by chance, were there none. The calibration error is biased by chance, so its "
        "difference has neither interval nor p-value. "
        f"{INTERVALS}."
    )
    table = draw_table("Figures of both", ["figure", drawn, "#A", "#B", "#p-value", "method"], rows)
    return draw_section("differences", "Differences", table, to_paragraph(note, "soft"))


def _draw_rocs(report: ComparisonReport) -> str:
    if not (is_drawable(report.roc_a) and is_drawable(report.roc_b)):
        return ""
    lines = [draw_straight((0, 0), (1, 1)), Line(report.roc_b, "k1 dashed"), Line(report.roc_a, "k0")]
    told = "Sensitivity of both models over the share of false alarms, with the band of the 95 % interval."
    drawing = draw_curves("ROC curves", told, Frame((0, 1), (0, 1), **SQUARE), "1 − specificity (false alarms)", lines)
    keys = [("k0", f"A, {report.a}"), ("k1 dashed", f"B, {report.b}")]
    return draw_section("rocs", "Telling malignant from benign", draw_figure(drawing, "ROC curves: sensitivity", keys))
