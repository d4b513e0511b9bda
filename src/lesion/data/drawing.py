"""Draws one synthetic lesion as a dermatoscope would photograph it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.floating[Any]]
RGB = tuple[float, float, float]

_MIMICRY = 0.06  # share of lesions that look like another diagnosis, as they do in the clinic
_SKINS: tuple[RGB, ...] = ((0.93, 0.77, 0.72), (0.88, 0.66, 0.60), (0.80, 0.60, 0.48), (0.52, 0.36, 0.27))


@dataclass(frozen=True, slots=True)
class Kind:
    """What one diagnosis tends to look like: the means its lesions vary around. Colours and weights: 0-1."""

    share: float  # of all lesions
    age: float  # years
    confirmed: str  # possible dx_type values
    mimics: str  # diagnoses it is mistaken for
    base: RGB
    second: RGB
    opacity: float
    size: float  # lesion radius over half the image's height
    atypia: float = -0.4  # drives irregular border, many colours and asymmetry; spread 1
    network: float = 0.1
    globules: float = 0.1
    milia: float = 0.05
    lacunes: float = 0.0
    vessels: float = 0.05
    streaks: float = 0.05
    scale: float = 0.05
    ring: float = 0.0  # how much paler the centre is than the rim


KINDS = {
    "akiec": Kind(0.08, 67, "histo", "bkl bkl vasc", (0.76, 0.38, 0.33), (0.62, 0.33, 0.28), 0.66, 0.64,
                   atypia=0.8, scale=0.7, vessels=0.2),
    "bcc": Kind(0.11, 67, "histo", "bkl nv df", (0.78, 0.50, 0.48), (0.55, 0.40, 0.42), 0.60, 0.62,
                 atypia=0.6, vessels=1.3, streaks=0.7),
    "bkl": Kind(0.17, 64, "histo histo consensus confocal", "mel akiec akiec", (0.60, 0.43, 0.30),
                 (0.42, 0.30, 0.22), 0.75, 0.62, atypia=0.0, milia=0.7, network=0.15, scale=0.25),
    "df": Kind(0.07, 52, "histo consensus", "bcc nv", (0.60, 0.41, 0.33), (0.68, 0.48, 0.42), 0.60, 0.50,
                ring=1.1, network=0.35, streaks=0.3),
    "mel": Kind(0.16, 61, "histo", "nv nv bkl", (0.37, 0.23, 0.18), (0.19, 0.13, 0.13), 0.90, 0.74,
                 atypia=1.2, network=0.4, globules=0.4, streaks=0.2),
    "nv": Kind(0.34, 46, "follow_up follow_up histo consensus confocal", "mel mel bkl", (0.52, 0.34, 0.24),
                (0.36, 0.23, 0.16), 0.78, 0.56, atypia=-0.5, network=0.55, globules=0.4),
    "vasc": Kind(0.07, 51, "histo consensus", "bcc akiec", (0.66, 0.27, 0.30), (0.45, 0.16, 0.26),
                  0.70, 0.48, lacunes=0.9),
}  # fmt: skip


def draw_photo(dx: str, look: Generator, shot: Generator, width: int, height: int) -> Image.Image:
    """Photograph one lesion: the skin and lesion at half size, then noise and artefacts at full size.

    Args:
        dx: The diagnosis, a key of KINDS.
        look: Random stream of the lesion; the same for all its photographs.
        shot: Random stream of this photograph.
        width: In pixels.
        height: In pixels.
    """
    kind = KINDS[str(look.choice(KINDS[dx].mimics.split())) if look.random() < _MIMICRY else dx]
    tone, size = _draw_tone(look), kind.size * float(np.exp(look.normal(0, 0.22)))
    low, wide = -(-height // 2), -(-width // 2)
    tile = _paint_lesion(look, kind, size, round(1.25 * low))
    lesion = np.asarray(_place_tile(shot, tile, size, (wide, low)), np.float32) / 255
    scene = _paint_skin(shot, tone, low, wide)
    scene = scene + (lesion[..., :3] - scene) * lesion[..., 3:]
    scene = scene * _light(shot, low, wide)
    photo = _to_image(scene).resize((width, height), Image.Resampling.BICUBIC)
    grain = shot.standard_normal((height, width, 1), np.float32) * np.float32(shot.uniform(1, 4))
    return _add_artefacts(shot, _to_image((np.asarray(photo, np.float32) + grain) / 255))


def _draw_tone(rng: Generator) -> Array:
    """Pick a skin tone, light more often than brown, as an RGB array of shape [3]."""
    where, steps = rng.beta(1.2, 2.4), np.linspace(0, 1, len(_SKINS))
    tone = [np.interp(where, steps, channel) for channel in zip(*_SKINS, strict=True)]
    return np.asarray(tone + rng.normal(0, 0.02, 3), np.float32)


def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Return y, of shape [height, 1], and x, of shape [1, width], each from -1 to 1."""
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    return y[:, None], x[None, :]


