"""How far intervals and tests of the evaluation can be trusted: simulations in which the truth is known.

Every section is a function that yields the lines of one Markdown table; `SECTIONS` lists them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

SHARES = (0.80, 0.85, 0.90, 0.95, 0.98, 0.99)
LESIONS = (20, 30, 40, 65, 100, 200, 300)
RESAMPLES = 200  # of each interval instead of 2,000: enough for a variance, and ten times as fast
IMAGES = ((1, 2, 3, 4, 6), (0.55, 0.25, 0.12, 0.05, 0.03))  # of a lesion, and how often, about as in HAM10000
# Value → share of the images, about as in HAM10000; what a picture's skin tone is taken for, as evaluated there.
GROUPS = {
    "age": (0.01, 0.02, 0.05, 0.15, 0.2, 0.2, 0.17, 0.12, 0.06, 0.02),
    "sex": (0.54, 0.45, 0.01),
    "site": (0.22, 0.21, 0.14, 0.11, 0.1, 0.07, 0.04, 0.03, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01),
    "confirmation": (0.53, 0.37, 0.09, 0.01),
    "tone": (0.55, 0.25, 0.1, 0.06, 0.03, 0.01),
}

Section = Callable[[], Iterator[str]]


def measure() -> Iterator[str]:
    """The tables of all sections."""
    yield "Except in the first table, a cell rests on 100 to 400 simulations: 95 % can show as 91 to 99, or 93 to 97 %."
    with _resample(RESAMPLES):
        for section in SECTIONS:
            yield ""
            yield from section()


def measure_shares() -> Iterator[str]:
    """Coverage of the intervals of shares, one image per lesion: exact, over all counts that can be found."""
    from lesion.metrics.bootstrap import to_share

    yield "Intervals of a share that hold the truth, in %: mean over shares within 0.01; in brackets the least of them"
    yield ""
    yield _draw_row("lesions", *(f"share {share:.2f}" for share in SHARES), "all of 0.80 to 0.99")
    yield _draw_rule(len(SHARES) + 2)
    for lesions in LESIONS:
        weights = np.random.default_rng(0).multinomial(lesions, np.full(lesions, 1 / lesions), 2000) / lesions
        hits = np.arange(lesions)[:, None] < np.arange(lesions + 1)
        counts = np.arange(lesions + 1)
        found = [to_share(k / lesions, weights @ hits[:, k], lesions) for k in counts]
        ends = np.array([(each.low, each.high) for each in found])

        def cover(share: float, ends: Any = ends, counts: Any = counts, lesions: int = lesions) -> float:
            inside = (ends[:, 0] <= share) & (share <= ends[:, 1])
            return float(_binomial(counts, lesions, share)[inside].sum())

        near = [[cover(each) for each in np.linspace(share - 0.01, min(share + 0.01, 0.999), 21)] for share in SHARES]
        everywhere = [cover(each) for each in np.linspace(0.8, 0.99, 191)]
        cells = [f"{100 * np.mean(each):.1f} ({100 * min(each):.1f})" for each in (*near, everywhere)]
        yield _draw_row(str(lesions), *cells)


def measure_clustered_shares(repeats: int = 200) -> Iterator[str]:
    """Coverage of the intervals of shares when lesions have one to six images that agree more or less."""
    from lesion.metrics import estimate_figures
    from lesion.metrics.samples import divide

    rng = np.random.default_rng(1)
    yield "The same with 1 to 6 images a lesion, by how much their decisions agree (correlation within a lesion), in %"
    yield ""
    yield _draw_row("lesions", "correlation", *(f"share {share:.2f}" for share in SHARES))
    yield _draw_rule(len(SHARES) + 2)
    for lesions in (20, 65, 300):
        for correlation in (0.0, 0.5, 1.0):
            cells = []
            for share in SHARES:
                held = 0
                for seed in range(repeats):
                    true = rng.uniform(share - 0.01, min(share + 0.01, 0.999))
                    owners = np.repeat(np.arange(lesions), rng.choice(IMAGES[0], lesions, p=IMAGES[1]))
                    hits = _draw_hits(rng, true, owners, correlation)
                    (found,) = estimate_figures(
                        lambda w, hits=hits: {"share": divide(w @ hits, w.sum(1))}, owners, seed, {"share": lesions}
                    ).values()
                    held += _holds(found, true)
                cells.append(f"{100 * held / repeats:.1f}")
            yield _draw_row(str(lesions), f"{correlation:g}", *cells)


def measure_differences(repeats: int = 400) -> Iterator[str]:
    """Coverage of the difference of two models' sensitivities, and how often equal ones are told apart."""
    from lesion.metrics import compare

    rng = np.random.default_rng(2)
    pairs = ((0.9, 0.9), (0.95, 0.95), (0.95, 0.85), (0.99, 0.95))
    yield "Paired differences of two models' shares: intervals that hold the truth, and p-values below 0.05, in %"
    yield ""
    yield _draw_row("lesions", *(f"{a:.2f} and {b:.2f}" for a, b in pairs))
    yield _draw_rule(len(pairs) + 1)
    for lesions in (20, 65, 150, 300):
        ids, cells = np.arange(lesions), []
        for pair in pairs:
            held = rejected = 0
            for seed in range(repeats):
                common = rng.random(lesions)
                own = [np.where(rng.random(lesions) < 0.6, common, rng.random(lesions)) < share for share in pair]
                figures = [lambda w, hits=hits: {"share": w @ hits / w.sum(1)} for hits in own]
                found = compare(figures[0], figures[1], ids, seed, trials={"share": lesions})["share"]
                held += _holds(found.difference, pair[0] - pair[1])
                rejected += found.p is not None and found.p < 0.05
            cells.append(f"{100 * held / repeats:.1f}; {100 * rejected / repeats:.1f}")
        yield _draw_row(str(lesions), *cells)


