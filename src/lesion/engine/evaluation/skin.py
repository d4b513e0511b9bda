"""A proxy for the tone of the skin around a lesion, from the picture alone."""

import numpy as np
import numpy.typing as npt

from lesion.data.stats import UNKNOWN
from lesion.inference.decide import Floats

Pixels = npt.NDArray[np.uint8]

# Individual typology angle in degrees, Chardon et al. 1991, doi:10.1111/j.1467-2494.1991.tb00561.x; the darkest two
# were told apart by Del Bino & Bernerd 2013, doi:10.1111/bjd.12529.
TONES = ((55.0, "very light"), (41.0, "light"), (28.0, "intermediate"), (10.0, "tan"), (-30.0, "brown"))
DARKEST = "dark"
RIM = 12  # the rim is a share 1 / RIM of the side wide: there is the least lesion
SAMPLED = 400  # pixels of it
BLACK, WHITE = 25, 250  # grey levels outside of which it is no skin but a dark corner, a hair or a reflection
LEAST = 0.25  # share of the sampled pixels that have to be skin


def measure_angle(pixels: Pixels) -> Floats:
    """The individual typology angle of the rim of (n, s, s, 3) pixels: (n,) degrees, NaN where little of it is skin.

    arctan((L* - 50) / b*) of the median colour, CIELAB under D65. Light, camera and colour correction shift it: it
    tells groups of pictures apart, not people. Where pale skin looks bluish, b* < 0, the angle goes on beyond 90°, as
    the arctangent alone would jump from the lightest to the darkest; dark and bluish is no skin.
    """
    rim = pixels.reshape(len(pixels), -1, 3)[:, _find_rim(pixels.shape[1])].astype(np.float64)
    grey = rim.mean(2)
    skin = (grey >= BLACK) & (grey <= WHITE)
    angles = np.full(len(pixels), np.nan)
    for i in np.flatnonzero(skin.mean(1) >= LEAST):
        angles[i] = _to_angle(np.median(rim[i, skin[i]], axis=0))
    return angles


def to_tone(angle: float) -> str:
    """The published category of an angle in degrees; "unknown" for NaN."""
    if np.isnan(angle):
        return UNKNOWN
    return next((tone for least, tone in TONES if angle > least), DARKEST)


def _find_rim(side: int) -> npt.NDArray[np.intp]:
    """Indices of pixels spread over the rim of a square."""
    edge = np.minimum(np.arange(side), np.arange(side)[::-1])
    rim = np.flatnonzero(np.minimum(edge[:, None], edge) < max(1, side // RIM))
    return np.asarray(rim[np.linspace(0, len(rim) - 1, min(SAMPLED, len(rim))).astype(int)])


def _to_angle(rgb: Floats) -> float:
    """Of one sRGB colour, 0 to 255."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    y, z = linear @ (0.2126729, 0.7151522, 0.0721750), linear @ (0.0193339, 0.1191920, 0.9503041) / 1.08883
    fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (y, z))
    lightness, b = 116 * fy - 16, 200 * (fy - fz)
    return float(np.degrees(np.arctan2(lightness - 50, b))) if b > 0 or lightness > 50 else float("nan")
