"""Images that a model of skin lesions should not answer for: drawn, or from what installed libraries bring along."""

import string
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from bench.damage import CHANGES, to_image

Rng = np.random.Generator
Draw = Callable[[Rng], Image.Image]
WIDTH, HEIGHT = 320, 240
PHOTOGRAPHS = {
    "sklearn": ("datasets/images/*.jpg",),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage": tuple(
        f"data/{name}"
        for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg",
                     "motorcycle_left.png", "brick.png", "grass.png", "gravel.png", "coins.png", "camera.png")
    ),
    "ultralytics": ("assets/*.jpg",),
}  # fmt: skip
SECTIONS = {"skimage": ("data/ihc.png",)}
PAGES = {"skimage": ("data/page.png", "data/text.png")}
OTHERS = {"skimage": ("data/cell.png", "data/microaneurysms.png", "data/phantom.png", "data/moon.png")}
SIGNS = {"skimage": ("data/horse.png", "data/logo.png", "data/color.png", "data/chessboard_RGB.png")}


def find_bundled(names: dict[str, tuple[str, ...]]) -> list[Path]:
    """The pictures of that name that installed packages hold."""
    found = []
    for package, patterns in names.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [path for pattern in patterns for path in sorted(Path(folder).glob(pattern))]
    return found


def crop(paths: list[Path]) -> Draw:
    """Random crops, turned and mirrored, at least a third as high as the picture."""
    pictures = [Image.open(path).convert("RGB") for path in paths]

    def draw(rng: Rng) -> Image.Image:
        picture = pictures[rng.integers(len(pictures))]
        side = rng.integers(min(picture.size) // 3, min(picture.size) + 1)
        left, top = (rng.integers(length - side + 1) for length in picture.size)
        piece = picture.crop((left, top, left + side, top + side))
        return piece.transpose(Image.Transpose(rng.integers(7)))

    return draw


def draw_uniform(rng: Rng) -> Image.Image:
    side = rng.integers(64, 400)
    return Image.fromarray(rng.integers(0, 256, (side, side, rng.choice([1, 3])), np.uint8).repeat(3, 2)[..., :3])


def draw_gaussian(rng: Rng) -> Image.Image:
    side, mean, spread = rng.integers(64, 400), rng.uniform(60, 200, 3), rng.uniform(20, 80)
    return to_image(rng.normal(mean, spread, (side, side, 3)))


def draw_pink(rng: Rng) -> Image.Image:
    """Noise whose amplitude falls with the frequency, about a random colour."""
    radius = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :])
    radius[0, 0] = np.inf
    waves = np.fft.rfft2(rng.normal(size=(3, HEIGHT, WIDTH))) / radius ** rng.uniform(0.7, 1.3)
    noise = np.fft.irfft2(waves, (HEIGHT, WIDTH))
    noise = noise / noise.std((1, 2), keepdims=True) * rng.uniform(25, 60)
    if rng.random() < 0.5:
        noise = noise[:1].repeat(3, 0)
    return to_image(noise.transpose(1, 2, 0) + rng.uniform(60, 200, 3))


def draw_text(rng: Rng) -> Image.Image:
    page, font = _page(rng), ImageFont.load_default(int(rng.integers(9, 26)))
    ink, step = tuple(rng.integers(0, 90, 3).tolist()), int(font.size * rng.uniform(1.2, 1.8))
    pen = ImageDraw.Draw(page)
    for y in range(int(rng.integers(0, 30)), HEIGHT, step):
        if rng.random() < 0.9:
            pen.text((rng.integers(4, 40), y), _words(rng, 12), fill=ink, font=font)
    return page.rotate(rng.uniform(-4, 4), fillcolor=page.getpixel((1, 1)))


def draw_table(rng: Rng) -> Image.Image:
    page, font = _page(rng), ImageFont.load_default(int(rng.integers(8, 16)))
    pen, rows, columns = ImageDraw.Draw(page), int(rng.integers(6, 16)), int(rng.integers(3, 8))
    for row in range(rows):
        y = row * HEIGHT // rows
        pen.line((0, y, WIDTH, y), fill=(90, 90, 90))
        for column in range(columns):
            x = column * WIDTH // columns
            pen.line((x, 0, x, HEIGHT), fill=(90, 90, 90))
            text = _words(rng, 1) if row == 0 or column == 0 else f"{rng.normal(0, 500):.{rng.integers(3)}f}"
            pen.text((x + 3, y + 3), text, fill=(20, 20, 20), font=font)
    return page