def measure_auroc(repeats: int = 300) -> Iterator[str]:
    """Coverage of the intervals of AUROC for few lesions of one class."""
    from statistics import NormalDist

    from lesion.metrics import estimate_auroc

    rng = np.random.default_rng(3)
    sizes = ((10, 40), (10, 200), (20, 200), (25, 100), (60, 240))
    yield "Intervals of AUROC that hold the truth, in %; in brackets those that lie above it"
    yield ""
    yield _draw_row("AUROC", *(f"{m} malignant, {n} benign" for m, n in sizes))
    yield _draw_rule(len(sizes) + 1)
    for area in (0.75, 0.85, 0.93, 0.97):
        cells = []
        for malignant, benign in sizes:
            truth, held, above = np.arange(malignant + benign) < malignant, 0, 0
            for seed in range(repeats):
                scores = rng.normal(size=len(truth)) + np.sqrt(2) * NormalDist().inv_cdf(area) * truth
                found = estimate_auroc(scores, truth, np.arange(len(truth)), seed)
                held += _holds(found, area)
                above += found.low is not None and found.low > area
            cells.append(f"{100 * held / repeats:.1f} ({100 * above / repeats:.1f})")
        yield _draw_row(f"{area:.2f}", *cells)


def measure_calibration(repeats: int = 300) -> Iterator[str]:
    """Coverage of slope and intercept, and what the calibration error says of models that are calibrated or not."""
    from lesion.metrics.calibration import calibration_error, estimate_recalibration, expect_calibration_error

    rng = np.random.default_rng(4)
    many = _draw_probabilities(rng, 400_000)
    yield "Calibration: intervals of slope and intercept that hold the truth, in %; means of calibration errors (ECE);"
    yield "and how often the ECE lies within the 95 % range of a perfectly calibrated model, in %"
    yield ""
    head = ("images", "true slope", "slope held", "intercept held", "true ECE", "ECE", "ECE by chance", "beyond chance")
    yield _draw_row(*head, "ECE in range")
    yield _draw_rule(len(head) + 1)
    for images in (100, 300, 1500):
        for slope in (1.0, 0.8, 1.3):
            times = repeats if images < 1000 else repeats // 3
            found, ids, shift = [], np.arange(images), _find_shift(many, slope)
            for seed in range(times):
                p = _draw_probabilities(rng, images)
                truth = rng.random(images) < _expit(slope * _logit(p))
                held = estimate_recalibration(p, truth, ids, seed)
                error, chance = float(calibration_error(p, truth)[0]), expect_calibration_error(p, ids, seed)
                found.append((
                    _holds(held["calibration_slope"], slope), _holds(held["calibration_intercept"], shift),
                    error, chance.value, max(0.0, error - chance.value), _holds(chance, error),
                ))  # fmt: skip
            slopes, intercepts, error, chance, excess, inside = np.mean(np.array(found, float), axis=0)
            true = float(_mean_distance(many, _expit(slope * _logit(many))))
            yield _draw_row(
                f"{images:,}", f"{slope:g}", f"{100 * slopes:.1f}", f"{100 * intercepts:.1f}", f"{true:.3f}",
                f"{error:.3f}", f"{chance:.3f}", f"{excess:.3f}", f"{100 * inside:.1f}",
            )  # fmt: skip


