"""Figures of each diagnosis against all others, and their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import bootstrap, count_lesions, count_pairs, count_trials, to_area, to_estimate
from lesion.metrics.decisions import confusion, rates
from lesion.metrics.ranking import Ranking
from lesion.metrics.reasons import explain, explain_interval
from lesion.metrics.samples import Bools, Floats, check_probabilities, divide
from lesion.records import Estimate

FIGURES = ("auroc", "average_precision", "sensitivity", "precision", "f1")


@dataclass(frozen=True, slots=True)
class DiagnosisFigures:
    """One diagnosis against all others."""

    images: int
    """Those that have it."""
    lesions: int
    figures: dict[str, Estimate]
    missing: dict[str, str]
    """Figure → why it has no value or no interval."""


@dataclass(frozen=True, slots=True)
class DiagnosesFigures:
    """All diagnoses."""

    each: dict[str, DiagnosisFigures]
    macro: dict[str, Estimate]
    """Plain means over the diagnoses in `over`; the mean sensitivity is the balanced accuracy of the diagnoses."""
    over: tuple[str, ...]
    """The diagnoses that occur."""
    missing: dict[str, str]
    """Figure → why its mean has no value or no interval."""


def measure_diagnoses(
    probabilities: npt.ArrayLike, targets: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> dict[str, Floats]:
    """`FIGURES` of every diagnosis against the others: name → (b, classes), NaN where undefined.

    `probabilities` is (n, classes), `targets` (n,) int; the answer is the most probable diagnosis. Raises DataError
    when a probability is NaN or outside [0, 1].
    """
    p, t = check_probabilities(probabilities), np.asarray(targets, int)
    chosen, columns = p.argmax(1), []
    for d in range(p.shape[1]):
        ranking = Ranking.of(p[:, d], t == d, weights)
        of_ranks = {"auroc": ranking.auroc, "average_precision": ranking.average_precision}
        columns.append(of_ranks | rates(confusion(chosen == d, t == d, weights)))
    return {name: np.stack([column[name] for column in columns], axis=1) for name in FIGURES}


def estimate_diagnoses(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    labels: Sequence[str],
    groups: Sequence[str],
    seed: int = 0,
) -> DiagnosesFigures:
    """`measure_diagnoses` and its means, with intervals as in `estimate`.

    `labels` name the classes. A diagnosis without images has no part in the means; where one that occurs has no
    precision, because it is never the answer, there is no mean precision.
    """
    p, t = check_probabilities(probabilities), np.asarray(targets, int)
    values, resampled = measure_diagnoses(p, t), bootstrap(partial(measure_diagnoses, p, t), groups, seed)
    each = {}
    for d, label in enumerate(labels):
        own = {name: (float(values[name][0, d]), resampled[name][:, d]) for name in FIGURES}
        each[label] = _estimate_one(own, t == d, p.argmax(1) == d, label, groups)
    occurs = np.isin(np.arange(len(labels)), t)
    over = tuple(label for label, there in zip(labels, occurs, strict=True) if there)
    macro = {
        name: to_estimate(float(_average(values[name][:, occurs])[0]), _average(resampled[name][:, occurs]))
        for name in FIGURES
    }
    return DiagnosesFigures(each, macro, over, _explain_means(macro, [each[label] for label in over]))


def _estimate_one(
    own: Mapping[str, tuple[float, Floats]], truth: Bools, predicted: Bools, label: str, groups: Sequence[str]
) -> DiagnosisFigures:
    trials = count_trials(predicted, truth, groups)
    figures = {name: to_estimate(value, resampled, trials.get(name)) for name, (value, resampled) in own.items()}
    figures["auroc"] = to_area(*own["auroc"], count_pairs(truth, groups))
    missing = explain(figures, truth, predicted, groups, label)
    return DiagnosisFigures(int(truth.sum()), count_lesions(groups, truth), figures, missing)


def _average(values: Floats) -> Floats:
    """(b, k) → (b,); NaN where a value is, or without any."""
    return divide(values.sum(1), values.shape[1])


def _explain_means(macro: Mapping[str, Estimate], each: Sequence[DiagnosisFigures]) -> dict[str, str]:
    missing = {}
    for name, mean in macro.items():
        if mean.low is None:
            reasons = [one.missing[name] for one in each if one.figures[name].value is None]
            fewest = min((one.lesions for one in each), default=0)
            missing[name] = (reasons or [explain_interval(fewest)])[0] if each else "there are no images"
    return missing
