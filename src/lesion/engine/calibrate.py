"""What is fitted on validation and stored in the file: prior, temperature, threshold, sets, limits of the checks."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lesion.errors import DataError, NonFiniteError
from lesion.inference.decide import Floats, to_probabilities
from lesion.manifest import Check, Conformal, Reference
from lesion.metrics import threshold_for_sensitivity

log = logging.getLogger(__name__)
MARGIN = 1e-5  # of the threshold to every validation score; rounding moves probabilities by less than 1e-6
BINS = 10  # of the distributions that service is compared with
RANGE = (0.05, 20.0)  # of temperatures
USUAL = (0.5, 10.0)  # of temperatures; beyond, the validation split is too small or the logits carry no information
SPREAD = 1.0  # standard deviation of the logarithm of a temperature, before any image is seen
SPREAD_PRIOR = 1.0  # of an exponent of class shares, around the expected one
REACH = 3.0  # how far an exponent is looked for from the expected one


def fit_temperature(logits: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """The temperature most likely after (n,) int targets given (n, c) logits (Guo et al. 2017, arXiv:1706.04599).

    Its logarithm has a normal prior around 0 of standard deviation `SPREAD`. Without it a small split that is answered
    without error would give a temperature of 0, and a model that is certain of everything. From a hundred images on,
    the prior hardly matters. Logs a warning for a temperature outside `USUAL`.
    """
    z, t = np.asarray(logits, np.float64), np.asarray(targets, int)
    temperature = _fit_temperature(z, t)[0]
    if not USUAL[0] <= temperature <= USUAL[1]:
        log.warning(
            "the temperature is %.2f, outside %g to %g: probabilities may be far from the truth, since the %d "
            "validation images are too few or the network has learned too little",
            temperature, *USUAL, len(t),
        )  # fmt: skip
    return temperature


def fit_prior(
    logits: npt.ArrayLike, targets: npt.ArrayLike, shares: npt.ArrayLike, expected: float
) -> npt.NDArray[np.float64]:
    """What must be added to (n, c) logits, (c,), so that a temperature calibrates them: training changed the prior.

    A network that was trained with classes weighted or drawn by a negative power of their (c,) `shares` answers as if
    that were how often they occur (Saerens et al. 2002, doi:10.1162/089976602753284446). Its logits lack `expected`
    times the logarithms of the shares, or somewhat more or less. How much is fitted together with the temperature, to
    (n,) int targets: two numbers for the whole file, where a bias for each class, as in bias-corrected temperature
    scaling (Alexandari et al. 2020, arXiv:1901.06852), would be more than rare classes can tell. Both have normal
    priors.
    """
    z, t = np.asarray(logits, np.float64), np.asarray(targets, int)
    direction = np.log(np.asarray(shares, np.float64))
    # Each exponent is tried with the temperature that suits it. The bias is divided by the temperature with the logits.
    found = {}

    def loss(exponent: float) -> float:
        found[exponent], value = _fit_temperature(z, t, exponent * direction)
        return value + ((exponent - expected) / SPREAD_PRIOR) ** 2 / 2

    exponent = _minimise(loss, expected - REACH, expected + REACH)
    loss(exponent)
    return np.asarray(found[exponent] * exponent * direction)


def _fit_temperature(z: Floats, targets: npt.NDArray[np.int_], bias: Floats | float = 0.0) -> tuple[float, float]:
    """The temperature T of z / T + bias, and what it minimises: the negative logarithm of its probability."""

    def loss(log_temperature: float) -> float:
        chosen = to_probabilities(z / np.exp(log_temperature) + bias, 1.0)[np.arange(len(targets)), targets]
        return float(-np.log(np.maximum(chosen, 1e-300)).sum()) + (log_temperature / SPREAD) ** 2 / 2

    best = _minimise(loss, *map(math.log, RANGE))
    return math.exp(best), loss(best)


def _minimise(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where `loss` is least: on a grid, which steps over local minima, then by golden-section search around it."""
    grid = np.linspace(low, high, 25)
    at = int(np.argmin([loss(float(each)) for each in grid]))
    low, high = float(grid[max(at - 1, 0)]), float(grid[min(at + 1, len(grid) - 1)])
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return (low + high) / 2


def choose_threshold(
    malignant: npt.ArrayLike,
    truth: npt.ArrayLike,
    sensitivity: float,
    lesions: Sequence[str] = (),
    confidence: float | None = None,
) -> float:
    """The operating point for (n,) malignant probabilities against (n,) bool truth.

    Without `confidence` it reaches `sensitivity` on these images. With it, the sensitivity over new lesions is at least
    `sensitivity` with this confidence: of m malignant lesions so few may lie below the threshold that more would be
    likely otherwise (`count_spare`). Each of the (n,) `lesions` weighs one, shared by its images. When m is too small
    for any promise, the threshold lies below all of them, and a warning is logged.

    Raises DataError when validation holds no malignant image.
    """
    if confidence is None:
        threshold = threshold_for_sensitivity(malignant, truth, sensitivity, MARGIN)
    else:
        threshold = _choose_safe_threshold(malignant, truth, lesions, sensitivity, confidence)
    if threshold is None:
        raise DataError(
            "the validation split has no malignant image, so no operating point can be chosen",
            hint="add malignant lesions, or check data.malignant",
        )
    return threshold


