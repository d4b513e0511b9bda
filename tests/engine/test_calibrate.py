"""What is fitted on validation: against hand-worked cases and simulated data."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from lesion.engine.calibrate import (
    MARGIN,
    choose_threshold,
    count_spare,
    fit_conformal,
    fit_limits,
    fit_prior,
    fit_temperature,
    limit_coverage,
    summarize,
)
from lesion.errors import DataError, NonFiniteError
from lesion.inference.decide import find_flags, to_probabilities
from lesion.manifest import Check
from tests.inference.test_decide import TWO


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_data_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 7))
    targets = np.array([rng.choice(7, p=p) for p in to_probabilities(logits, true)])
    assert fit_temperature(logits, targets) == pytest.approx(true, rel=0.03)


def test_the_temperature_is_where_likelihood_and_prior_are_highest() -> None:
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(0, 4, (500, 7)), rng.integers(0, 7, 500)

    def loss(temperature: float) -> float:
        chosen = to_probabilities(logits, temperature)[np.arange(500), targets]
        return float(-np.log(chosen).sum() + np.log(temperature) ** 2 / 2)

    best = fit_temperature(logits, targets)
    assert all(loss(best) <= loss(other) + 1e-5 for other in np.geomspace(0.06, 19, 200))


@pytest.mark.parametrize("images", [2, 20, 200])
def test_a_split_that_is_answered_without_error_makes_no_model_certain_of_everything(images: int) -> None:
    logits = np.array([[5.0, 0.0], [0.0, 5.0]] * (images // 2))
    assert 0.5 < fit_temperature(logits, [0, 1] * (images // 2)) < 1


def test_an_unusual_temperature_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    targets = np.arange(500) % 2
    fit_temperature(np.eye(2)[targets], targets)
    assert "outside 0.5 to 10" in caplog.text
    assert "500 validation images" in caplog.text
    caplog.clear()
    fit_temperature([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    assert not caplog.text


SHARES = np.array([0.67, 0.12, 0.11, 0.06, 0.04])


def draw_scores(rng: np.random.Generator, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Log-likelihoods of five classes, and classes in their shares."""
    targets = rng.choice(5, count, p=SHARES)
    x = 2 * np.eye(5)[targets] + rng.normal(0, 1, (count, 5))
    return -((x[:, None] - 2 * np.eye(5)) ** 2).sum(2) / 2, targets


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_training_with_other_shares_is_corrected(power: float) -> None:
    rng = np.random.default_rng(3)

    def answer(likelihood: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Logits of a network that is too sure, trained with classes weighted by a power of their shares."""
        return 1.5 * (likelihood + (1 - power) * np.log(SHARES))

    (seen, targets), (new, truth) = draw_scores(rng, 400), draw_scores(rng, 20_000)
    correction = fit_prior(answer(seen), targets, SHARES, power)
    temperature = fit_temperature(answer(seen) + correction, targets)
    assert temperature == pytest.approx(1.5, rel=0.15)
    common = np.isin(truth, [1, 2]).mean()

    def mean(logits: npt.NDArray[np.float64], temperature: float) -> float:
        return float(to_probabilities(logits, temperature)[:, 1:3].sum(axis=1).mean())

    assert mean(answer(new) + correction, temperature) == pytest.approx(common, abs=0.025)
    assert mean(answer(new), fit_temperature(answer(seen), targets)) > common + 0.02


def test_the_operating_point_reaches_its_sensitivity() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(400) < 0.2
    scores = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1)
    threshold = choose_threshold(scores, truth, 0.95)
    assert (scores[truth] >= threshold).mean() >= 0.95
    assert np.abs(scores - threshold).min() >= MARGIN


@pytest.mark.parametrize(
    ("lesions", "spare"),
    [(44, None), (45, 0), (76, 0), (77, 1), (175, 4)],  # 0.95^45 = 0.0994
)
def test_so_many_lesions_may_be_missed_that_fewer_would_be_unlikely(lesions: int, spare: int | None) -> None:
    assert count_spare(lesions, 0.95, 0.9) == spare


def test_a_threshold_with_confidence_keeps_its_sensitivity_on_new_lesions() -> None:
    rng, reached = np.random.default_rng(5), []
    for _ in range(300):
        scores, lesions = draw_lesions(rng, 60)
        threshold = choose_threshold(scores, np.full(len(scores), True), 0.9, lesions, 0.9)
        new, owners = draw_lesions(rng, 300)
        images = np.bincount(np.array(owners, int))
        reached.append(np.average(new >= threshold, weights=np.repeat(1 / images, images)) >= 0.9)
    # New lesions are drawn, too: their share differs from the truth by a standard error of 0.017.
    assert np.mean(reached) > 0.87


def test_too_few_lesions_for_a_confidence_put_the_threshold_below_all(caplog: pytest.LogCaptureFixture) -> None:
    threshold = choose_threshold([0.3, 0.6, 0.1, 0.2], [True, True, False, False], 0.95, ["a", "b", "c", "d"], 0.9)
    assert 0.2 < threshold < 0.3
    assert "2 malignant lesions of validation are too few" in caplog.text


def test_a_model_that_knows_nothing_calls_everything_malignant() -> None:
    scores = 0.195 + np.linspace(0, 1e-7, 50)
    threshold = choose_threshold(scores, np.arange(50) % 5 == 0, 0.95)
    # Any threshold among these scores would be decided by rounding errors.
    assert threshold < 0.19


def test_no_malignant_image_means_no_operating_point() -> None:
    with pytest.raises(DataError, match="no malignant image"):
        choose_threshold([0.1, 0.2], [False, False], 0.95)


# --- conformal sets ---------------------------------------------------------------------------------------------------


def limits(benign: list[float], malignant: list[float], lesions: list[str], coverage: float) -> tuple[float, float]:
    sets = fit_conformal(
        [*benign, *malignant], [False] * len(benign) + [True] * len(malignant), lesions, coverage, coverage
    )
    assert (sets.coverage, sets.goals) == (coverage, (coverage, coverage))
    return sets.benign_to, sets.malignant_from


NINE = [0.5, 0.1, 0.9, 0.3, 0.2, 0.8, 0.4, 0.7, 0.6]


def test_of_nine_lesions_and_a_tenth_nine_are_covered() -> None:
    lesions = [f"L{i}" for i in range(18)]
    assert limits(NINE, NINE, lesions, 0.9) == (0.9, 0.1)
    assert limits(NINE, NINE, lesions, 0.8) == (0.8, 0.2)
    assert limits(NINE, NINE, lesions, 0.75) == (0.8, 0.2)  # 7.5 of 10: the eighth


def test_too_few_lesions_cover_everything() -> None:
    lesions = [f"L{i}" for i in range(16)]
    assert limits(NINE[:8], NINE[:8], lesions, 0.9) == (1, 0)  # 8 of 9 is less than 0.9
    assert limits(NINE[:8], [], lesions[:8], 0.8) == (0.9, 0)
    assert limits([], NINE[:8], lesions[:8], 0.8) == (1, 0.1)


def test_images_share_the_weight_of_their_lesion() -> None:
    # Sorted: 0.2 (half of A), 0.4 (B), 0.6 (half of A); with the new lesion the weights add up to 3.
    assert limits([0.2, 0.6, 0.4], [], ["A", "A", "B"], 0.5) == (0.4, 0)  # 0.5 + 1 of 3
    assert limits([0.2, 0.6, 0.4], [], ["A", "A", "B"], 0.6) == (0.6, 0)  # 0.5 + 1 + 0.5 of 3
    assert limits([0.2, 0.6, 0.4], [], ["A", "A", "B"], 0.7) == (1, 0)
    assert limits([0.2, 0.6, 0.4], [], ["A", "B", "C"], 0.6) == (0.6, 0)
    assert limits([], [0.8, 0.4, 0.6], ["A", "A", "B"], 0.5) == (1, 0.6)


def test_a_limit_is_the_probability_itself() -> None:
    # 1 - (1 - p) is not p for most floats, and an image at the limit belongs to the set.
    p = np.random.default_rng(0).random(999)
    _, lowest = limits([], p.tolist(), [str(i) for i in range(999)], 0.9)
    assert lowest in p
    assert (p >= lowest).sum() == 900


def test_each_class_has_a_coverage_of_its_own() -> None:
    truth = [False] * 9 + [True] * 9
    sets = fit_conformal([*NINE, *NINE], truth, [f"L{i}" for i in range(18)], 0.9, 0.8)
    assert (sets.malignant_from, sets.benign_to) == (0.1, 0.8)
    assert (sets.coverage, sets.goals) == (0.8, (0.9, 0.8))


def test_few_lesions_limit_a_coverage() -> None:
    truth, lesions = [True] * 9 + [False], [*(f"L{i}" for i in range(9)), "M"]
    assert limit_coverage(0.98, truth, lesions) == 0.9
    assert limit_coverage(0.8, truth, lesions) == 0.8
    assert limit_coverage(0.8, [True] * 10, ["L"] * 10) == 0.5
    assert limit_coverage(0.8, [False], ["L"]) == 0.8
    sets = fit_conformal(NINE, [True] * 9, lesions[:9], 0.9, 0.9)
    assert sets.malignant_from == 0.1  # the lowest one, not 0


def draw_lesions(rng: np.random.Generator, count: int) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Scores of lesions with one to eight images; the more images, the lower their scores."""
    images = rng.integers(1, 9, count)
    own = rng.normal(-0.3 * images, 1.0)
    scores = np.repeat(own, images) + rng.normal(0, 0.3, images.sum())
    return 1 / (1 + np.exp(-scores)), [str(i) for i in np.repeat(np.arange(count), images)]


@pytest.mark.parametrize("malignant", [False, True], ids=["benign", "malignant"])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_an_image_of_a_new_lesion_is_covered_as_promised(malignant: bool, coverage: float) -> None:
    rng, covered, by_image = np.random.default_rng(4), [], []
    for _ in range(300):
        scores, lesions = draw_lesions(rng, 60)
        new, owners = draw_lesions(rng, 40)
        first = new[np.unique(owners, return_index=True)[1]]
        flip = (lambda p: 1 - p) if malignant else (lambda p: p)
        sets = fit_conformal(flip(scores), np.full(len(scores), malignant), lesions, coverage, coverage)
        within = flip(first) >= sets.malignant_from if malignant else first <= sets.benign_to
        covered.append(within.mean())
        by_image.append((first <= np.quantile(scores, coverage)).mean())
    # Between the promise and one lesion of 61 more (standard error 0.003); every image for itself falls short.
    assert coverage - 0.01 < np.mean(covered) < coverage + 1 / 61 + 0.01
    assert np.mean(by_image) < coverage - 0.02


# --- limits of the checks ---------------------------------------------------------------------------------------------

CHECKS = (Check("a", None, None, "", "high a"), Check("b", None, None, "low b", "high b"))


def accept(measures: npt.NDArray[np.float64], checks: tuple[Check, ...]) -> npt.NDArray[np.bool_]:
    return np.array([not flags for flags in find_flags(measures, replace(TWO, checks=checks))])


@pytest.mark.parametrize("acceptance", [0.55, 0.9, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("n", [10, 100, 1503])
def test_just_as_many_pass_as_were_asked_for(n: int, acceptance: float) -> None:
    measures = np.random.default_rng(n).normal(size=(n, 2)) ** 3
    passing = accept(measures, fit_limits(measures, CHECKS, acceptance)).sum()
    assert passing == np.ceil(acceptance * n - 1e-9)


def test_a_side_without_a_flag_has_no_limit() -> None:
    a, b = fit_limits(np.random.default_rng(1).normal(size=(200, 2)), CHECKS, 0.95)
    assert a.low is None
    assert None not in (a.high, b.low, b.high)
    assert [(check.name, check.low_flag, check.high_flag) for check in (a, b)] == [
        ("a", "", "high a"),
        ("b", "low b", "high b"),
    ]


def test_the_first_measure_decides_and_the_others_keep_to_what_passes() -> None:
    measures = np.random.default_rng(2).uniform(size=(100, 2))
    measures[[3, 50, 77]] = [[9, 0.5], [8, -9], [7, 9]]
    checks = fit_limits(measures, CHECKS, 0.97)
    others = np.delete(measures, [3, 50, 77], axis=0)
    assert np.flatnonzero(~accept(measures, checks)).tolist() == [3, 50, 77]
    assert checks[0].high == others[:, 0].max()
    assert (checks[1].low, checks[1].high) == (others[:, 1].min(), others[:, 1].max())
    assert find_flags([[9, 0.5], [8, -9], [7, 9], [0.5, 9]], replace(TWO, checks=checks)) == [
        ("high a",),
        ("high a", "low b"),
        ("high a", "high b"),
        ("high b",),
    ]


def test_a_measure_that_never_varies_flags_only_what_differs() -> None:
    measures = np.random.default_rng(3).normal(size=(100, 2))
    measures[:, 1] = 0.25
    checks = fit_limits(measures, CHECKS, 0.95)
    assert (checks[1].low, checks[1].high) == (0.25, 0.25)
    assert accept(measures, checks).sum() == 95


def test_images_that_are_all_alike_all_pass() -> None:
    measures = np.full((20, 2), 0.5)
    assert accept(measures, fit_limits(measures, CHECKS, 0.95)).all()


@pytest.mark.parametrize("acceptance", [0.6, 1.0])
def test_a_measure_that_is_not_a_number_makes_no_limit(acceptance: float) -> None:
    measures = np.random.default_rng(4).normal(size=(50, 2))
    measures[7, 0], measures[9, 1] = np.nan, np.inf
    checks = fit_limits(measures, CHECKS, acceptance)
    assert np.isfinite([checks[0].high, checks[1].low, checks[1].high]).all()
    assert not accept(measures, checks)[[7, 9]].any()
    with pytest.raises(NonFiniteError, match="the checks measure no validation image"):
        fit_limits(np.full((5, 2), np.nan), CHECKS, acceptance)


def test_the_reference_leaves_out_what_is_not_a_number() -> None:
    values = np.linspace(0, 1, 101)
    assert summarize("a", [*values, np.nan, np.inf]) == summarize("a", values)


# --- what service is compared with ------------------------------------------------------------------------------------


def test_a_distribution_has_ten_even_bins() -> None:
    reference = summarize("malignant", np.linspace(0, 1, 1001))
    assert reference.name == "malignant"
    assert reference.edges == pytest.approx(np.linspace(0.1, 0.9, 9))
    assert reference.shares == pytest.approx([0.1] * 10, abs=0.002)
    assert sum(reference.shares) == pytest.approx(1)


def test_values_that_repeat_make_fewer_bins() -> None:
    reference = summarize("x", [0.0] * 55 + [1.0] * 27 + [2.0] * 18)
    assert reference.edges == (0, 1, 2)
    assert reference.shares == (0, 0.55, 0.27, 0.18)  # a value at an edge belongs to the bin above it
    assert summarize("x", [7.0] * 5).edges == (7,)
    assert summarize("x", [7.0]).shares == (0, 1)
