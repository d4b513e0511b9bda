"""Whether a model looks at the lesion: its heat maps against masks that experts drew."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RESAMPLES = 2000


def measure(ham10000: Path, native: Path, model: Path) -> Iterator[str]:
    """How much of the positive heat lies in the lesion, over images ID.jpg with masks ID_expert.png in `native`.

    Chance is the share of the area that the lesion has, in the same crop. The metadata of `ham10000` says which are
    malignant. Intervals resample lesions.
    """
    from lesion.data.index import read_index
    from lesion.inference.predictor import Predictor

    predictor = Predictor.load(model)
    rows = {row.image_id: row for row in read_index(ham10000)}
    masks = {path.name.removesuffix("_expert.png"): path for path in sorted(native.glob("*_expert.png"))}
    shares = np.array([_share(predictor, native / f"{name}.jpg", mask) for name, mask in masks.items()])
    owners = np.unique([rows[name].lesion_id for name in masks], return_inverse=True)[1]
    malignant = np.array([predictor.manifest.taxonomy.is_malignant(rows[name].dx) for name in masks])
    for label, chosen in (("all", malignant | True), ("malignant", malignant), ("benign", ~malignant)):
        yield _describe(label, shares[chosen], owners[chosen])


def _share(predictor: Any, image: Path, mask: Path) -> tuple[float, float]:
    """The share of the positive heat that lies in the lesion, and that of the area."""
    heat = np.maximum(predictor.explain(predictor.read(image)[None])[0], 0)
    side = min((outline := Image.open(mask).convert("L")).size)
    left, top = ((length - side) // 2 for length in outline.size)
    square = outline.crop((left, top, left + side, top + side)).point(lambda value: 255 * (value > 127))
    inside = np.asarray(square.resize(heat.shape[::-1], Image.Resampling.BOX), float) / 255  # share of each cell
    return (float((heat * inside).sum() / heat.sum()) if heat.any() else float("nan")), float(inside.mean())


def _describe(label: str, shares: Any, owners: Any) -> str:
    warm = ~np.isnan(shares[:, 0])
    sums = np.array([shares[warm][owners[warm] == owner].sum(0) for owner in np.unique(owners[warm])])
    counts = np.array([(owners[warm] == owner).sum() for owner in np.unique(owners[warm])])
    drawn = np.random.default_rng(0).integers(0, len(sums), (RESAMPLES, len(sums)))
    resampled = sums[drawn].sum(1) / counts[drawn].sum(1)[:, None]
    inside, chance = shares[warm].mean(0)
    (low, high), (lower, upper) = (
        np.quantile(values, (0.025, 0.975)) for values in (resampled[:, 0], resampled[:, 0] - resampled[:, 1])
    )
    cold = f", {(~warm).sum()} without positive heat left out" if not warm.all() else ""
    return (
        f"{label:<10} {warm.sum()} images: {inside:.1%} of the positive heat in the lesion ({low:.1%} to {high:.1%}), "
        f"{chance:.1%} of the area; difference {inside - chance:+.1%} ({lower:+.1%} to {upper:+.1%}){cold}"
    )
