"""Pictures of images and of what the model saw in them, as text within the page."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 224  # pixels, at most
# Orange and blue differ for every kind of colour blindness; the picture below them is grey.
FOR, AGAINST = (230, 97, 1), (33, 102, 172)
STRENGTH = 0.8  # of the colour where the map is strongest


def to_source(pixels: npt.NDArray[np.uint8]) -> str:
    """RGB uint8 (h, w, 3) as the source of an <img>: a JPEG of at most 224 pixels a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def blend(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The picture in grey under its heat map: orange where it speaks for malignant, blue where against.

    Args:
        pixels: uint8 (s, s, 3), RGB.
        heat: float32 (h, w), any finite unit; enlarged bilinearly and scaled to its own largest magnitude.

    Returns:
        uint8 (s, s, 3).
    """
    size = (pixels.shape[1], pixels.shape[0])
    large = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))[:, :, None]
    share = large / (np.abs(large).max() or 1)
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)[:, :, None]
    strength = STRENGTH * np.abs(share)
    return np.asarray((1 - strength) * grey + strength * np.where(share > 0, FOR, AGAINST), np.uint8)
