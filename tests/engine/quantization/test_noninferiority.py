"""Whether a quantized model is shown to lose no more than it may: against models whose true loss is known."""

import numpy as np
import pytest

from lesion.config.schema import ExportConfig
from lesion.engine.quantization.noninferiority import Answers, confirm, find_excess, measure_losses, select_search
from lesion.exports import Losses
from lesion.records import Estimate

LIMITS = ExportConfig()


def draw(malignant: int, benign: int, noise: float, seed: int = 0) -> Answers:
    """Answers to two images of each lesion, before and after noise on the log-odds."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(malignant + benign) < malignant, 2)
    lesions = [str(i) for i in np.repeat(np.arange(malignant + benign), 2)]
    scores = np.repeat(rng.normal(0, 1, malignant + benign), 2) + 2.3 * truth + rng.normal(0, 0.5, len(truth))
    before, after = (1 / (1 + np.exp(-each)) for each in (scores, scores + rng.normal(0, 1, len(truth)) * noise))
    return Answers(before, after, truth, lesions)


def test_a_model_that_answers_alike_is_confirmed() -> None:
    verdict = confirm(draw(120, 600, 0.02), 0.95, LIMITS)
    assert (verdict.shown, verdict.refused, verdict.doubt) == (True, None, None)
    assert (verdict.images, verdict.malignant_lesions) == (1440, 120)


def test_noise_is_refused_although_its_sensitivity_is_the_same() -> None:
    answers = draw(120, 600, 0.02)
    answers = Answers(answers.before, np.random.default_rng(1).random(1440), answers.truth, answers.lesions)
    assert confirm(answers, 0.95, LIMITS).refused == find_excess(measure_losses(answers, 0.95), LIMITS) is not None


def test_a_few_malignant_images_that_cost_specificity_are_refused() -> None:
    answers = draw(150, 600, 0.0)
    after = answers.before.copy()
    middle = np.flatnonzero(answers.truth)[np.argsort(answers.before[answers.truth])[20:28]]
    after[middle] = 0.001
    losses = measure_losses(Answers(answers.before, after, answers.truth, answers.lesions), 0.95)
    excess = find_excess(Losses(Estimate(0.004, 0, 0), losses.specificity, Estimate(0, 0, 0)), LIMITS)
    assert str(excess).startswith("specificity lower by")


def test_no_significant_loss_is_not_enough() -> None:
    verdicts = [confirm(draw(60, 300, 0.3, seed), 0.95, LIMITS) for seed in range(5)]  # 0.007 worse in truth
    insignificant = [each for each in verdicts if (each.losses.auroc.low or 0.0) <= 0]
    assert insignificant
    assert not any(each.shown for each in verdicts)
    assert all(each.refused for each in verdicts)


def test_few_lesions_are_no_test() -> None:
    verdict = confirm(draw(10, 40, 0.0), 0.95, LIMITS)
    assert (verdict.shown, verdict.refused) == (False, None)
    assert verdict.doubt == "10 malignant and 40 benign lesions are too few, at least 50 of each are needed"
    worse = confirm(draw(10, 40, 2.0), 0.95, LIMITS)
    assert worse.refused is not None
    none = confirm(draw(0, 40, 0.0), 0.95, LIMITS)
    assert (none.shown, none.refused, none.losses.auroc) == (False, None, Estimate(None, None, None))


@pytest.mark.parametrize(
    ("losses", "excess"),
    [
        ((0.006, 0.0, 0.0), "AUROC lower by 0.0060, at most 0.005 allowed"),
        ((0.0, 0.03, 0.0), "specificity lower by 0.0300, at most 0.02 allowed"),
        ((0.0, 0.0, 0.02), "sensitivity lower by 0.0200, at most 0.01 allowed"),
        ((-0.1, -0.1, -0.1), None),
        ((None, None, None), None),
    ],
)
def test_a_measured_loss_above_its_limit_is_an_excess(
    losses: tuple[float | None, float | None, float | None], excess: str | None
) -> None:
    low = [None if each is None else each / 2 for each in losses]
    found = Losses(*(Estimate(value, each, None) for value, each in zip(losses, low, strict=True)))
    assert find_excess(found, LIMITS) == excess


def test_a_loss_of_sensitivity_that_chance_explains_is_no_excess() -> None:
    none, chance = Estimate(0.0, 0.0, 0.0), Estimate(0.02, 0.0, 0.04)
    assert find_excess(Losses(none, none, chance), LIMITS) is None
    assert find_excess(Losses(chance, none, none), LIMITS) is not None


def test_a_third_of_the_lesions_of_each_class_chooses_and_whole_lesions_do() -> None:
    answers = draw(60, 300, 0.0)
    chosen = select_search(answers.truth, answers.lesions)
    of = {lesion for lesion, each in zip(answers.lesions, chosen, strict=True) if each}
    assert not of & {lesion for lesion, each in zip(answers.lesions, chosen, strict=True) if not each}
    assert (len(of), len({*of} & {str(i) for i in range(60)})) == (120, 20)
    order = np.random.default_rng(0).permutation(len(chosen))
    again = select_search(answers.truth[order], [answers.lesions[i] for i in order])
    assert (again == chosen[order]).all()
