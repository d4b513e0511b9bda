"""The model card: what is recorded of a model file and of its evaluation, as Markdown."""

import json
from typing import Any

from lesion.data.publishers import find_source
from lesion.engine.evaluation.markdown import draw_list, draw_table, to_markdown
from lesion.engine.evaluation.results import draw_results, list_weaknesses
from lesion.engine.evaluation.words import (
    FLAGS,
    name_diagnosis,
    name_figure,
    show_number,
    show_round,
    show_rule,
    to_words,
)
from lesion.evaluation import Evaluation
from lesion.manifest import Check, Manifest
from lesion.records import NOTICE
from lesion.taxonomy import BENIGN, MALIGNANT

MISSING = "not recorded"
HAM10000 = "HAM10000"
# Said elsewhere on the card.
TOLD = ("data", "split", "notice", "operating_point", "validation", "parity", "members")
TRAINING = {
    "tier": "Network",
    "parameters": "Parameters",
    "run": "Run",
    "config": "Configuration, fingerprint",
    "exported": "Exported",
    "lesion": "By lesion",
}
NOT_FOR = (
    "any decision about a patient: diagnosis, screening, triage or follow-up",
    "photographs without a dermatoscope, other organs, or several lesions in one picture",
    "lesions of other kinds than the classes below: each gets one of their names all the same",
)
LIMITS = {
    "One picture": "The file sees one picture: no history, no age, no earlier picture, no other lesion of the patient.",
    "One source": "It was measured on images of the same dataset that it learned from; other clinics, cameras and "
    "populations were not measured.",
}
OF_HAM10000 = {
    "Skin": "Most images of the ISIC 2018 challenge, whose training set is HAM10000, show light skin, by its estimated "
    "colour (Kinyanjui et al. 2019, arXiv:1910.13268). On clinical photographs of all skin types, a model trained "
    "on HAM10000 reached an AUROC of 0.67, and 0.57 for Fitzpatrick types V and VI (Daneshjou et al. 2022, "
    "doi:10.1126/sciadv.abq6147).",
    "Truth": "Not every diagnosis was confirmed by histopathology; others rest on follow-up, consensus or confocal "
    "microscopy (Tschandl et al. 2018, doi:10.1038/sdata.2018.161).",
}