def _noise(rng: Generator, cells: int, height: int, width: int) -> Array:
    """Return smooth noise of shape [height, width], mean 0, spread about 1, `cells` bumps along each side."""
    grid = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    smooth = grid.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float32) * np.float32(1.4)  # smoothing narrowed it


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float32)


def _to_image(scene: Array) -> Image.Image:
    return Image.fromarray((scene.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def _paint_skin(rng: Generator, tone: Array, height: int, width: int) -> Array:
    """Paint skin of shape [height, width, 3]: slow mottling, then fine furrows."""
    mottle = 0.018 * _noise(rng, 7, height, width) + 0.012 * _noise(rng, 40, height, width)
    furrows = np.exp(-8 * _noise(rng, 45, height, width) ** 2) * np.float32(rng.uniform(0, 0.05))
    flush = _noise(rng, 5, height, width)[..., None] * np.array([0.002, -0.010, -0.008], np.float32)
    return np.asarray(tone * (1 + mottle - furrows)[..., None] + flush, np.float32)


def _light(rng: Generator, height: int, width: int) -> Array:
    """Return the gain of lamp, lens and white balance per pixel, of shape [height, width, 3]."""
    y, x = _grid(height, width)
    slope = rng.normal(0, 0.05, 2)
    gain = 1 + slope[0] * x + slope[1] * y - rng.uniform(0.05, 0.3) * ((x * x + y * y) / 2) ** 1.5
    warmth = rng.normal(0, 0.04) * np.array([1, 0, -1])
    balance = np.exp(rng.normal(0, 0.05) + warmth + rng.normal(0, 0.015, 3))
    return np.asarray(gain[..., None] * balance, np.float32)


def _place_tile(rng: Generator, tile: Image.Image, size: float, frame: tuple[int, int]) -> Image.Image:
    """Turn, scale and shift the lesion's tile into a frame of (width, height) pixels."""
    width, height = frame
    turn, zoom = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.85, 1.2) / 0.6
    x, y = width / 2 + rng.normal(0, 0.06) * height, height / 2 + rng.normal(0, 0.06) * height
    step = tile.width / (zoom * height)  # tile pixels per frame pixel
    a, b, middle = step * np.cos(turn), step * np.sin(turn), tile.width / 2
    matrix = (a, b, middle - a * x - b * y, -b, a, middle + b * x - a * y)
    return tile.transform(frame, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _paint_lesion(rng: Generator, kind: Kind, size: float, side: int) -> Image.Image:
    """Paint a lesion of mean radius 0.6 on a square RGBA tile that spans -1 to 1."""
    y, x = _grid(side, side)
    rho = np.hypot(x, y)
    wild = float(np.log1p(np.exp(rng.normal(kind.atypia, 1.0))))
    depth = _reach(rng, np.arctan2(y, x), wild) - rho + 0.03 * _noise(rng, 14, side, side)
    lean = rng.normal(0, 0.35 * wild, 2)
    colour = _mix_colours(rng, kind, wild, lean[0] * x + lean[1] * y)
    for mask, rgb, weight in _layers(rng, kind, wild, size, rho, colour):
        strength = np.float32(min(0.95, weight * rng.gamma(2.0, 0.5)))
        colour = colour + (np.asarray(rgb, np.float32) - colour) * (strength * mask)[..., None]
    opacity = np.clip(rng.normal(kind.opacity, 0.12), 0.3, 0.97) * (1 + 0.08 * _noise(rng, 9, side, side))
    rim = _sigmoid((0.97 - rho) * 60)  # the tile's rim stays clear
    return _to_image(np.dstack([colour, opacity * rim * _sigmoid(depth / rng.uniform(0.02, 0.09))]))


def _reach(rng: Generator, theta: Array, wild: float) -> Array:
    """Return the border's radius in each direction: a circle with random waves, rougher when `wild`."""
    orders = np.arange(2, 10, dtype=np.float32)
    waves = (rng.normal(0, 0.12 + 0.11 * wild, 8) / orders**1.3).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 8).astype(np.float32)
    radius = np.ones_like(theta)
    for order, wave, phase in zip(orders, waves, phases, strict=True):
        radius += wave * np.cos(order * theta + phase)
    return 0.6 * radius.clip(0.35, 1.55)


def _mix_colours(rng: Generator, kind: Kind, wild: float, lean: Array) -> Array:
    """Blend the kind's two colours, each off its mean, in patches that lean to one side when `wild`."""
    side = len(lean)
    tint = np.exp(rng.normal(0, 0.13) + rng.normal(0, 0.045, 3))
    base, second = (np.clip(np.array(rgb) * tint, 0.05, 0.95) for rgb in (kind.base, kind.second))
    patches = _noise(rng, int(rng.integers(3, 7)), side, side)
    blend = _sigmoid(2.2 * (patches + 2 * lean) + rng.normal(-1.2, 0.8)) * min(1.0, 0.35 + 0.4 * wild)
    mottle = 1 + rng.uniform(0.02, 0.08) * _noise(rng, 40, side, side)
    return np.asarray((base + (second - base) * blend[..., None]) * mottle[..., None], np.float32)


def _layers(
    rng: Generator, kind: Kind, wild: float, size: float, rho: Array, colour: Array
) -> list[tuple[Array, RGB | Array, float]]:
    """Return what lies over the ground colour, bottom first: mask [side, side], colour and mean weight."""
    side = len(rho)
    dark: Array = colour.mean((0, 1)) * np.float32(0.5)
    veil = _sigmoid(4 * (_noise(rng, 4, side, side) - 0.9))
    flakes = _sigmoid(2.4 * _noise(rng, 26, side, side) + 3.2 * _noise(rng, 7, side, side) - 3.2)
    centre = np.exp(-((rho / np.float32(rng.uniform(0.22, 0.4))) ** 2))
    return [
        (veil, (0.46, 0.47, 0.55), 0.22 * wild),
        (_net(rng, size, side), dark, kind.network),
        (flakes, (0.88, 0.78, 0.68), kind.scale),
        (centre, (0.90, 0.76, 0.70), kind.ring),
        (_discs(rng, side, 30, 0.012, 0.03), dark, kind.globules),
        (_discs(rng, side, 22, 0.012, 0.035), (0.92, 0.84, 0.66), kind.milia),
        (_discs(rng, side, 26, 0.05, 0.14), (0.42, 0.07, 0.16), kind.lacunes),
        (_lines(rng, side, 6, 26, 0.3), (0.66, 0.16, 0.17), kind.vessels),
        (_lines(rng, side, 14, 4, 0.0), (0.96, 0.88, 0.86), kind.streaks),
    ]


def _net(rng: Generator, size: float, side: int) -> Array:
    """Return a pigment network, 0-1 of shape [side, side]: a bent honeycomb that fades in and out."""
    y, x = (axis + 0.03 * _noise(rng, 7, side, side) for axis in _grid(side, side))
    pitch, turn = rng.uniform(90, 130) * size, rng.uniform(0, np.pi)
    waves = np.zeros((side, side), np.float32)
    for angle in turn + np.array([0, 2, 4]) * np.pi / 3:
        waves += np.cos(np.float32(pitch * np.cos(angle)) * x + np.float32(pitch * np.sin(angle)) * y)
    return _sigmoid(-3 * waves) * _sigmoid(2 * _noise(rng, 4, side, side))


def _discs(rng: Generator, side: int, count: int, low: float, high: float) -> Array:
    """Return soft dots about the middle as a mask of shape [side, side]; diameters are shares of `side`."""
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    for _ in range(int(rng.poisson(count))):
        x, y = side * (0.5 + rng.normal(0, 0.15, 2))
        r = side * rng.uniform(low, high) / 2
        pen.ellipse((x - r, y - r * 0.85, x + r, y + r * 0.85), fill=int(rng.integers(150, 256)))
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(side / 250)), np.float32) / 255


