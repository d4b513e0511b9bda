"""What the decision rules promise, against simulated lesions whose truth is known: `python -m bench statistics`.

Lesions have one to three images. The log-odds of an image are those of its lesion and some noise; the AUROC is about
0.93. The figures depend on these choices, the comparisons hardly do. Each section prints lines of a Markdown table.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from unittest import mock

import numpy as np
import numpy.typing as npt

from lesion.config.schema import ExportConfig
from lesion.engine.calibrate import choose_threshold, fit_conformal, fit_prior, fit_temperature, limit_coverage
from lesion.engine.quantization.noninferiority import ENOUGH, Answers, confirm
from lesion.exports import Confirmation
from lesion.inference.decide import Floats, to_probabilities
from lesion.manifest import Conformal, Manifest, Reference, SelfTest
from lesion.metrics.ranking import Ranking
from lesion.preprocess import PreprocessSpec
from lesion.serve.drift import DRIFTED, Drift
from lesion.taxonomy import BENIGN, MALIGNANT, Taxonomy

Bools = npt.NDArray[np.bool_]
RESAMPLES = 500  # of a bootstrap; the product draws more
SENSITIVITY = 0.95
MANIFEST = Manifest(
    "drawn", Taxonomy((BENIGN, MALIGNANT)), PreprocessSpec(32, "bilinear"), 1.0, 0.5, Conformal(0.95, 0.0, 1.0), (), (),
    SelfTest((0.5, 0.5), 0.001), {},
)  # fmt: skip


def draw(rng: np.random.Generator, malignant: int, benign: int) -> tuple[Floats, Bools, list[str]]:
    """Log-odds of images, their truth and their lesions."""
    lesions = np.arange(malignant + benign)
    truth = lesions < malignant
    images = np.where(
        truth, rng.choice(3, len(lesions), p=[0.45, 0.4, 0.15]), rng.choice(3, len(lesions), p=[0.7, 0.25, 0.05])
    )
    index = np.repeat(lesions, images + 1)
    scores = (rng.normal(0, 1, len(lesions)) + 2.35 * truth)[index] + rng.normal(0, 0.5, len(index))
    return 1.9 * scores - 3.9, truth[index], [str(each) for each in index]


def squash(logits: Floats) -> Floats:
    """Probabilities of log-odds."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def simulate_gate(repeats: int = 30) -> Iterator[str]:
    """How often an int8 file is called as good as fp32, by how much worse it truly is."""
    limits, rng = ExportConfig(), np.random.default_rng(0)
    many = draw(rng, 40_000, 120_000)
    yield "### Int8: how often a file passes, by its true loss"
    yield (
        f"AUROC may lose {limits.max_auroc_loss}, mean specificity above a sensitivity of 0.8 "
        f"{limits.max_specificity_loss}. The images are those of the confirmation. “No significant loss” is the rule "
        "that a loss counts only when its interval excludes 0."
    )
    yield (
        "| malignant lesions | noise | true loss of AUROC | of specificity | shown as good | written untested "
        "| refused | no significant loss |"
    )
    yield "|--:|--:|--:|--:|--:|--:|--:|--:|"
    for noise in (0.0, 0.05, 0.1, 0.5, 0.6, 1.0):
        before, after = (Ranking.of(many[0] + rng.normal(0, 1, len(many[0])) * each, many[1]) for each in (0, noise))
        lost = float((before.auroc - after.auroc)[0]), float(5 * (before.partial_auroc() - after.partial_auroc())[0])
        for malignant, benign in ((20, 100), (ENOUGH, 260), (117, 600)):
            found = [_confirm(rng, malignant, benign, noise, limits) for _ in range(repeats)]
            cells = [
                np.mean([each.shown for each in found]),
                np.mean([not each.shown and each.refused is None for each in found]),
                np.mean([each.refused is not None for each in found]),
                np.mean([(each.losses.auroc.low or 0.0) <= 0 for each in found]),
            ]
            shares = " | ".join(f"{each:.0%}" for each in cells)
            yield f"| {malignant} | {noise:g} | {lost[0]:.4f} | {lost[1]:.4f} | {shares} |"