def render_card(evaluation: Evaluation | None, manifest: Manifest) -> str:
    """The card in Markdown; what is not recorded is said to be missing.

    Args:
        evaluation: of the very file that `manifest` is from; None when it has not been evaluated.
        manifest: what the model file says about itself.
    """
    name = manifest.name if evaluation is None else evaluation.model
    parts = [
        f"# Model card: {to_markdown(name)}",
        f"**{NOTICE}**",
        "## Use",
        "Meant for research on, and teaching about, the classification of dermatoscopic images of single skin lesions. "
        "Not for:",
        draw_list(NOT_FOR),
        "## Data and licence",
        _draw_data(manifest),
        "## Classes",
        _draw_classes(manifest),
        "## Training",
        _draw_training(manifest),
        "## From picture to answer",
        _draw_rule(manifest),
        "## Results",
        _draw_validation(manifest) if evaluation is None else draw_results(evaluation),
        "## Known limits",
        _draw_limits(evaluation, manifest),
        "## Verify",
        _draw_verify(evaluation, manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _draw_data(manifest: Manifest) -> str:
    facts = manifest.provenance
    rows = [["trained on", _tell(facts, "data")], ["split, fingerprint", _tell(facts, "split")]]
    if facts.get("data") != HAM10000:
        why = "synthetic, drawn by lesion" if facts.get("data") == "synthetic" else MISSING
        return draw_table(["fact", "value"], [*rows, ["licence of the data", why]])
    licence = find_source("ham10000").licence
    rows += [
        ["licence of the data", f"[{licence.name}]({licence.url}): {licence.terms}"],
        ["licence of these weights", "non-commercial use only, as they are derived from that data"],
    ]
    return (
        draw_table(["fact", "value"], rows) + "\n\nTo be named:\n\n" + draw_list(map(to_markdown, licence.attribution))
    )


def _draw_classes(manifest: Manifest) -> str:
    taxonomy, malignant = manifest.taxonomy, manifest.taxonomy.malignant_outputs
    rows = [
        [str(index), to_markdown(name_diagnosis(label)), MALIGNANT if index in malignant else BENIGN]
        for index, label in enumerate(taxonomy.labels)
    ]
    counted = ", ".join(to_markdown(name_diagnosis(dx)) for dx in taxonomy.malignant)
    return draw_table(["output", "class", "counts as"], rows) + f"\n\nMalignant are {counted}."


def _draw_training(manifest: Manifest) -> str:
    facts = manifest.provenance
    rest = {key: to_markdown(to_words(key)) for key in facts if key not in (*TRAINING, *TOLD, "checkpoint")}
    made_of = {"members": "Mean of"} if "members" in facts else {"checkpoint": "Checkpoint"}
    rows = [[title, _tell(facts, key)] for key, title in (TRAINING | made_of | rest).items()]
    rows.append(["Agreement with the network it was made from", _tell_parity(facts.get("parity"))])
    return draw_table(["fact", "value"], rows)


def _tell_parity(parity: Any) -> str:
    if not isinstance(parity, dict) or not isinstance(parity.get("max_difference"), float):
        return MISSING
    return to_markdown(
        f"{parity.get('images')} images, largest difference of a probability {parity['max_difference']:.2g}, "
        f"{parity.get('flips')} other decisions"
    )


def _draw_rule(manifest: Manifest) -> str:
    spec, sets = manifest.preprocess, manifest.conformal
    rule = show_rule(str(manifest.provenance.get("operating_point", MISSING)))
    steps = [
        f"The largest centred square of the upright RGB picture, resized to {spec.size} × {spec.size} pixels "
        f"({to_markdown(spec.filter)}).",
        f"The network's logits, divided by the temperature {show_number(manifest.temperature)}, then softmax; the "
        "probabilities of the malignant classes are added.",
        f"**Malignant** from {show_number(manifest.threshold)} on (operating point: {to_markdown(rule)}).",
        f"Conformal sets for {show_round(sets.goals[0])} of the malignant and {show_round(sets.goals[1])} of the "
        f"benign lesions: malignant is possible from {show_number(sets.malignant_from)} on, benign up to "
        f"{show_number(sets.benign_to)}.",
        "**Refer** when the set does not hold just the answer, or a check below is not passed.",
    ]
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    checks = draw_table(["check", "at least", "at most", "else the picture is"], map(_tell_check, manifest.checks))
    return f"{numbered}\n\n{checks}" if manifest.checks else f"{numbered}\n\nThe file holds no checks of pictures."


def _tell_check(check: Check) -> list[str]:
    bounds = ["–" if each is None else f"{each:.4g}" for each in (check.low, check.high)]
    flags = [FLAGS.get(flag, flag) for flag in (check.low_flag, check.high_flag) if flag]
    return [to_markdown(check.name), *bounds, to_markdown("; or ".join(flags))]


def _draw_validation(manifest: Manifest) -> str:
    figures = manifest.provenance.get("validation")
    told = "This file has not been evaluated on a test split; `lesion eval` does it."
    if not isinstance(figures, dict):
        return f"{told} Figures on validation: {MISSING}."
    rows = [[to_markdown(name_figure(name)), _write(value)] for name, value in figures.items()]
    note = "On validation, to which threshold and temperature were fitted, so these figures flatter:"
    return f"{told} {note}\n\n{draw_table(['figure', 'value'], rows)}"


def _draw_limits(evaluation: Evaluation | None, manifest: Manifest) -> str:
    limits = dict(LIMITS) | (OF_HAM10000 if manifest.provenance.get("data") == HAM10000 else {})
    if evaluation is None or evaluation.fingerprint != manifest.provenance.get("split"):
        limits["One source"] = "How it does on images of another source than those it learned from is not recorded."
    items = [f"**{title}.** {text}" for title, text in limits.items()]
    return draw_list([*items, *(list_weaknesses(evaluation) if evaluation else ())])


def _draw_verify(evaluation: Evaluation | None, manifest: Manifest) -> str:
    digest = evaluation.model.rpartition("@")[2] if evaluation else ""
    begins = f"begins with {to_markdown(digest)}" if digest else f"is that of the file you were given: {MISSING} here"
    return draw_list(
        [
            f"`sha256sum model.onnx` {begins}.",
            "Whenever the file is loaded, its seal, its manifest and a self-test are checked: `lesion predict IMAGE "
            "--model model.onnx`.",
            "`lesion eval --model model.onnx` measures it again; the split must have the fingerprint "
            f"{_tell(manifest.provenance, 'split')}.",
        ]
    )


def _tell(facts: dict[str, Any], key: str) -> str:
    return _write(facts[key]) if facts.get(key) not in (None, "") else MISSING


def _write(value: Any) -> str:
    """A recorded value as Markdown."""
    if isinstance(value, float):
        return show_number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list) and value and all(isinstance(each, dict) and "model" in each for each in value):
        return to_markdown("; ".join(f"{each['model']} of run {each.get('run', MISSING)}" for each in value))
    return to_markdown(value if isinstance(value, str) else MISSING if value is None else json.dumps(value))