def _lines(rng: Generator, side: int, count: int, steps: int, bend: float) -> Array:
    """Return thin lines as a mask of shape [side, side]: branching vessels, or streaks where `bend` is 0."""
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    starts = 0.5 + rng.normal(0, 0.17, (int(rng.poisson(count)), 2))
    todo = [(x, y, rng.uniform(0, 2 * np.pi), steps) for x, y in starts]
    while todo:
        x, y, heading, left = todo.pop()
        path = [(x * side, y * side)]
        for step in range(left):
            x, y = x + 0.018 * np.cos(heading), y + 0.018 * np.sin(heading)
            heading += rng.normal(0, bend)
            path.append((x * side, y * side))
            if bend and left > 8 and rng.random() < 0.12:
                todo.append((x, y, heading + rng.choice([-0.8, 0.8]), (left - step) // 2))
        pen.line(path, fill=230, width=max(1, round(side * left / 2600 if bend else side / 140)))
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(side / 330)), np.float32) / 255


def _add_artefacts(rng: Generator, photo: Image.Image) -> Image.Image:
    """Add what the camera and the clinic leave on a photograph, whatever the lesion."""
    for chance, colour, draw in (
        (0.40, (40, 26, 20), draw_hairs),
        (0.15, (245, 240, 240), _draw_bubbles),
        (0.10, (35, 35, 40), draw_ruler),
        (0.06, (70, 50, 130), draw_ink),
        (0.15, (6, 5, 6), _draw_corners),
    ):
        if rng.random() < chance:
            mask = Image.new("L", photo.size)
            draw(rng, mask, ImageDraw.Draw(mask))
            photo.paste(colour, (0, 0), mask.filter(ImageFilter.GaussianBlur(photo.height / 500)))
    return photo


