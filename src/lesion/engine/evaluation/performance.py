"""The sections on how well the model does: figures, ranking, calibration, decisions."""

from collections.abc import Sequence

from lesion.chart import Frame
from lesion.engine.evaluation.charts import (
    SQUARE,
    WIDE,
    Line,
    Mark,
    draw_curves,
    draw_reliability,
    draw_straight,
    is_drawable,
)
from lesion.engine.evaluation.markup import draw_figure, draw_section, draw_table, stack, to_paragraph
from lesion.engine.evaluation.words import (
    FIGURES,
    name_figure,
    name_path,
    show,
    show_chance,
    show_chance_error,
    show_number,
    show_share,
)
from lesion.escape import to_html
from lesion.evaluation import Bin, Evaluation
from lesion.records import Curve, Estimate

OF_ROW = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value")


def draw_figures(evaluation: Evaluation) -> str:
    """Every figure with its interval, over images and over lesions."""
    rows = [
        [
            f"{to_html(name_figure(name))}<small>{to_html(FIGURES.get(name, ('', ''))[1])}</small>",
            stack(estimate, name),
            stack(evaluation.lesion_metrics[name], name),
        ]
        for name, estimate in evaluation.metrics.items()
    ]
    table = draw_table("Figures with 95 % intervals", ["figure", "#over images", "#over lesions"], rows)
    return draw_section("figures", "All figures", table, _draw_gain(evaluation))


def draw_ranking(evaluation: Evaluation) -> str:
    """ROC and precision-recall with bands and the operating point."""
    found, right, precision = (evaluation.metrics[name].value for name in ("sensitivity", "specificity", "precision"))
    share = evaluation.malignant / evaluation.images if evaluation.images else 0.0
    frame, label = Frame((0, 1), (0, 1), **SQUARE), f"operating point {show_number(evaluation.threshold)}"
    charts = [
        _draw_curve(
            "ROC curve", f"AUROC {show(evaluation.metrics['auroc'])}", frame, "1 − specificity (false alarms)",
            evaluation.roc, draw_straight((0, 0), (1, 1)), "guessing",
            None if found is None or right is None else Mark(1 - right, found, label), "sensitivity",
        ),
        _draw_curve(
            "Precision-recall curve", f"AUPRC {show(evaluation.metrics['average_precision'])}", frame,
            "sensitivity (recall)", evaluation.precision_recall, draw_straight((0, share), (1, share)),
            "calling everything malignant",
            None if found is None or precision is None else Mark(found, precision, label), "precision",
        ),
    ]  # fmt: skip
    note = "Each point of a curve is one threshold; the diamond is the model's own, the band the 95 % interval."
    return draw_section(
        "ranking", "Telling malignant from benign", to_paragraph(note), f'<div class="pair">{"".join(charts)}</div>'
    )


def draw_calibration(evaluation: Evaluation) -> str:
    """Reliability before and after the temperature."""
    error = "calibration_error"
    before, after = show(evaluation.calibration_error_before, error), show(evaluation.metrics[error], error)
    temperature = show_number(evaluation.temperature)
    charts = [
        draw_figure(
            draw_reliability(f"Reliability {name}", _tell_bins(bins), bins), f"{name}: calibration error {error}"
        )
        for name, bins, error in (
            ("Before the temperature", evaluation.reliability_before, before),
            (f"After it ({temperature}), as shipped", evaluation.reliability, after),
        )
    ]
    note = (
        "Each dot is the images of one range of probabilities: how many of them are malignant, against the probability "
        "that the model gave. On the dashed line a probability of 30 % means 30 of 100. Bars: how many images."
    )
    table = draw_table(
        "Reliability as shipped", ["probability", "#images", "#mean probability", "#observed share"],
        [[f"{b.low:.2f} to {b.high:.2f}", f"{b.count:,}", show_number(b.mean), show(b.frequency)]
         for b in evaluation.reliability],
    )  # fmt: skip
    return draw_section(
        "calibration", "Do the probabilities mean what they say?", to_paragraph(note),
        to_paragraph(show_chance_error(evaluation)),
        f'<div class="pair">{"".join(charts)}</div>',
        f"<details><summary>The diagram in numbers</summary>{table}</details>",
    )  # fmt: skip


