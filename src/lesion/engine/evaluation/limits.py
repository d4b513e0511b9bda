"""The sections on where the model fails and when it does not answer alone."""

from collections.abc import Sequence

from lesion.chart import Frame
from lesion.engine.evaluation.charts import WIDE, Line, choose_scale, draw_curves, draw_interval, is_drawable
from lesion.engine.evaluation.markup import draw_figure, draw_section, draw_table, stack, to_paragraph
from lesion.engine.evaluation.words import (
    CORRECTED,
    MEAN,
    PROXY,
    VALUES,
    is_lower,
    is_proxy,
    name_diagnosis,
    name_figure,
    name_flags,
    name_group,
    show,
    show_round,
    show_share,
)
from lesion.escape import to_html
from lesion.evaluation import Evaluation, Stress, Subgroup
from lesion.records import Estimate

SHOWN = ("auroc", "sensitivity", "specificity", "referred")  # of a subgroup


def draw_diagnoses(evaluation: Evaluation) -> str:
    """Each diagnosis against all others."""
    title = "Diagnosis by diagnosis"
    if not evaluation.diagnoses:
        why = evaluation.undefined.get("diagnoses", "the model knows only benign and malignant")
        return draw_section("diagnoses", title, to_paragraph(f"Not measured: {why}."))
    names = list(next(iter(evaluation.diagnoses.values())))
    rows = [
        [
            "mean of all" if dx == MEAN else to_html(name_diagnosis(dx)),
            f"{evaluation.diagnosis_counts[dx]:,}" if dx in evaluation.diagnosis_counts else "",
            *(stack(figures[name], name) for name in names),
        ]
        for dx, figures in evaluation.diagnoses.items()
    ]
    head = ["diagnosis", "#images", *(f"#{name_figure(name)}" for name in names)]
    note = "Each diagnosis against all others; the answer is the most probable one, whatever the operating point."
    return draw_section("diagnoses", title, to_paragraph(note), draw_table("Diagnoses, over images", head, rows))


def draw_subgroups(evaluation: Evaluation) -> str:
    """AUROC, sensitivity and specificity of each subgroup, with intervals and sizes."""
    title, groups = "Subgroups", list(dict.fromkeys(each.group for each in evaluation.subgroups))
    if not groups:
        return draw_section("subgroups", title, to_paragraph("Nothing is recorded that tells the images apart."))
    overall = evaluation.metrics["auroc"].value
    scale = choose_scale([each.metrics["auroc"] for each in evaluation.subgroups], overall)
    note = (
        "Dots are AUROCs, lines their 95 % intervals, the dashed line all images together. Small groups have wide "
        "intervals. A figure is marked “lower” where it is lower than over all other images. "
        f"{CORRECTED}"
    )
    parts = []
    for group in groups:
        members = [each for each in evaluation.subgroups if each.group == group]
        parts.append(_draw_group(group, members, scale, overall))
        parts.append(to_paragraph(PROXY, "soft") if is_proxy(group) else "")
    return draw_section("subgroups", title, to_paragraph(note), f'<div class="groups">{"".join(parts)}</div>')


def draw_stress(evaluation: Evaluation) -> str:
    """What changes of the images do to AUROC and decisions."""
    title = "Stress tests"
    if not evaluation.stress:
        return draw_section("stress", title, to_paragraph("None were run; lesion eval --stress runs them."))
    scale = choose_scale([each.auroc_change for each in evaluation.stress], 0.0)
    note = (
        "Pictures were changed in one way each and the model asked again; changes are against the same ones as they "
        "were. Flipped: the answer turned from benign to malignant or back. Referred: the model said itself that a "
        "person should look."
    )
    drawn = f"AUROC change (drawn from {scale[0]:g} to {scale[1]:g})".replace("-", "−")
    head = ["change", drawn, "#AUROC", "#flipped", "#referred"]
    rows = [_tell_stress(each, scale) for each in evaluation.stress]
    return draw_section("stress", title, to_paragraph(note), draw_table("Changed images", head, rows))