def draw_hairs(rng: Generator, mask: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    """Draw some dark hairs across the mask, and over the image."""
    size, t = np.array(mask.size), np.linspace(0, 1, 24)[:, None]
    heading, shade = rng.uniform(0, np.pi), int(rng.integers(110, 235))
    for _ in range(1 + rng.poisson(rng.choice([3, 10]))):
        angle = heading + rng.normal(0, 0.5)
        reach = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.2, 0.6) * size[0]
        middle, bulge = rng.uniform(0, 1, 2) * size, rng.normal(0, 0.14, 2) * size[0]
        curve = middle + (2 * t - 1) * reach + t * (1 - t) * bulge
        width = max(1, round(size[0] * rng.uniform(0.002, 0.0055)))
        pen.line([(x, y) for x, y in curve], fill=shade, width=width, joint="curve")


def _draw_bubbles(rng: Generator, mask: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    for _ in range(1 + rng.poisson(4)):
        x, y = rng.uniform(0, 1, 2) * mask.size
        r = mask.height * rng.uniform(0.008, 0.06)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=18, outline=70, width=max(1, round(r / 8)))
        pen.ellipse((x - r / 2, y - r / 2, x - r / 5, y - r / 5), fill=230)  # the lamp's glint


def draw_ruler(rng: Generator, mask: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    """Draw the ticks of a ruler along one side of the mask."""
    pitch, y = mask.width * rng.uniform(0.02, 0.05), mask.height * rng.choice([0.0, 0.93])
    for tick in range(int(mask.width / pitch) + 1):
        length = mask.height * (0.07 if tick % 5 == 0 else 0.035)
        pen.line([(tick * pitch, y), (tick * pitch, y + length)], fill=210, width=max(1, mask.width // 300))


def draw_ink(rng: Generator, mask: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    """Draw a spot of ink near the rim of the mask."""
    angle, r = rng.uniform(0, 2 * np.pi), mask.height * rng.uniform(0.03, 0.1)
    x, y = (0.5 + 0.45 * np.array([np.cos(angle), np.sin(angle)])) * mask.size
    pen.ellipse((x - r, y - r * 0.8, x + r, y + r * 0.8), fill=int(rng.integers(120, 220)))


def _draw_corners(rng: Generator, mask: Image.Image, pen: ImageDraw.ImageDraw) -> None:
    r, x, y = mask.height * rng.uniform(0.62, 0.8), mask.width / 2, mask.height / 2
    pen.rectangle((0, 0, *mask.size), fill=255)
    pen.ellipse((x - r, y - r, x + r, y + r), fill=0)