def measure_subgroups(cards: int = 150) -> Iterator[str]:
    """How often a model card names a subgroup as lower that is not, and one that is."""
    from lesion.engine.evaluation.subgroups import compare_with_rest
    from lesion.engine.evaluation.words import is_lower
    from lesion.evaluation import Subgroup

    rng = np.random.default_rng(5)
    yield f"Model cards of 1,500 images in {sum(map(len, GROUPS.values()))} subgroups that name one as lower, in %"
    yield ""
    yield _draw_row("AUROC, sensitivity, specificity", "any subgroup named", "the worse one named")
    yield _draw_rule(3)
    for title, drop in (
        ("the same everywhere", 0.0),
        ("malignant scores lower by one deviation at a site with a fifth of the lesions", 1.0),
    ):
        named = worse = 0
        for _ in range(cards):
            answers, insides = _draw_card(rng, drop)
            blank = [
                Subgroup(name, str(k), 0, 0, 0, {}, {}) for name, values in GROUPS.items() for k in range(len(values))
            ]
            found = compare_with_rest(answers, blank, insides)
            lower = [each for each in found if any(is_lower(each, figure) for figure in each.p_lower)]
            named += bool(lower)
            worse += any((each.group, each.value) == ("site", "1") for each in lower)
        yield _draw_row(title, f"{100 * named / cards:.1f}", f"{100 * worse / cards:.1f}" if drop else "")


SECTIONS: tuple[Section, ...] = (
    measure_shares,
    measure_clustered_shares,
    measure_differences,
    measure_auroc,
    measure_calibration,
    measure_subgroups,
)


def _draw_card(rng: Any, drop: float) -> tuple[Any, Sequence[Any]]:
    """Answers of a binormal model, malignant scores `drop` lower at site 1, and which images each subgroup has."""
    owners = np.repeat(np.arange(1120), rng.choice(IMAGES[0], 1120, p=IMAGES[1]))[:1500]
    of_lesion = {name: rng.choice(len(shares), 1120, p=shares)[owners] for name, shares in GROUPS.items()}
    of_lesion["tone"] = rng.choice(len(GROUPS["tone"]), len(owners), p=GROUPS["tone"])  # each picture has its own
    truth = (rng.random(1120) < 0.19)[owners]
    scores = 0.8 * rng.normal(size=1120)[owners] + 0.6 * rng.normal(size=len(owners))
    scores += (2.1 - drop * (of_lesion["site"] == 1)) * truth
    answers = SimpleNamespace(malignant=scores, truth=truth, predicted=scores >= 0.6, lesions=owners)
    return answers, [of_lesion[name] == k for name, shares in GROUPS.items() for k in range(len(shares))]


def _draw_hits(rng: Any, share: float, owners: Any, correlation: float) -> Any:
    """(n,) bool: each is True with chance `share`; two of one lesion correlate, as a beta-binomial does."""
    lesions = int(owners.max()) + 1
    if correlation == 0:
        return rng.random(len(owners)) < share
    if correlation == 1:
        return (rng.random(lesions) < share)[owners]
    size = 1 / correlation - 1
    return rng.random(len(owners)) < rng.beta(share * size, (1 - share) * size, lesions)[owners]


def _draw_probabilities(rng: Any, images: int) -> Any:
    return rng.beta(0.6, 2.4, images).clip(1e-4, 1 - 1e-4)


def _find_shift(p: Any, slope: float) -> float:
    """The true intercept at a slope of 1: what brings the mean probability to the mean truth."""
    low, high, goal = -3.0, 3.0, float(_expit(slope * _logit(p)).mean())
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _expit(_logit(p) + middle).mean() < goal else (low, middle)
    return low


def _mean_distance(p: Any, true: Any) -> float:
    """The calibration error of endless data, over the same 15 bins."""
    bins = np.minimum((p * 15).astype(int), 14)
    return float(np.abs(np.bincount(bins, weights=p - true, minlength=15)).sum() / len(p))


def _binomial(counts: Any, trials: int, share: float) -> Any:
    from math import comb

    return np.array([comb(trials, int(k)) * share**k * (1 - share) ** (trials - k) for k in counts.tolist()])


def _holds(estimate: Any, truth: float) -> bool:
    return estimate.low is not None and estimate.low <= truth <= estimate.high


def _logit(p: Any) -> Any:
    return np.log(p / (1 - p))


def _expit(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _draw_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _draw_rule(columns: int) -> str:
    return "|---" + "|--:" * (columns - 1) + "|"


@contextmanager
def _resample(count: int) -> Iterator[None]:
    """Let every interval rest on `count` resamples, and every range under perfect calibration on as many draws."""
    from lesion.metrics import bootstrap, calibration

    usual = bootstrap.RESAMPLES, calibration.DRAWS
    bootstrap.RESAMPLES = calibration.DRAWS = count
    try:
        yield
    finally:
        bootstrap.RESAMPLES, calibration.DRAWS = usual