def draw_referral(evaluation: Evaluation) -> str:
    """Conformal sets, referral and its reasons, risk over coverage."""
    referral = evaluation.referral
    malignant, benign = show_round(referral.malignant_goal), show_round(referral.benign_goal)
    note = (
        "Besides malignant and benign there is a third answer: refer. It is given when the probability does not settle "
        f"the question (conformal sets, made to hold the truth for {malignant} of the malignant and {benign} of "
        "the benign lesions) or when "
        "something is unusual about the image."
    )
    rows = [
        ["referred images", show(referral.referred, "referred")],
        ["malignant images that are answered “benign”: missed without referral", show(referral.missed_alone, "missed")],
        ["malignant images that are neither found nor referred", show(referral.missed, "missed")],
        ["answers “malignant” that are referred instead", show(referral.withdrawn, "withdrawn")],
        ["sensitivity among answered images", show(referral.sensitivity, "sensitivity")],
        ["specificity among answered images", show(referral.specificity, "specificity")],
        [
            f"sets that hold “malignant” where it is true; goal {malignant}",
            show(referral.malignant_covered, "malignant_covered"),
        ],
        [f"sets that hold “benign” where it is true; goal {benign}", show(referral.benign_covered, "benign_covered")],
    ]
    flags = [
        [to_html(name_flags((flag,))), f"{count:,}", show_share(count / evaluation.images)]
        for flag, count in referral.flags.items()
    ]
    return draw_section(
        "referral", "When the model does not answer alone", to_paragraph(note),
        draw_table("Referral", ["what", "#share (95 % interval)"], rows),
        draw_table("Reasons; an image can have several", ["reason", "#images", "#share"], flags) if flags else "",
        _draw_risk(evaluation),
    )  # fmt: skip


def _draw_group(group: str, members: Sequence[Subgroup], scale: tuple[float, float], overall: float | None) -> str:
    name = name_group(group)
    head = [name, f"AUROC (drawn from {scale[0]:g} to {scale[1]:g})", *(f"#{name_figure(each)}" for each in SHOWN[1:])]
    rows = []
    for each in members:
        auroc, *others = _tell_figures(each)
        size = f"{each.images:,} images of {each.lesions:,} lesions, {each.malignant:,} malignant"
        first = f"{to_html(VALUES.get(each.value, each.value))}<small>{size}</small>"
        rows.append([first, _draw_beside(each.metrics["auroc"], scale, overall, auroc), *others])
    return draw_table(f"By {name[:1].lower()}{name[1:]}", head, rows)


def _tell_figures(group: Subgroup) -> list[str]:
    """Each figure and, where it is missing, why; a reason that several share is told once."""
    told, cells = {""}, []
    for name in SHOWN:
        reason = group.undefined.get(name, "")
        why = "" if reason in told else f'<small class="why">{to_html(reason)}</small>'
        told.add(reason)
        rest = Estimate(group.rest.get(name), None, None)
        lower = f"<small>lower: {show(rest, name, alone=True)} elsewhere</small>" if is_lower(group, name) else ""
        cells.append(stack(group.metrics[name], name) + why + lower)
    return cells


def _draw_beside(estimate: Estimate, scale: tuple[float, float], reference: float | None, told: str) -> str:
    drawing = "" if estimate.value is None else draw_interval(estimate, *scale, reference)
    return f'<div class="beside">{drawing}<span>{told}</span></div>'


def _tell_stress(stress: Stress, scale: tuple[float, float]) -> list[str]:
    return [
        f"{to_html(stress.name)}<small>{to_html(stress.level)}</small>",
        _draw_beside(stress.auroc_change, scale, 0.0, stack(stress.auroc_change)),
        stack(stress.auroc),
        stack(stress.flipped, "flipped"),
        show_share(stress.referred),
    ]


def _draw_risk(evaluation: Evaluation) -> str:
    curve = evaluation.referral.risk_coverage
    if not is_drawable(curve):
        return ""
    top = max(y for y in (*curve.y, *curve.high) if y is not None) or 0.01
    frame = Frame((0, 1), (0, 1.05 * top), **WIDE)
    area = show(evaluation.referral.area)
    told = f"Share of wrong answers over the share of images that are answered. Area {area}."
    drawing = draw_curves("Risk-coverage curve", told, frame, "share of images that are answered", [Line(curve, "k0")])
    caption = f"Risk-coverage: wrong answers among those given, when the least certain are referred first; area {area}"
    return draw_figure(drawing, caption, [("k0", "share of wrong answers")])
