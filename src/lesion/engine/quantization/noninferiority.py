"""Tests whether a quantized model loses less than the limits of the configuration, on images of other lesions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.config.schema import ExportConfig
from lesion.exports import Confirmation, Losses
from lesion.files import sha256
from lesion.inference.decide import Floats
from lesion.metrics.bootstrap import TAIL, bootstrap, count_lesions, to_finite
from lesion.metrics.ranking import LOWEST_SENSITIVITY, Ranking
from lesion.records import Estimate

Bools = npt.NDArray[np.bool_]
SEARCH = 3  # one lesion in so many is for the search, the others confirm what it chose
ENOUGH = 50  # lesions of each class; with fewer, a model that answers alike often fails to show it
NAMES = {"auroc": "AUROC", "specificity": "specificity", "sensitivity": "sensitivity"}
SHOWN = ("auroc", "specificity")  # losses whose interval must keep the limit


@dataclass(frozen=True, slots=True)
class Answers:
    """What two models answer to n images."""

    before: Floats
    """Malignant probabilities of the fp32 model, (n,)."""
    after: Floats
    """Those of the quantized model."""
    truth: Bools
    lesions: Sequence[str]

    def select(self, chosen: Bools) -> "Answers":
        """Those to the (n,) `chosen` images."""
        lesions = [lesion for lesion, kept in zip(self.lesions, chosen, strict=True) if kept]
        return Answers(self.before[chosen], self.after[chosen], self.truth[chosen], lesions)


def select_search(truth: Bools, lesions: Sequence[str]) -> Bools:
    """Which of n images the recipe is chosen on; the others confirm it.

    One lesion in `SEARCH` of either class, in the order of a hash, so that the parts depend on no random generator.
    """
    malignant = {lesion for lesion, positive in zip(lesions, truth, strict=True) if positive}
    chosen: set[str] = set()
    for members in (malignant, {*lesions} - malignant):
        ranked = sorted(members, key=lambda lesion: sha256(f"quantize:{lesion}".encode()))
        chosen.update(ranked[SEARCH - 1 :: SEARCH])
    return np.array([lesion in chosen for lesion in lesions], bool)


def measure_losses(answers: Answers, sensitivity: float) -> Losses:
    """What is lost from `before` to `after`, with 95 % intervals from the same resamples of lesions.

    auroc: of the area under the ROC curve. specificity: of the mean specificity at the sensitivities from 0.8 to 1,
    which is the partial AUROC over its width; at a single sensitivity a few images decide. sensitivity: at the
    specificity that `before` has where it reaches `sensitivity`.
    """
    pair = answers.before, answers.after
    fixed = float(Ranking.of(answers.before, answers.truth).specificity_at(sensitivity)[0])

    def subtract(weights: Floats) -> dict[str, Floats]:
        one, other = (Ranking.of(scores, answers.truth, weights) for scores in pair)
        specificity = (one.partial_auroc() - other.partial_auroc()) / (1 - LOWEST_SENSITIVITY)
        found = one.sensitivity_at(fixed) - other.sensitivity_at(fixed)
        return {"auroc": one.auroc - other.auroc, "specificity": specificity, "sensitivity": found}

    values = subtract(np.ones((1, len(answers.truth))))
    resampled = bootstrap(subtract, answers.lesions)
    return Losses(**{name: _estimate(float(value[0]), resampled[name]) for name, value in values.items()})


def find_excess(losses: Losses, limits: ExportConfig) -> str | None:
    """The first measured loss that is above its limit, in words; None when there is none.

    A loss of sensitivity counts only when its interval excludes none: a single image of a hundred exceeds the limit.
    """
    for name, loss, limit in _pairs(losses, limits):
        above = loss.value is not None and loss.value > limit
        if above and (name in SHOWN or (loss.low is not None and loss.low > 0)):
            return f"{NAMES[name]} lower by {loss.value:.4f}, at most {limit} allowed"
    return None


def confirm(answers: Answers, sensitivity: float, limits: ExportConfig) -> Confirmation:
    """The verdict on a quantized model, from images that it was not chosen on.

    Non-inferiority: the loss of AUROC and that of specificity are shown to keep their limits when the upper ends of
    their intervals do (Piaggio et al. 2012, doi:10.1001/jama.2012.87802); no significant loss is not enough. To show
    the same of sensitivity at one specificity takes hundreds of malignant lesions; there, only a shown loss counts.
    """
    malignant, benign = (count_lesions(answers.lesions, each) for each in (answers.truth, ~answers.truth))
    losses = measure_losses(answers, sensitivity)
    excess, few, doubt = find_excess(losses, limits), min(malignant, benign) < ENOUGH, None
    if few:
        doubt = f"{malignant} malignant and {benign} benign lesions are too few, at least {ENOUGH} of each are needed"
    for name, loss, limit in _pairs(losses, limits):
        if name in SHOWN and not (loss.high is not None and loss.high <= limit):
            reach = "is not known" if loss.high is None else f"may be {loss.high:.4f}"
            doubt = doubt or f"the loss of {NAMES[name]} {reach}, at most {limit} allowed"
    return Confirmation(
        images=len(answers.truth),
        malignant_lesions=malignant,
        losses=losses,
        shown=excess is None and doubt is None,
        refused=excess or (None if few else doubt),
        doubt=doubt,
    )


def _pairs(losses: Losses, limits: ExportConfig) -> list[tuple[str, Estimate, float]]:
    return [(name, getattr(losses, name), getattr(limits, f"max_{name}_loss")) for name in NAMES]


def _estimate(value: float, resampled: Floats) -> Estimate:
    """`value` with its percentile interval; no change in any resample is an interval, too."""
    usable = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(usable) < len(resampled) / 2:
        return Estimate(to_finite(value), None, None)
    low, high = np.quantile(usable, (TAIL, 1 - TAIL))
    return Estimate(value, min(float(low), value), max(float(high), value))
