"""How sharp and how well exposed a photograph is, measured on a grey square of fixed size."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lesion.preprocess import PreprocessSpec

SQUARE = PreprocessSpec(128, "bilinear")  # fixed: the sharpness of two sizes cannot be compared

# Calibrated on HAM10000, where they flag 30 of 10,015 images: its blurred and its darkest ones. Smooth skin has
# little to be sharp about, so a low figure is a reason to look, not to throw away.
LEAST_SHARPNESS = 7.0  # of HAM10000's images, 0.1 % are below, 5 % below 12, half below 34
BLACK, MOST_BLACK = 20, 0.15  # grey level, and the share of pixels below it: a pitch-black nevus reaches 0.30
MOSTLY_BLACK = 0.6  # share of black pixels above which there is no lesion to see; a vignette reaches 0.25
WHITE, MOST_WHITE = 250, 0.05  # grey level, and the share of pixels above it
MEANS = (50.0, 225.0)  # grey levels between which the mean is ordinary


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one photograph."""

    sharpness: float
    """Variance of the Laplacian, in squared grey levels; Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548."""
    mean: float
    """Mean grey level, 0 to 255."""
    black: float
    """Share of nearly black pixels, 0 to 1."""
    white: float
    """Share of nearly white pixels, 0 to 1."""

    @property
    def flaws(self) -> list[str]:
        """The kinds of what is wrong with it: any of "mostly-black", "dark", "bright", "blurred"."""
        if self.black > MOSTLY_BLACK:
            return ["mostly-black"]
        found = {
            "dark": self.black > MOST_BLACK or self.mean < MEANS[0],
            "bright": self.white > MOST_WHITE or self.mean > MEANS[1],
            "blurred": self.sharpness < LEAST_SHARPNESS,
        }
        return [kind for kind, true in found.items() if true]


def measure_quality(image: Image.Image) -> Quality:
    """The figures of an RGB image, taken from its largest centred square at 128×128 pixels."""
    grey = np.asarray(Image.fromarray(SQUARE.apply(image)).convert("L"), np.float32)
    return Quality(
        sharpness=float(_laplacian(grey).var()),
        mean=float(grey.mean()),
        black=float((grey < BLACK).mean()),
        white=float((grey > WHITE).mean()),
    )


def _laplacian(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    around = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1]
    return around - 4 * grey[1:-1, 1:-1]
