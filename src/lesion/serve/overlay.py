"""A heat map as a picture: transparent where the network saw nothing that speaks for or against."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lesion.errors import CheckFailed

FOR, AGAINST = (213, 94, 0), (0, 114, 178)  # malignant, benign; told apart by the colour-blind (Okabe & Ito 2008)
STRONGEST = 0.75  # opacity


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where the network looked; not why a lesion is what it is."""

    grid: list[list[float]]
    """What each position adds to the log-odds of "malignant", rows from the top, over the centred square."""
    overlay: str
    """The same as a data: URI of a transparent PNG to lay on that square: orange for malignant, blue for benign."""


def explain(heat: npt.NDArray[np.float32], side: int) -> Explanation:
    """The explanation for a heat map (h, w), its overlay `side` pixels wide and high.

    Raises CheckFailed when a value of the heat map is not finite: neither JSON nor a picture could show it.
    """
    if not np.isfinite(heat).all():
        raise CheckFailed(
            "the model has no heat map for the image: a value is not finite", hint="export the model again"
        )
    grid = [[round(float(value), 5) for value in row] for row in heat]
    return Explanation(grid, f"data:image/png;base64,{base64.b64encode(_draw(heat, side)).decode()}")


def _draw(heat: npt.NDArray[np.float32], side: int) -> bytes:
    large = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
    strength = np.abs(large) / max(float(np.abs(large).max()), 1e-9)
    pixels = np.empty((side, side, 4), np.uint8)
    pixels[..., :3] = np.where(large[..., None] > 0, FOR, AGAINST)
    pixels[..., 3] = strength * (255 * STRONGEST)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