def _confirm(rng: np.random.Generator, malignant: int, benign: int, noise: float, limits: ExportConfig) -> Confirmation:
    logits, truth, lesions = draw(rng, malignant, benign)
    after = logits + rng.normal(0, 1, len(logits)) * noise
    with mock.patch("lesion.metrics.bootstrap.RESAMPLES", RESAMPLES):
        return confirm(Answers(squash(logits), squash(after), truth, lesions), SENSITIVITY, limits)


def simulate_referral(repeats: int = 60) -> Iterator[str]:
    """What conformal sets of several coverages rescue, withdraw and refer; checks of pictures are left out."""
    rng = np.random.default_rng(0)
    logits, truth, _ = draw(rng, 10_000, 50_000)
    p = squash(logits)
    yield "### Referral: what pairs of coverages do"
    yield (
        "| malignant lesions | coverage, malignant and benign | missed without referral | missed with it "
        "| alarms withdrawn | of the right ones | referred |"
    )
    yield "|--:|---|--:|--:|--:|--:|--:|"
    for malignant, benign in ((175, 900), (30, 150)):
        found: dict[tuple[float, float], list[list[float]]] = {}
        for _ in range(repeats):
            seen, known, lesions = draw(rng, malignant, benign)
            alarmed = p >= choose_threshold(squash(seen), known, SENSITIVITY)
            for pair in ((0.95, 0.95), (0.97, 0.9), (0.98, 0.9), (0.98, 0.8), (0.99, 0.8)):
                given = [limit_coverage(each, of, lesions) for each, of in zip(pair, (known, ~known), strict=True)]
                sets = fit_conformal(squash(seen), known, lesions, *given)
                possible, harmless = p >= sets.malignant_from, p <= sets.benign_to
                referred = np.where(alarmed, ~(possible & ~harmless), ~(harmless & ~possible))
                found.setdefault(pair, []).append([
                    (~alarmed)[truth].mean(), (~alarmed & ~referred)[truth].mean(), referred[alarmed].mean(),
                    referred[alarmed & truth].mean(), referred.mean(),
                ])  # fmt: skip
        for pair, rows in found.items():
            shares = " | ".join(f"{each:.1%}" for each in np.mean(rows, axis=0))
            yield f"| {malignant} | {pair[0]:g}, {pair[1]:g} | {shares} |"


def simulate_thresholds(repeats: int = 300) -> Iterator[str]:
    """The true sensitivity, over lesions, of thresholds for 0.95 with and without `eval.confidence`."""
    rng = np.random.default_rng(0)
    logits, truth, lesions = draw(rng, 20_000, 1)
    scores = np.sort(squash(logits))
    order = np.argsort(logits)
    names = np.array(lesions, int)
    weights = np.cumsum(np.append(0.0, (truth / np.bincount(names)[names])[order]))
    yield f"### Threshold: true sensitivity when {SENSITIVITY} is asked for"
    yield "| malignant lesions | eval.confidence | mean | below 0.95 in | worst 5 % at most |"
    yield "|--:|--:|--:|--:|--:|"
    for malignant in (60, 100, 175):
        for confidence in (None, 0.8, 0.9):
            reached = []
            for _ in range(repeats):
                seen, known, own = draw(rng, malignant, 3 * malignant)
                threshold = choose_threshold(squash(seen), known, SENSITIVITY, own, confidence)
                reached.append(1 - weights[np.searchsorted(scores, threshold)] / weights[-1])
            below = np.mean(np.array(reached) < SENSITIVITY)
            yield (
                f"| {malignant} | {confidence or 'none'} | {np.mean(reached):.3f} | {below:.0%} | "
                f"{np.quantile(reached, 0.05):.3f} |"
            )