def draw_decisions(evaluation: Evaluation) -> str:
    """Confusion at the operating point, other thresholds, decision curve."""
    cells = evaluation.confusion
    words = {"tp": "found", "fn": "missed", "fp": "false alarms", "tn": "passed"}
    confusion = draw_table(
        f"Images at the operating point, {show_number(evaluation.threshold)}",
        ["truth", "#called malignant", "#called benign"],
        [
            [truth, *(f"{cells[cell]:,}<small>{words[cell]}</small>" for cell in pair)]
            for truth, pair in (("malignant", ("tp", "fn")), ("benign", ("fp", "tn")))
        ],
    )
    return draw_section(
        "decisions", "Decisions at the operating point", f'<div class="tally">{confusion}</div>',
        _draw_thresholds(evaluation), _draw_net_benefit(evaluation),
    )  # fmt: skip


def _draw_gain(evaluation: Evaluation) -> str:
    if not evaluation.tta_gain:
        return ""
    rows = [
        [to_html(name_path(each.figure)), stack(each.a, each.figure), stack(each.b, each.figure),
         stack(each.difference, each.figure), show_chance(each.p_value), to_html(each.method)]
        for each in evaluation.tta_gain
    ]  # fmt: skip
    head = ["figure", "#eight views", "#one view", "#difference", "#p-value", "method"]
    return draw_table("What the mean over eight views changes", head, rows)


def _draw_curve(
    title: str, caption: str, frame: Frame, x_name: str, curve: Curve, reference: Line, reference_name: str,
    mark: Mark | None, y_name: str,
) -> str:  # fmt: skip
    if not is_drawable(curve):
        return draw_figure('<p>Not computed; <a href="#undefined">why</a>.</p>', title)
    told = f"{y_name} over {x_name}. {caption}." + (
        f" At the operating point: {mark.x:.3f}, {mark.y:.3f}." if mark else ""
    )
    drawing = draw_curves(title, told, frame, x_name, [reference, Line(curve, "k0")], mark)
    keys = [("k0", f"{y_name} of the model"), (reference.style, reference_name)]
    return draw_figure(drawing, f"{title}: {caption}", keys)


def _tell_bins(bins: Sequence[Bin]) -> str:
    shown = [f"{show_number(b.mean)} → {show_number(b.frequency.value)}" for b in bins if b.mean is not None]
    return f"Mean probability → share that is malignant: {', '.join(shown)}."


def _draw_thresholds(evaluation: Evaluation) -> str:
    rows, chosen = [], None
    for index, row in enumerate(evaluation.operating_table):
        chosen = index if row.chosen else chosen
        shares = {name: getattr(row, name) for name in OF_ROW}
        own = "<small>the model’s own</small>" if row.chosen else ""
        told = [_stack_share(row.intervals.get(name), value) for name, value in shares.items()]
        rows.append([f"{show_number(row.threshold)}{own}", *told, show_share(row.flagged)])
    head = ["threshold", "#sensitivity", "#specificity", "#PPV", "#NPV", "#called malignant"]
    note = (
        "PPV: share of alarms that are right. NPV: share of the others that are benign. Both hold for this split only."
    )
    return draw_table("Other thresholds, over images", head, rows, chosen) + to_paragraph(note, "soft") if rows else ""


def _stack_share(estimate: Estimate | None, value: float | None) -> str:
    return show_share(value) if estimate is None else stack(estimate, "sensitivity")


def _draw_net_benefit(evaluation: Evaluation) -> str:
    curves = evaluation.decision_curve
    model = curves["model"]
    if not is_drawable(model):
        return ""
    top = max(y for curve in curves.values() for y in (*curve.y, *curve.high) if y is not None)
    top = max(top, 0.01)
    frame = Frame((0, max(model.x)), (-0.25 * top, 1.05 * top), **WIDE)
    styles = {"all": ("k1 dashed", "call everything malignant"), "none": ("k6 dotted", "call nothing malignant")}
    lines = [Line(curves[name], style) for name, (style, _) in styles.items() if name in curves]
    drawing = draw_curves(
        "Decision curve",
        "Net benefit of the model over threshold probabilities, against calling everything and nothing malignant.",
        frame, "probability from which one would act", [*lines, Line(model, "k0")],
    )  # fmt: skip
    keys = [("k0", "the model"), *(styles[name] for name in styles if name in curves)]
    note = (
        "Net benefit: found malignant images per image, less the false alarms, weighed by how many of them one would "
        "accept for a find (from 10 % on: nine). The highest line is the best policy."
    )
    return draw_figure(drawing, "Decision curve: net benefit", keys) + to_paragraph(note, "soft")
