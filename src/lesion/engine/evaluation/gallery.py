"""The worst errors with their pictures and heat maps."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lesion.engine.evaluation.markup import draw_section, to_paragraph
from lesion.engine.evaluation.pictures import blend, to_source
from lesion.engine.evaluation.words import name_diagnosis, name_flags, show_number
from lesion.escape import to_html
from lesion.evaluation import Case, Evaluation
from lesion.taxonomy import MALIGNANT

Pictures = Mapping[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]
MOST = 3  # diagnoses of an image
CAVEAT = (
    "A heat map shows which parts of the picture moved the model's last layer, and which way. It explains the model, "
    "not the disease: a map that looks sensible does not make an answer right. It is coarse, and its colours are "
    "scaled to each picture's own strongest part, so they do not compare between pictures."
)


def draw_gallery(evaluation: Evaluation, pictures: Pictures) -> str:
    """Missed malignant images, then false alarms; a checkbox turns all pictures into heat maps."""
    title = "The worst errors"
    if not evaluation.worst:
        return draw_section("worst", title, to_paragraph("There are no errors to show."))
    missed = [case for case in evaluation.worst if case.truth == MALIGNANT]
    alarms = [case for case in evaluation.worst if case.truth != MALIGNANT]
    parts = [
        f"<h3>{heading}</h3>" + f'<div class="cases">{"".join(_draw_case(case, pictures) for case in cases)}</div>'
        for heading, cases in (("Malignant, called benign", missed), ("Benign, called malignant", alarms))
        if cases
    ]
    switch = (
        '<input type="checkbox" id="heat"><label for="heat">Show heat maps: <span class="soft">for benign'
        '<span class="scale" aria-hidden="true"></span>for malignant</span> (blue, grey, orange)</label>'
    )
    note = "The largest errors first. The probability is that of malignant; the model says so from {} on."
    return draw_section(
        "worst", title, to_paragraph(note.format(show_number(evaluation.threshold))),
        to_paragraph(CAVEAT, "soft"), switch, *parts,
    )  # fmt: skip


def _draw_case(case: Case, pictures: Pictures) -> str:
    decision = f"referred: {name_flags(case.flags)}" if case.flags else f"answered: {case.decision}"
    ranked = sorted((case.diagnosis_probabilities or {}).items(), key=lambda pair: -pair[1])[:MOST]
    diagnoses = "".join(f"<li>{show_number(share)} {to_html(name_diagnosis(dx))}</li>" for dx, share in ranked)
    return (
        f'<figure class="card">{_draw_pictures(case, pictures)}<figcaption>'
        f"<b>{to_html(name_diagnosis(case.dx))}</b><br>probability {show_number(case.malignant)}, {to_html(decision)}"
        + (f"<ul>{diagnoses}</ul>" if diagnoses else "")
        + f'<span class="soft">{to_html(case.image_id)}</span></figcaption></figure>'
    )


def _draw_pictures(case: Case, pictures: Pictures) -> str:
    if case.image_id not in pictures:
        return '<div class="blank">no picture</div>'
    pixels, heat = pictures[case.image_id]
    name = to_html(f"{case.image_id}, {name_diagnosis(case.dx)}")
    photo = f'<img class="photo" alt="{name}" src="{to_source(pixels)}">'
    if not heat.size or not np.isfinite(heat).all():
        return f'{photo}<div class="blank heat">no heat map</div>'
    return f'{photo}<img class="heat" alt="Heat map of {name}" src="{to_source(blend(pixels, heat))}">'
