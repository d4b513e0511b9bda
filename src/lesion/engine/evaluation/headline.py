"""The head of the page: what was tested and what came out, in words that need no statistics."""

from collections.abc import Mapping

from lesion.engine.evaluation.charts import draw_thousand
from lesion.engine.evaluation.markup import to_paragraph
from lesion.engine.evaluation.words import SPLITS, of_hundred, show_number, show_rule
from lesion.escape import to_html
from lesion.evaluation import Evaluation
from lesion.records import NOTICE, Estimate

GROUPS = {
    "found": "malignant, found",
    "missed": "malignant, missed",
    "alarm": "benign, false alarm",
    "clear": "benign, passed",
}


def draw_headline(evaluation: Evaluation) -> str:
    """Title, notice, the figures that matter most, and a thousand lesions."""
    return "".join(
        [
            f"<h1>Evaluation of {to_html(evaluation.model)}</h1>",
            f'<p class="notice" role="note">{to_html(NOTICE)}</p>',
            to_paragraph(tell_test(evaluation)),
            _draw_tiles(evaluation),
            _draw_thousand(evaluation),
        ]
    )


def tell_test(evaluation: Evaluation) -> str:
    """What was tested on what, in a few sentences."""
    split = SPLITS.get(evaluation.split, "")
    return (
        f"The model was tested on {evaluation.images:,} images of {evaluation.lesions:,} skin lesions, the "
        f"{evaluation.split} split of {evaluation.data}. {evaluation.malignant_lesions:,} of the lesions are malignant "
        f"({evaluation.malignant:,} images). {split} It calls an image malignant from a probability of "
        f"{show_number(evaluation.threshold)} on (operating point: {show_rule(evaluation.operating_point)}). A lesion "
        "gets one answer, by the mean probability of its images."
    )


def count_thousand(evaluation: Evaluation) -> dict[str, int] | None:
    """A thousand lesions, as frequently malignant as those of the split, by what the model makes of them.

    They add up to 1,000. None when sensitivity or specificity over lesions has no value.
    """
    found, passed = (evaluation.lesion_metrics[name].value for name in ("sensitivity", "specificity"))
    if found is None or passed is None:
        return None
    malignant = round(1000 * evaluation.malignant_lesions / evaluation.lesions)
    benign = 1000 - malignant
    right, cleared = round(malignant * found), round(benign * passed)
    return {"found": right, "missed": malignant - right, "alarm": benign - cleared, "clear": cleared}


def _draw_tiles(evaluation: Evaluation) -> str:
    images, lesions, why = evaluation.metrics, evaluation.lesion_metrics, evaluation.undefined
    auroc = "AUROC over images. 1 ranks every malignant above every benign, 0.5 is guessing."
    error = "Calibration error: how far probabilities lie from what was observed. 0 is best."
    tiles = [
        _draw_tile(images["auroc"], auroc, why.get("auroc"), hundred=False),
        _draw_tile(lesions["sensitivity"], "malignant lesions are found.", why.get("lesion.sensitivity")),
        _draw_tile(
            _turn(lesions["specificity"]), "benign lesions set off a false alarm.", why.get("lesion.specificity")
        ),
        _draw_tile(
            evaluation.referral.referred,
            "images are referred to a person, with a reason.",
            why.get("referral.referred"),
        ),
        _draw_error(images, error, why.get("calibration_error")),
    ]
    return f'<ul class="tiles">{"".join(tiles)}</ul>'


def _draw_tile(estimate: Estimate, words: str, reason: str | None, hundred: bool = True) -> str:
    write = of_hundred if hundred else show_number
    if estimate.value is None:
        return f"<li><b>–</b>{to_html(words)}<span>Not computed: {to_html(reason or 'no data')}</span></li>"
    unit = " <small>of 100</small>" if hundred else ""
    known = estimate.low is not None and estimate.high is not None
    between = f"95 % interval: {write(estimate.low or 0)} to {write(estimate.high or 0)}" if known else "no interval"
    return f"<li><b>{write(estimate.value)}{unit}</b>{to_html(words)}<span>{between}</span></li>"


def _draw_error(figures: Mapping[str, Estimate], words: str, reason: str | None) -> str:
    """The calibration error beside what chance explains of it."""
    error, chance = figures["calibration_error"], figures.get("calibration_error_expected")
    if error.value is None or chance is None or chance.value is None:
        return _draw_tile(error, words, reason, hundred=False)
    told = f"by chance alone: {show_number(chance.low)} to {show_number(chance.high)}"
    return f"<li><b>{show_number(error.value)}</b>{to_html(words)}<span>{told}</span></li>"


def _draw_thousand(evaluation: Evaluation) -> str:
    counts = count_thousand(evaluation)
    if counts is None:
        return ""
    found, missed, alarm, clear = counts.values()
    told = (
        f"Of 1,000 lesions like those of this split, {found + missed} are malignant: the model finds {found} and "
        f"misses {missed}. Of the {alarm + clear} benign ones, it raises a false alarm for {alarm}. So {found} of "
        f"{found + alarm} alarms are right, and {missed} of {missed + clear} lesions without an alarm are malignant. "
        "Where malignant lesions are rarer, more of the alarms are false."
    )
    legend = "".join(
        f'<li><span class="box {style}"></span>{counts[style]} {words}</li>' for style, words in GROUPS.items()
    )
    drawing = draw_thousand(told, list(counts.items()))
    return (
        f'{to_paragraph(told)}<figure class="card"><figcaption>A thousand lesions like those of this split</figcaption>'
        f'{drawing}<ul class="legend">{legend}</ul></figure>'
    )


def _turn(estimate: Estimate) -> Estimate:
    """One less the figure, its interval the other way round."""
    value, low, high = (None if each is None else 1 - each for each in (estimate.value, estimate.high, estimate.low))
    return Estimate(value, low, high)
