"""Whether a figure is lower for some of the images than for all others."""

from collections.abc import Sequence
from math import erfc, log, sqrt

import numpy as np
import numpy.typing as npt

from lesion.metrics.bootstrap import NOTHING, count_pairs
from lesion.metrics.comparison import find_components
from lesion.metrics.samples import Bools, Floats


def p_of_lower_share(hits: npt.ArrayLike, inside: npt.ArrayLike, groups: npt.ArrayLike) -> float | None:
    """One-sided p-value of the share of `hits` being lower `inside` than outside; None without lesions on a side.

    Both are (n,) bool, `groups` (n,) lesion ids. The shares are compared as log-odds of their effective numbers of
    hits and misses, with half a lesion added to each (Haldane 1956; Anscombe 1956), so that a share of 1 has a
    variance, too. The effective size is that of the variance between lesions, at most the number of lesions.
    """
    h, i, ids = np.asarray(hits, float), np.asarray(inside, bool), np.asarray(groups)
    sides = [_size_share(h[side], ids[side]) for side in (i, ~i)]
    return _test(sides[0], sides[1])


def p_of_lower_auroc(
    scores: npt.ArrayLike, truth: npt.ArrayLike, inside: npt.ArrayLike, groups: npt.ArrayLike
) -> float | None:
    """One-sided p-value of the AUROC being lower `inside` than outside; None without both classes on a side.

    As `p_of_lower_share`, with the variance of DeLong's components summed by lesion (Obuchowski 1997,
    doi:10.2307/2533958).
    """
    s, t, i = np.asarray(scores, float), np.asarray(truth, bool), np.asarray(inside, bool)
    ids = np.asarray(groups)
    if not all((t[side].any() and not t[side].all()) for side in (i, ~i)):
        return None
    sides = [_size_auroc(s[side], t[side], ids[side]) for side in (i, ~i)]
    return _test(sides[0], sides[1])


def correct(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, in the same order (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

    Where nothing differs, any of them is below 0.05 with a chance of at most 5 %, however they depend on each other.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    stepped = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, float)[order] * factors))
    corrected = np.empty(len(p_values))
    corrected[order] = stepped
    return [float(p) for p in corrected]


def _size_share(hits: Floats, ids: npt.NDArray[np.str_]) -> tuple[float, float, int]:
    """The share, its effective size, and its lesions."""
    if not len(hits):
        return np.nan, 0.0, 0
    share = float(hits.mean())
    sums = _sum_lesions(hits - share, ids)
    variance, lesions = float((sums**2).sum()) / len(hits) ** 2, len(sums)
    size = share * (1 - share) / variance if variance > NOTHING**2 else lesions
    return share, min(size, lesions), lesions


def _size_auroc(scores: Floats, truth: Bools, ids: npt.NDArray[np.str_]) -> tuple[float, float, int]:
    """The AUROC, its effective size, and the lesions of the smaller class."""
    positive, negative = find_components(scores, truth)
    area, lesions = float(positive.mean()), count_pairs(truth, ids.tolist())
    parts = np.empty(len(scores))
    parts[truth], parts[~truth] = (positive - area) / truth.sum(), (negative - area) / (~truth).sum()
    sums = _sum_lesions(parts, ids)
    # The components of m lesions vary by m - 1 of m of the variance that they are drawn from.
    variance = float((sums**2).sum()) * lesions / max(1, lesions - 1)
    return area, area * (1 - area) / variance if variance > NOTHING**2 else lesions, lesions


def _sum_lesions(values: Floats, ids: npt.NDArray[np.str_]) -> Floats:
    return np.asarray(np.bincount(np.unique(ids, return_inverse=True)[1], weights=values), float)


def _test(inside: tuple[float, float, int], outside: tuple[float, float, int]) -> float | None:
    if not (inside[2] and outside[2]):
        return None
    hits, misses = zip(*((share * size + 0.5, (1 - share) * size + 0.5) for share, size, _ in (inside, outside)),
                       strict=True)  # fmt: skip
    first, second = (log(a / b) for a, b in zip(hits, misses, strict=True))
    t = (first - second) / sqrt(sum(1 / each for each in (*hits, *misses)))
    # Student's t as a normal variable (Abramowitz & Stegun, 26.7.8): few lesions know their own spread badly.
    freedom = max(1, min(inside[2], outside[2]) - 1)
    z = t * (1 - 1 / (4 * freedom)) / sqrt(1 + t * t / (2 * freedom))
    return erfc(-z / sqrt(2)) / 2
