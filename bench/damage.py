"""What makes a picture of a lesion one that nobody could judge."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

BILINEAR = Image.Resampling.BILINEAR
Rng = np.random.Generator
Change = Callable[[Rng, Image.Image], Image.Image]


def blur(rng: Rng, image: Image.Image) -> Image.Image:
    """Out of focus by a twentieth to an eighth of the height."""
    return image.filter(ImageFilter.GaussianBlur(image.height * rng.uniform(0.05, 0.12)))


def squeeze(rng: Rng, image: Image.Image) -> Image.Image:
    """A JPEG of the least quality, at 200×150 pixels."""
    buffer = BytesIO()
    image.resize((200, 150)).save(buffer, "JPEG", quality=int(rng.integers(1, 4)))
    return Image.open(buffer).convert("RGB")


def darken(rng: Rng, image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.05, 0.2))


def overexpose(rng: Rng, image: Image.Image) -> Image.Image:
    return to_image(np.asarray(image, float) * rng.uniform(2.2, 4))


def tint(rng: Rng, image: Image.Image) -> Image.Image:
    """A light of one colour: one or two channels lose most of theirs."""
    gains = rng.permutation([1.0, rng.uniform(0.1, 0.4), rng.choice([1.0, 0.25])])
    return to_image(np.asarray(image, float) * gains)


def swap(_: Rng, image: Image.Image) -> Image.Image:
    """Red taken for blue."""
    return Image.merge("RGB", image.split()[::-1])


def invert(_: Rng, image: Image.Image) -> Image.Image:
    return image.point(lambda value: 255 - value)


def add_noise(rng: Rng, image: Image.Image) -> Image.Image:
    """So much noise at 200×150 pixels that structure is lost."""
    small = np.asarray(image.resize((200, 150)), float)
    return to_image(small + rng.normal(0, rng.uniform(60, 120), small.shape))


def pixelate(rng: Rng, image: Image.Image) -> Image.Image:
    """A thumbnail of a dozen pixels, enlarged."""
    height = int(rng.integers(7, 13))
    small = image.resize((height * 4 // 3, height), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling(rng.choice([0, 2])))


def shake(rng: Rng, image: Image.Image) -> Image.Image:
    """Moved while it was taken, by a tenth to a fourth of the height."""
    width, height = image.size
    rim = height // 4
    wide = Image.fromarray(np.pad(np.asarray(image), ((rim, rim), (rim, rim), (0, 0)), "reflect"))
    steps = np.linspace(-0.5, 0.5, 25) * height * rng.uniform(0.1, 0.25)
    turn = rng.uniform(0, np.pi)
    corners = [(rim + step * np.cos(turn), rim + step * np.sin(turn)) for step in steps]
    moved = [wide.resize((width, height), BILINEAR, (x, y, x + width, y + height)) for x, y in corners]
    return to_image(np.mean([np.asarray(each, float) for each in moved], axis=0))


def posterize(_: Rng, image: Image.Image) -> Image.Image:
    """Two values of each of red, green and blue."""
    return image.point(lambda value: 255 * (value > 127))


def pepper(rng: Rng, image: Image.Image) -> Image.Image:
    """A fourth to a half of the pixels lost, to black or white."""
    pixels = np.asarray(image.resize((200, 150))).copy()
    lost = rng.random(pixels.shape[:2]) < rng.uniform(0.25, 0.5)
    pixels[lost] = rng.choice([0, 255], (int(lost.sum()), 1))
    return Image.fromarray(pixels)


def cover(rng: Rng, image: Image.Image) -> Image.Image:
    """The larger half under a finger or a label of one colour."""
    covered, side = image.copy(), image.height
    edge = int(image.width / 2 + side * rng.uniform(0, 0.2))
    covered.paste(tuple(rng.integers(0, 256, 3).tolist()), (0, 0, edge, image.height))
    return covered


def turn_hue(rng: Rng, image: Image.Image) -> Image.Image:
    """All colours a third to two thirds around the circle further."""
    hue, *rest = image.convert("HSV").split()
    further = int(rng.integers(85, 171))
    return Image.merge("HSV", (hue.point(lambda value: (value + further) % 256), *rest)).convert("RGB")


def bleach(_: Rng, image: Image.Image) -> Image.Image:
    """Without colour."""
    return image.convert("L").convert("RGB")


def zoom(rng: Rng, image: Image.Image) -> Image.Image:
    """Moved towards the skin while it was taken: up to a fourth to a half larger at the end."""
    width, height = image.size
    cuts = [(1 - 1 / factor) / 2 for factor in np.linspace(1, rng.uniform(1.25, 1.5), 25)]
    boxes = [(cut * width, cut * height, (1 - cut) * width, (1 - cut) * height) for cut in cuts]
    moved = [image.resize(image.size, BILINEAR, box) for box in boxes]
    return to_image(np.mean([np.asarray(each, float) for each in moved], axis=0))


def cut_off(rng: Rng, image: Image.Image) -> Image.Image:
    """A file that did not arrive whole: grey from 35 to 60 % of the height on, as JPEG decoders leave it."""
    pixels = np.asarray(image).copy()
    pixels[int(image.height * rng.uniform(0.35, 0.6)) :] = 128
    return Image.fromarray(pixels)


def displace(rng: Rng, image: Image.Image) -> Image.Image:
    """Lines out of step: each of them moved by up to a fifth of the width."""
    pixels = np.asarray(image)
    reach = int(image.width * rng.uniform(0.1, 0.2))
    return Image.fromarray(np.stack([np.roll(row, rng.integers(-reach, reach + 1), axis=0) for row in pixels]))


CHANGES: dict[str, Change] = {
    "lesions, blurred": blur,
    "lesions, JPEG quality 1 to 3": squeeze,
    "lesions, very dark": darken,
    "lesions, overexposed": overexpose,
    "lesions, one-coloured light": tint,
    "lesions, red and blue swapped": swap,
    "lesions, inverted": invert,
    "lesions, noise": add_noise,
    "lesions, a dozen pixels": pixelate,
    "lesions, shaken": shake,
    "lesions, two values a colour": posterize,
    "lesions, pixels lost": pepper,
    "lesions, half covered": cover,
    "lesions, other hue": turn_hue,
    "lesions, without colour": bleach,
    "lesions, zoomed while taken": zoom,
    "lesions, cut off in transfer": cut_off,
    "lesions, lines displaced": displace,
}


def to_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))
