"""The results of an evaluation as Markdown tables, for the model card."""

from collections.abc import Iterable, Sequence

from lesion.engine.evaluation.markdown import draw_list, draw_table, to_markdown
from lesion.engine.evaluation.words import (
    CORRECTED,
    INTERVALS,
    MEAN,
    PROXY,
    SPLITS,
    VALUES,
    is_lower,
    is_proxy,
    name_diagnosis,
    name_figure,
    name_flags,
    name_group,
    name_path,
    show,
    show_chance_error,
    show_number,
    show_round,
    show_share,
)
from lesion.evaluation import Evaluation, Stress, Subgroup
from lesion.records import Estimate

OF_SUBGROUPS = ("auroc", "sensitivity", "specificity", "referred")
OF_REFERRAL = (
    "malignant_covered", "benign_covered", "referred", "sensitivity", "specificity", "missed_alone", "missed",
    "rescued", "withdrawn",
)  # fmt: skip


def draw_results(evaluation: Evaluation) -> str:
    """Every table of the card that is measured."""
    e = evaluation
    views = " Each answer is the mean over eight views of the picture." if e.tta else ""
    head = (
        f"The {e.split} split of {to_markdown(e.data)}, fingerprint {to_markdown(e.fingerprint)}: {e.images:,} images "
        f"of {e.lesions:,} lesions, {e.malignant:,} images of {e.malignant_lesions:,} lesions malignant. "
        f"{SPLITS.get(e.split, '')} {INTERVALS}.{views}"
    )
    cells = e.confusion
    parts = {
        "": head,
        "Figures": draw_table(
            ["figure", "over images", "over lesions"],
            [
                [name_figure(name), show(each, name), show(e.lesion_metrics[name], name)]
                for name, each in e.metrics.items()
            ],
        ),
        f"Decisions at the operating point, {show_number(e.threshold)}": draw_table(
            ["truth", "called malignant", "called benign"],
            [["malignant", f"{cells['tp']:,}", f"{cells['fn']:,}"], ["benign", f"{cells['fp']:,}", f"{cells['tn']:,}"]],
        ),
        "Calibration": f"Calibration error {show(e.calibration_error_before, 'calibration_error')} before the "
        f"temperature, {show(e.metrics['calibration_error'], 'calibration_error')} as shipped. {show_chance_error(e)}",
        "Referral": _draw_referral(e),
        "Diagnoses": _draw_diagnoses(e),
        "Subgroups": _draw_subgroups(e.subgroups),
        "Stress tests": _draw_stress(e.stress),
        "Not computed": draw_list(
            f"{to_markdown(name_path(name))}: {to_markdown(why)}" for name, why in e.undefined.items()
        )
        or "Every figure has a value and an interval.",
    }
    return "\n\n".join(f"### {title}\n\n{text}" if title else text for title, text in parts.items())


def list_weaknesses(evaluation: Evaluation) -> list[str]:
    """Where the record says that the model does worse than elsewhere, and what it misses.

    A subgroup counts when it is lower than all other images, corrected for the number of comparisons; a change of the
    pictures when its whole interval lies below.
    """
    items = []
    for name in OF_SUBGROUPS[:3]:
        worse = [
            to_markdown(
                f"{each.group} {VALUES.get(each.value, each.value)} {show(each.metrics[name], name)} against "
                f"{show(Estimate(each.rest[name], None, None), name, alone=True)}"
            )
            for each in evaluation.subgroups
            if is_lower(each, name)
        ]
        if worse:
            items.append(
                f"**{name_figure(name)}** is lower than in all other images for {'; '.join(worse)}. {CORRECTED}"
            )
    changes = [
        f"{to_markdown(each.name)} ({to_markdown(each.level)}) by {show(each.auroc_change)}"
        for each in evaluation.stress
        if _is_below(each.auroc_change, 0.0)
    ]
    if changes:
        items.append(f"**Changed pictures** change AUROC: {'; '.join(changes)}.")
    missed = evaluation.referral.missed
    if missed.value is not None:
        items.append(
            f"**Missed.** {show(missed, 'missed')} of the malignant images are called benign and not referred."
        )
    return items


def _is_below(estimate: Estimate, value: float | None) -> bool:
    return estimate.high is not None and value is not None and estimate.high < value


def _draw_referral(evaluation: Evaluation) -> str:
    referral = evaluation.referral
    titles = {"sensitivity": "Sensitivity among answered images", "specificity": "Specificity among answered images"}
    rows = [[titles.get(name, name_figure(name)), show(getattr(referral, name), name)] for name in OF_REFERRAL]
    goal = (
        f"The goal of the sets is {show_round(referral.malignant_goal)} of the malignant and "
        f"{show_round(referral.benign_goal)} of the benign lesions."
    )
    flags = [
        [to_markdown(name_flags((flag,))), f"{count:,}", show_share(count / evaluation.images)]
        for flag, count in referral.flags.items()
    ]
    reasons = f"\n\n{draw_table(['reason to refer', 'images', 'share'], flags)}" if flags else ""
    return f"{goal}\n\n{draw_table(['figure', 'value'], rows)}{reasons}"


def _draw_diagnoses(evaluation: Evaluation) -> str:
    if not evaluation.diagnoses:
        return f"Not measured: {to_markdown(evaluation.undefined.get('diagnoses', 'no reason is recorded'))}."
    names = list(next(iter(evaluation.diagnoses.values())))
    rows = [
        ["mean of all" if dx == MEAN else to_markdown(name_diagnosis(dx)), str(evaluation.diagnosis_counts.get(dx, "")),
         *(show(figures[name], name) for name in names)]
        for dx, figures in evaluation.diagnoses.items()
    ]  # fmt: skip
    return draw_table(["diagnosis", "images", *map(name_figure, names)], rows)


def _draw_subgroups(subgroups: Sequence[Subgroup]) -> str:
    if not subgroups:
        return "Not measured: nothing is recorded that tells the images apart."
    rows = [
        [to_markdown(name_group(each.group)), to_markdown(VALUES.get(each.value, each.value)), f"{each.images:,}",
         f"{each.malignant:,}", *(show(each.metrics[name], name) for name in OF_SUBGROUPS)]
        for each in subgroups
    ]  # fmt: skip
    table = draw_table(["group", "value", "images", "malignant", *map(name_figure, OF_SUBGROUPS)], rows)
    return table + (f"\n\n{PROXY}" if any(is_proxy(each.group) for each in subgroups) else "")


def _draw_stress(stress: Iterable[Stress]) -> str:
    rows = [
        [to_markdown(each.name), to_markdown(each.level), show(each.auroc_change), show(each.flipped, "flipped"),
         show_share(each.referred)]
        for each in stress
    ]  # fmt: skip
    head = ["change", "how much", "change in AUROC", "flipped", "referred"]
    return draw_table(head, rows) if rows else "Not measured: `lesion eval --stress` does it."
