"""An evaluation as one HTML file that needs nothing else: the answer first, then what it rests on."""

from lesion.engine.evaluation.gallery import Pictures, draw_gallery
from lesion.engine.evaluation.headline import draw_headline
from lesion.engine.evaluation.limits import draw_diagnoses, draw_referral, draw_stress, draw_subgroups
from lesion.engine.evaluation.markup import draw_section, draw_table, to_paragraph
from lesion.engine.evaluation.performance import draw_calibration, draw_decisions, draw_figures, draw_ranking
from lesion.engine.evaluation.style import STYLE
from lesion.engine.evaluation.words import INTERVALS, name_path, show_number, show_rule
from lesion.escape import to_html
from lesion.evaluation import Evaluation
from lesion.page import render_shell
from lesion.records import NOTICE

CONTENTS = {
    "figures": "All figures",
    "ranking": "ROC",
    "calibration": "Calibration",
    "decisions": "Decisions",
    "diagnoses": "Diagnoses",
    "subgroups": "Subgroups",
    "stress": "Stress",
    "referral": "Referral",
    "worst": "Worst errors",
    "undefined": "Not computed",
    "method": "Method",
}


def render_page(evaluation: Evaluation, pictures: Pictures) -> str:
    """The page; every name is escaped, nothing is loaded from anywhere, and no script runs.

    Args:
        evaluation: what was found; every number of the page is from it.
        pictures: image id → its pixels, uint8 (s, s, 3), and its heat map, float32 (h, w), for the worst errors; an
            image without an entry is shown without a picture.
    """
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in CONTENTS.items())
    parts = [
        f"<header>{draw_headline(evaluation)}</header>",
        f'<nav aria-label="Contents"><ul>{links}</ul></nav><main>',
        draw_figures(evaluation),
        draw_ranking(evaluation),
        draw_calibration(evaluation),
        draw_decisions(evaluation),
        draw_diagnoses(evaluation),
        draw_subgroups(evaluation),
        draw_stress(evaluation),
        draw_referral(evaluation),
        draw_gallery(evaluation, pictures),
        _draw_undefined(evaluation),
        _draw_method(evaluation),
        f'</main><footer class="soft">{to_html(NOTICE)}</footer>',
    ]
    return render_shell(f"Evaluation of {evaluation.model}", STYLE, "\n".join(parts))


def _draw_undefined(evaluation: Evaluation) -> str:
    rows = [[to_html(name_path(name)), to_html(reason)] for name, reason in evaluation.undefined.items()]
    return draw_section(
        "undefined",
        "What could not be computed",
        draw_table("Figures without a value or an interval", ["figure", "why"], rows)
        if rows
        else to_paragraph("Every figure of the whole split has a value and an interval."),
    )


def _draw_method(evaluation: Evaluation) -> str:
    facts = {
        "Model file": f"{evaluation.model}; behind the @ are the first 12 digits of the file's SHA-256",
        "Data": f"{evaluation.data}, {evaluation.split} split, fingerprint {evaluation.fingerprint}",
        "Size": f"{evaluation.images:,} images of {evaluation.lesions:,} lesions, {evaluation.malignant:,} images of "
        f"{evaluation.malignant_lesions:,} lesions malignant",
        "Operating point": f"malignant from {show_number(evaluation.threshold)} on "
        f"({show_rule(evaluation.operating_point)})",
        "Temperature": f"logits divided by {show_number(evaluation.temperature)}",
        "Each answer": "the mean over eight views of the image" if evaluation.tta else "from one view of the image",
        "Intervals": INTERVALS,
        "Time": f"{evaluation.seconds:.1f} s; answers alone at {evaluation.images_per_second:,.0f} images a second"
        + (
            f", from one view at {evaluation.plain_images_per_second:,.0f}"
            if evaluation.plain_images_per_second
            else ""
        ),
    }
    items = "".join(f"<dt>{name}</dt><dd>{to_html(fact)}</dd>" for name, fact in facts.items())
    note = "The exported file itself was measured, through the code that answers for lesion predict and the server."
    return draw_section("method", "How this was measured", to_paragraph(note), f'<dl class="card">{items}</dl>')
