"""How the model does on some of the images: by age, sex, site, confirmation and tone of the skin."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lesion.data.index import Row
from lesion.data.stats import UNKNOWN, to_band
from lesion.engine.evaluation.answers import Bools, SplitAnswers
from lesion.engine.evaluation.skin import DARKEST, TONES, measure_angle, to_tone
from lesion.evaluation import Subgroup
from lesion.inference.decide import Floats
from lesion.inference.predictor import Pixels
from lesion.metrics import auroc, confusion, estimate_figures, rates
from lesion.metrics.bootstrap import count_lesions
from lesion.metrics.contrast import correct, p_of_lower_auroc, p_of_lower_share
from lesion.metrics.reasons import explain_interval
from lesion.metrics.samples import divide
from lesion.records import Estimate

LEAST = 10  # lesions; of fewer, an interval says that nothing is known
TONE = "skin tone (proxy)"


def estimate_subgroups(answers: SplitAnswers, pixels: Pixels) -> tuple[list[Subgroup], dict[str, str]]:
    """Figures of every subgroup, and for what nothing is known of the images ("subgroups.sex" → why)."""
    found: list[Subgroup] = []
    why: dict[str, str] = {}
    insides: list[Bools] = []
    for group, values in find_groups(answers.rows, pixels).items():
        if set(values) == {UNKNOWN}:
            where = "its rim shows no skin" if group == TONE else "the metadata say nothing of it"
            why[f"subgroups.{group}"] = f"unknown for every image: {where}"
            continue
        chosen = np.asarray(values)
        for value in sort_values(values):
            found.append(_estimate(answers, group, value, chosen == value))
            insides.append(chosen == value)
    return compare_with_rest(answers, found, insides), why


def compare_with_rest(answers: SplitAnswers, subgroups: Sequence[Subgroup], insides: Sequence[Bools]) -> list[Subgroup]:
    """The `subgroups`, whose images the (n,) `insides` mark, with how likely each is not lower than the rest.

    A figure is compared where both sides have LEAST lesions of each class that it is of; all p-values are corrected
    together.
    """
    rests = [_compare(answers, inside) for inside in insides]
    names = [(k, name) for k, rest in enumerate(rests) for name in rest]
    p_values = correct([rests[k][name][1] for k, name in names])
    lower: list[dict[str, float]] = [{} for _ in rests]
    for (k, name), p_value in zip(names, p_values, strict=True):
        lower[k][name] = p_value
    return [
        replace(one, rest={name: value for name, (value, _) in rest.items()}, p_lower=p_lower)
        for one, rest, p_lower in zip(subgroups, rests, lower, strict=True)
    ]


def find_groups(rows: Sequence[Row], pixels: Pixels) -> dict[str, list[str]]:
    """What is told apart → the value of each image, "unknown" where it has none."""
    return {
        "age": [to_band(row.age) for row in rows],
        "sex": [row.sex.lower() or UNKNOWN for row in rows],
        "site": [row.localization.lower() or UNKNOWN for row in rows],
        "confirmation": [row.dx_type.lower() or UNKNOWN for row in rows],
        TONE: [to_tone(angle) for angle in measure_angle(pixels).tolist()],
    }


def sort_values(values: Sequence[str]) -> list[str]:
    """The different values: ages and tones in their order, others by size, what is unknown last."""
    images = Counter(values)
    tones = [*(tone for _, tone in TONES), DARKEST]
    ages = {value: int(value.partition("–")[0].rstrip("+")) for value in images if value[:1].isdecimal()}

    def rank(value: str) -> tuple[bool, int, str]:
        place = ages.get(value, tones.index(value) if value in tones else -images[value])
        return value == UNKNOWN, place, value

    return sorted(images, key=rank)


def _estimate(answers: SplitAnswers, group: str, value: str, inside: Bools) -> Subgroup:
    some = answers.take(np.flatnonzero(inside).tolist())
    p, truth, predicted, referred, lesions = some.malignant, some.truth, some.predicted, some.referred, some.lesions
    malignant, benign = count_lesions(lesions, truth), count_lesions(lesions, ~truth)

    def measure(weights: Floats) -> Mapping[str, Floats]:
        of_decisions = rates(confusion(predicted, truth, weights))
        return {
            "auroc": auroc(p, truth, weights),
            "sensitivity": of_decisions["sensitivity"],
            "specificity": of_decisions["specificity"],
            "referred": divide(weights @ referred, weights.sum(1)),
        }

    all_lesions = len(set(lesions))
    trials, pairs = (
        {"sensitivity": malignant, "specificity": benign, "referred": all_lesions},
        {"auroc": min(malignant, benign)},
    )
    few = _find_few(malignant, benign, all_lesions)
    metrics = {name: Estimate(None, None, None) for name in (*pairs, *trials)}
    if few.keys() < metrics.keys():
        estimates = estimate_figures(measure, lesions, trials=trials, pairs=pairs)
        metrics |= {name: each for name, each in estimates.items() if name not in few}
    few |= {
        name: explain_interval(all_lesions) for name, each in metrics.items() if each.low is None and name not in few
    }
    return Subgroup(group, value, len(some.rows), all_lesions, int(truth.sum()), metrics, few)


def _compare(answers: SplitAnswers, inside: Bools) -> dict[str, tuple[float, float]]:
    """Figure → its value over the other images, and the p-value of being lower inside."""
    p, truth, predicted, lesions = answers.malignant, answers.truth, answers.predicted, np.asarray(answers.lesions)
    enough = {
        positive: all(count_lesions(answers.lesions, side & (truth == positive)) >= LEAST for side in (inside, ~inside))
        for positive in (True, False)
    }
    found = {}
    if all(enough.values()):
        found["auroc"] = float(auroc(p[~inside], truth[~inside])[0]), p_of_lower_auroc(p, truth, inside, lesions)
    for name, positive in (("sensitivity", True), ("specificity", False)):
        if enough[positive]:
            of = truth == positive
            right = predicted[of] == positive
            found[name] = float(right[~inside[of]].mean()), p_of_lower_share(right, inside[of], lesions[of])
    return {name: (value, p_value) for name, (value, p_value) in found.items() if p_value is not None}


def _find_few(malignant: int, benign: int, lesions: int) -> dict[str, str]:
    """Figure → why so few lesions give none."""

    def lack(count: int, kind: str) -> str:
        return f"{count or 'no'} {kind}lesion{'s' * (count != 1)}, at least {LEAST} expected" if count < LEAST else ""

    positives, negatives = lack(malignant, "malignant "), lack(benign, "benign ")
    reasons = {
        "auroc": positives or negatives,
        "sensitivity": positives,
        "specificity": negatives,
        "referred": lack(lesions, ""),
    }
    return {name: reason for name, reason in reasons.items() if reason}
