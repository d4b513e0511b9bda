"""What figures are made of: scores, truth and weights, checked."""

import numpy as np
import numpy.typing as npt

from lesion.errors import DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SLACK = 1e-6  # by which a sum of float32 probabilities can leave [0, 1]


def to_scores(scores: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Floats, Bools]:
    """The (n,) scores and (n,) truth as arrays; DataError for NaN or infinity, ValueError for unequal lengths."""
    s, t = np.asarray(scores, float), np.asarray(truth, bool)
    if s.ndim != 1 or s.shape != t.shape:
        raise ValueError(f"scores of shape {s.shape} and truth of shape {t.shape}, expected (n,) both")
    _require(np.isfinite(s), s, "finite numbers")
    return s, t


def to_probabilities(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Floats, Bools]:
    """As `to_scores`; DataError outside [0, 1], too."""
    return to_scores(check_probabilities(probabilities), truth)


def check_probabilities(probabilities: npt.ArrayLike) -> Floats:
    """The (n,) or (n, c) probabilities as an array in [0, 1]; DataError for NaN or anything outside."""
    p = np.asarray(probabilities, float)
    _require((p >= -SLACK) & (p <= 1 + SLACK), p, "numbers in [0, 1]")
    return np.asarray(np.clip(p, 0, 1))


def to_weights(weights: npt.ArrayLike | None, n: int) -> Floats:
    """The weights as (b, n), one row per resample; a single row of ones for None."""
    return np.ones((1, n)) if weights is None else np.atleast_2d(np.asarray(weights, float))


def divide(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """Element by element, NaN where the whole is nothing."""
    w = np.asarray(whole, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(w > 0, np.asarray(part, float) / w, np.nan)


def _require(good: Bools, values: Floats, expected: str) -> None:
    bad = np.flatnonzero(~(good if good.ndim == 1 else good.all(axis=1)))
    if len(bad):
        value = values[bad[0]][~good[bad[0]]].flat[0]
        raise DataError(
            f"the model's answers for {len(bad)} of {len(good)} images are unusable, the first {value} for image "
            f"{bad[0] + 1}; expected {expected}",
            hint="check the model file, and the images themselves",
        )