def count_spare(lesions: int, sensitivity: float, confidence: float) -> int | None:
    """How many of so many malignant lesions may lie below a threshold that is to reach `sensitivity` on new ones.

    The share of new lesions from the score on that k + 1 of m lesions lie at or below follows a Beta(m - k, k + 1)
    distribution, whose tail is that of a binomial one: the most k with P(Binomial(m, 1 - sensitivity) <= k) <= 1 -
    confidence (Wilks 1941, doi:10.1214/aoms/1177731788). None when even k = 0 does not do.
    """
    tail, spare = 0.0, None
    for k in range(lesions):
        chosen = math.lgamma(lesions + 1) - math.lgamma(k + 1) - math.lgamma(lesions - k + 1)
        miss = k * math.log1p(-sensitivity) if k else 0.0
        tail += math.exp(chosen + miss + (lesions - k) * math.log(sensitivity))
        if tail > 1 - confidence:
            break
        spare = k
    return spare


def _choose_safe_threshold(
    malignant: npt.ArrayLike, truth: npt.ArrayLike, lesions: Sequence[str], sensitivity: float, confidence: float
) -> float | None:
    p, t = np.asarray(malignant, float), np.asarray(truth, bool)
    names, index = np.unique(np.asarray(lesions)[t], return_inverse=True)
    if not len(names):
        return None
    spare = count_spare(len(names), sensitivity, confidence)
    if spare is None:
        log.warning(
            "%d malignant lesions of validation are too few to promise a sensitivity of %g with a confidence of %g: "
            "the threshold lies below all of them", len(names), sensitivity, confidence,
        )  # fmt: skip
    order = np.argsort(p[t])
    below = np.cumsum((1 / np.bincount(index)[index])[order])  # lesions up to each image
    at = int((below > (spare or 0) + 1e-9).argmax())
    # All images from the one at `at` on must be found: just those, by their share of the images.
    return threshold_for_sensitivity(p, t, 1 - at / len(order), MARGIN)


def limit_coverage(coverage: float, truth: npt.ArrayLike, lesions: Sequence[str]) -> float:
    """`coverage`, or as much of it as the lesions with (n,) bool `truth` can give: n / (n + 1) of n of them.

    With more than that, a class would be in every set, and every answer of the other class referred.
    """
    count = len(np.unique(np.asarray(lesions)[np.asarray(truth, bool)]))
    return min(coverage, count / (count + 1)) if count else coverage


def fit_conformal(
    malignant: npt.ArrayLike, truth: npt.ArrayLike, lesions: Sequence[str], of_malignant: float, of_benign: float
) -> Conformal:
    """The sets that cover a new malignant lesion with probability `of_malignant`, a benign one with `of_benign`.

    Split-conformal per class, from (n,) malignant probabilities against (n,) bool truth. Images of one lesion are not
    exchangeable with those of another, lesions are: each weighs one, shared by its images, and the new lesion weighs
    one at the worst place (Lee, Barber & Willett 2023, arXiv:2306.06342). With too few lesions of a class, it is in
    every set.
    """
    p, t = np.asarray(malignant, float), np.asarray(truth, bool)
    _, index, counts = np.unique(np.asarray(lesions), return_inverse=True, return_counts=True)
    weights = 1 / counts[index]
    lowest = -_conformal_quantile(-p[t], weights[t], of_malignant, 0)
    highest = _conformal_quantile(p[~t], weights[~t], of_benign, 1)
    own = (of_malignant, of_benign) if of_malignant != of_benign else (None, None)
    return Conformal(min(of_malignant, of_benign), abs(lowest), highest, *own)  # abs: no -0.0


def _conformal_quantile(scores: Floats, weights: Floats, coverage: float, worst: float) -> float:
    """The least score that `coverage` of the weight keeps to, one more lesion at the `worst` place included."""
    order = np.argsort(scores)
    reached = np.cumsum(weights[order]) >= coverage * (weights.sum() + 1) - 1e-9
    return float(scores[order][reached.argmax()]) if reached.any() else worst


def fit_limits(measures: npt.ArrayLike, checks: Sequence[Check], acceptance: float) -> tuple[Check, ...]:
    """`checks` with limits that `acceptance` of the images pass, from their (n, k) measures.

    The images lowest in the first measure pass: it is of the image as a whole. The limits are the extremes of those
    that pass, so the other checks do not refuse more of what is usual, but say in which way an image is not. An image
    with a measure that is not finite never passes. Raises NonFiniteError when all images have one.
    """
    m = np.asarray(measures, float)
    kept = m[np.argsort(m[:, 0])[: math.ceil(acceptance * len(m) - 1e-9)]]
    kept = kept[np.isfinite(kept).all(axis=1)]
    if not len(kept):
        raise NonFiniteError(
            "the checks measure no validation image: each has a value that is not a number",
            hint="check the validation images with `lesion data audit`",
        )
    return tuple(
        replace(check, low=float(low) if check.low_flag else None, high=float(high) if check.high_flag else None)
        for check, low, high in zip(checks, kept.min(axis=0), kept.max(axis=0), strict=True)
    )


def summarize(name: str, values: npt.ArrayLike) -> Reference:
    """The distribution of (n,) values in ten bins of about equal share; fewer where values are the same.

    Values that are not finite are left out.
    """
    v = np.asarray(values, float)
    v = v[np.isfinite(v)]
    edges = np.unique(np.quantile(v, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1)
    return Reference(name, tuple(map(float, edges)), tuple(map(float, counts / len(v))))