def draw_section(rng: Rng) -> Image.Image:
    """Purple nuclei on pink tissue, as haematoxylin and eosin stain them."""
    pink, purple = rng.normal((228, 170, 205), 12), rng.normal((105, 60, 140), 12)
    scene = to_image(pink + _clouds(rng, 12)[..., None] * (14, 30, 18) + _clouds(rng, 60)[..., None] * (6, 14, 8))
    pen = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(10, 50))):  # gaps and fibres
        x, y, length = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(10, 90)
        turn = rng.uniform(0, np.pi)
        end = (x + length * np.cos(turn), y + length * np.sin(turn))
        pen.line((x, y, *end), fill=tuple(rng.normal((245, 225, 238), 6).astype(int).tolist()), width=3)
    radius = rng.uniform(2, 7)
    for _ in range(int(rng.integers(80, 700))):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), radius * rng.uniform(0.6, 1.5)
        colour = tuple(rng.normal(purple, 14).clip(0, 255).astype(int).tolist())
        pen.ellipse((x - r, y - r * rng.uniform(0.6, 1), x + r, y + r), fill=colour)
    return scene.filter(ImageFilter.GaussianBlur(0.7))


def draw_flat(rng: Rng) -> Image.Image:
    """Any colour, or that of skin."""
    colour = rng.integers(0, 256, 3) if rng.random() < 0.5 else np.array([225, 170, 150]) * rng.uniform(0.4, 1.1)
    return Image.new("RGB", (WIDTH, HEIGHT), tuple(colour.astype(int).tolist()))


def draw_gradient(rng: Rng) -> Image.Image:
    """From one colour to another, along a line or outwards."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    turn = rng.uniform(0, 2 * np.pi)
    way = x * np.cos(turn) + y * np.sin(turn) if rng.random() < 0.5 else np.hypot(x - 0.5, y - 0.5)
    way = (way - way.min()) / np.ptp(way)
    start, end = rng.integers(0, 256, (2, 3))
    return to_image(start + way[..., None] * (end - start))


def draw_chart(rng: Rng) -> Image.Image:
    """A screen: boxes and curves of plain colours."""
    page = _page(rng)
    pen = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(4, 14))):
        x, y = rng.integers(0, WIDTH), rng.integers(0, HEIGHT)
        box = (x, y, x + rng.integers(8, 140), y + rng.integers(8, 110))
        pen.rectangle([int(edge) for edge in box], fill=tuple(rng.integers(0, 256, 3).tolist()))
    heights = rng.normal(0, 12, 40).cumsum() + HEIGHT / 2
    pen.line([(8 * i, float(h)) for i, h in enumerate(heights)], fill=tuple(rng.integers(0, 256, 3).tolist()), width=3)
    return page


def draw_pattern(rng: Rng) -> Image.Image:
    """Stripes, a chessboard or the code of a label, in two colours."""
    cells = int(rng.integers(4, 40))
    grid = rng.integers(0, 2, (cells, cells)) if rng.random() < 0.4 else np.indices((cells, cells)).sum(0) % 2
    if rng.random() < 0.3:
        grid = grid[:1].repeat(cells, 0)
    one, two = rng.integers(0, 256, (2, 1, 1, 3))
    colours = np.where(grid[..., None].astype(bool), one, two).astype(np.uint8)
    return (
        Image.fromarray(colours).resize((HEIGHT, HEIGHT), Image.Resampling.NEAREST).rotate(rng.choice([0, 0, 30, 45]))
    )


DRAWN: dict[str, Draw] = {
    "uniform noise": draw_uniform,
    "Gaussian noise": draw_gaussian,
    "pink noise": draw_pink,
    "text": draw_text,
    "tables": draw_table,
    "charts": draw_chart,
    "histology, drawn": draw_section,
    "flat colours": draw_flat,
    "gradients": draw_gradient,
    "patterns": draw_pattern,
}
BUNDLED = {
    "photographs": PHOTOGRAPHS,
    "histology, stained": SECTIONS,
    "scanned pages": PAGES,
    "other scientific images": OTHERS,
    "signs": SIGNS,
}
CHOSEN_ON = (
    "photographs", "uniform noise", "text", "gradients", "histology, drawn", "lesions, blurred", "lesions, very dark",
    "lesions, red and blue swapped",
)  # fmt: skip
"""What the measure was chosen on; the remaining kinds were looked at while it was refined, none only afterwards."""


def collect(lesions: list[Path], count: int, seed: int = 0) -> Iterator[tuple[str, list[Image.Image]]]:
    """`count` images of each kind; `lesions` are the files that are degraded."""
    crops = {kind: crop(paths) for kind, names in BUNDLED.items() if (paths := find_bundled(names))}
    for kind, draw in {**crops, **DRAWN}.items():
        rng = np.random.default_rng((seed, *kind.encode()))
        yield kind, [draw(rng) for _ in range(count)]
    for kind, change in CHANGES.items():
        rng = np.random.default_rng((seed, *kind.encode()))
        chosen = rng.choice(len(lesions), min(count, len(lesions)), replace=False)
        yield kind, [change(rng, Image.open(lesions[i]).convert("RGB")) for i in chosen]


def _page(rng: Rng) -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), tuple(rng.integers(225, 256, 3).tolist()))


def _words(rng: Rng, count: int) -> str:
    letters = list(string.ascii_lowercase)
    return " ".join("".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(count))


def _clouds(rng: Rng, cells: int) -> np.ndarray:
    grid = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    return np.asarray(grid.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
