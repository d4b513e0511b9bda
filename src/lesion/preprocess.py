"""The only crop and resize in the codebase: upright RGB image to the square of uint8 pixels that a network sees."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """The geometry, carried from the configuration through training into the exported file.

    Scaling and mean/std are not here: they are the first layer of the network, and so part of the weights.
    """

    size: int
    """Side of the square that the network sees, in pixels."""
    filter: str
    """Pillow's resampling filter; all of them antialias when they shrink."""
    reduce: bool = False
    """Whether an image of several times the size is first shrunk by a whole factor, by averages of its pixels.

    Half the time of the resize, for pixels that differ by half a grey level on average (docs/inference.md).
    """

    def apply(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Cut the largest centred square out of an RGB image and resize it; lesions are photographed centred.

        Returns:
            uint8, shape (size, size, 3), RGB, range 0 to 255. Pillow averages and resamples 8-bit images in integer
            arithmetic, so the result is the same to the bit on every machine.
        """
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = (left, top, left + side, top + side)
        gap = 1.0 if self.reduce else None  # 1: as much of the way as a whole factor goes
        resized = image.resize((self.size, self.size), FILTERS[self.filter], box=square, reducing_gap=gap)
        return np.asarray(resized, dtype=np.uint8)

    @classmethod
    def of(cls, data: "Mapping[str, Any]") -> "PreprocessSpec":
        """Rebuild a spec from its manifest entry; KeyError, TypeError or ValueError when it is not one."""
        size, name = data["size"], data["filter"]
        reduce = data.get("reduce", False)  # files from before it was there
        if type(size) is not int or not 1 <= size <= 4096 or name not in FILTERS or type(reduce) is not bool:
            raise ValueError(f"no such geometry: {dict(data)!r}")
        return cls(size, name, reduce)
