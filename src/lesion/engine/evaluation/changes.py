"""What can lie on a picture, or be done to it, without changing what the lesion is."""

import io
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from lesion.data import drawing
from lesion.inference.predictor import Pixels

BANK = 32  # drawn masks of a kind; images get them in turn
Draw = Callable[[np.random.Generator, Image.Image, ImageDraw.ImageDraw], None]
RGB = tuple[int, int, int]


def cover(pixels: Pixels, draw: Draw, colour: RGB) -> Pixels:
    """At most 32 pictures (n, s, s, 3), each with another thing drawn over it; the same ones at each call."""
    opacity = _draw_masks(draw, pixels.shape[1])[: len(pixels), ..., None].astype(np.uint16)
    return ((pixels * (255 - opacity) + np.asarray(colour, np.uint16) * opacity) // 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _draw_masks(draw: Draw, side: int) -> npt.NDArray[np.uint8]:
    rng, masks = np.random.default_rng(0), []
    for _ in range(BANK):
        mask = Image.new("L", (2 * side, 2 * side))  # larger, then reduced: lines thinner than a pixel
        draw(rng, mask, ImageDraw.Draw(mask))
        masks.append(np.asarray(mask.resize((side, side), Image.Resampling.BOX)))
    return np.stack(masks)


def _draw_corners(rng: np.random.Generator, mask: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    reach, middle = mask.height * rng.uniform(0.48, 0.6), mask.height / 2
    pen.rectangle((0, 0, *mask.size), fill=255)
    pen.ellipse((middle - reach, middle - reach, middle + reach, middle + reach), fill=0)


def light(pixels: Pixels, red: float = 1, green: float = 1, blue: float = 1) -> Pixels:
    """Each channel multiplied."""
    table = np.arange(256)[:, None] * [red, green, blue]
    table = table.round().clip(0, 255).astype(np.uint8)
    return np.stack([table[pixels[..., c], c] for c in range(3)], axis=-1)


def turn_quarter(pixels: Pixels) -> Pixels:
    """By 90°: exactly the same picture."""
    return np.ascontiguousarray(np.rot90(pixels, axes=(1, 2)))


def turn(pixels: Pixels, degrees: float) -> Pixels:
    """By any angle; what lies beyond the edge is the picture's mirror image."""
    side = pixels.shape[1]
    rim = side // 4
    wide = np.pad(pixels, ((0, 0), (rim, rim), (rim, rim), (0, 0)), "reflect")
    box = (rim, rim, rim + side, rim + side)
    turned = (Image.fromarray(each).rotate(degrees, Image.Resampling.BICUBIC).crop(box) for each in wide)
    return np.stack([np.asarray(each) for each in turned])


def compress(photo: Image.Image, side: int, quality: int) -> Image.Image:
    """Through JPEG."""
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def blur(photo: Image.Image, side: int, share: float) -> Image.Image:
    """By a Gaussian whose deviation is this share of the shorter side."""
    return photo.filter(ImageFilter.GaussianBlur(share * min(photo.size)))


def reduce(photo: Image.Image, side: int, share: float) -> Image.Image:
    """To this share of the `side` that the network sees."""
    factor = share * side / min(photo.size)
    return photo.resize(
        (max(1, round(photo.width * factor)), max(1, round(photo.height * factor))), Image.Resampling.BOX
    )


# (name, level) → change of the pixels (n, s, s, 3) that the network sees …
OF_PIXELS: dict[tuple[str, str], Callable[[Pixels], Pixels]] = {
    ("hair", "1 to some 20 drawn hairs"): partial(cover, draw=drawing.draw_hairs, colour=(40, 26, 20)),
    ("ruler", "drawn ticks along an edge"): partial(cover, draw=drawing.draw_ruler, colour=(35, 35, 40)),
    ("ink", "a drawn spot near the rim"): partial(cover, draw=drawing.draw_ink, colour=(70, 50, 130)),
    ("dark corner", "beyond 0.48 to 0.6 sides from the middle"): partial(cover, draw=_draw_corners, colour=(6, 5, 6)),
    ("colour cast", "red + 10 %, blue - 10 %"): partial(light, red=1.1, blue=0.9),
    ("colour cast", "red - 10 %, blue + 10 %"): partial(light, red=0.9, blue=1.1),
    ("brightness", "- 20 %"): partial(light, red=0.8, green=0.8, blue=0.8),
    ("brightness", "+ 20 %"): partial(light, red=1.2, green=1.2, blue=1.2),
    ("rotation", "90°"): turn_quarter,
    ("rotation", "30°"): partial(turn, degrees=30),
}
# … or of the photograph, given that side, before it is made into them.
OF_PHOTO: dict[tuple[str, str], Callable[[Image.Image, int], Image.Image]] = {
    ("JPEG", "quality 50"): partial(compress, quality=50),
    ("JPEG", "quality 20"): partial(compress, quality=20),
    ("blur", "1 % of the shorter side"): partial(blur, share=0.01),
    ("blur", "2 % of the shorter side"): partial(blur, share=0.02),
    ("resolution", "a half of the network's"): partial(reduce, share=0.5),
    ("resolution", "a quarter of the network's"): partial(reduce, share=0.25),
}