def simulate_prior(repeats: int = 20) -> Iterator[str]:
    """Calibration of a network that was trained with classes weighted by a power of their shares."""
    rng = np.random.default_rng(0)
    shares = np.array([0.033, 0.051, 0.11, 0.011, 0.111, 0.67, 0.014])  # of the seven diagnoses in HAM10000
    middle = rng.normal(0, 1, (7, 6))

    def pick(count: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        targets = rng.choice(7, count, p=shares)
        x = middle[targets] + rng.normal(0, 1, (count, 6))
        return -((x[:, None] - middle) ** 2).sum(2) / 2, targets

    def tell(logits: Floats, targets: npt.NDArray[np.int64], temperature: float) -> list[float]:
        p = to_probabilities(logits, temperature)
        malignant = p[:, [0, 1, 4]].sum(1)
        loss = -np.log(p[np.arange(len(targets)), targets]).mean()
        return [float(malignant.mean() - np.isin(targets, [0, 1, 4]).mean()), float(loss)]

    yield "### Weighted training: probabilities after export"
    yield (
        "| weighting | validation images | mean probability less observed, temperature alone | corrected "
        "| log loss, temperature alone | corrected |"
    )
    yield "|--:|--:|--:|--:|--:|--:|"
    new, truth = pick(20_000)
    for power in (0.5, 1.0):
        for count in (150, 1500):
            plain, corrected = [], []
            for _ in range(repeats):
                seen, targets = pick(count)
                ours, theirs = (1.5 * (each + (1 - power) * np.log(shares)) for each in (seen, new))
                plain.append(tell(theirs, truth, fit_temperature(ours, targets)))
                bias = fit_prior(ours, targets, shares, power)
                corrected.append(tell(theirs + bias, truth, fit_temperature(ours + bias, targets)))
            (a, c), (b, d) = np.mean(plain, axis=0), np.mean(corrected, axis=0)
            yield f"| {power:g} | {count} | {a:+.3f} | {b:+.3f} | {c:.3f} | {d:.3f} |"


def simulate_drift(repeats: int = 100) -> Iterator[str]:
    """How often the drift of a server raises an alarm, with bursts of images of one lesion."""
    rng = np.random.default_rng(0)
    tenths, even = tuple(each / 10 for each in range(1, 10)), (0.1,) * 10
    manifest = replace(
        MANIFEST, reference=(Reference(MALIGNANT, tenths, even),), provenance={"parity": {"images": 1504}}
    )
    yield "### Drift: windows that raise an alarm"
    yield (
        "| images of a lesion | images in the window | without drift | the same, by the index alone "
        "| half of the window drifted | all of it |"
    )
    yield "|--:|--:|--:|--:|--:|--:|"
    for burst in (1, 3, 5, 10):
        for images in (130, 500):
            alarms = np.zeros(4)
            for _ in range(repeats):
                for kind, start in ((0, images), (2, images // 2), (3, 0)):
                    values = np.repeat(rng.uniform(0, 1, images), burst)[:images]
                    values = np.clip(values + rng.normal(0, 0.02, images), 0, 1)
                    values[start:] **= 4
                    drift = Drift(manifest, window=images)
                    for value in values:
                        drift.add(value, ())
                    found = drift.report()["quantities"][MALIGNANT]
                    alarms[kind] += found["status"] == DRIFTED
                    alarms[1] += kind == 0 and found["psi"] >= 0.25
            yield f"| {burst} | {images} | " + " | ".join(f"{each / repeats:.0%}" for each in alarms) + " |"


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    "gate": simulate_gate,
    "referral": simulate_referral,
    "thresholds": simulate_thresholds,
    "prior": simulate_prior,
    "drift": simulate_drift,
}


def measure() -> Iterator[str]:
    """The lines of all sections."""
    for simulate in SECTIONS.values():
        yield from simulate()
        yield ""
