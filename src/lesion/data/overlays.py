"""Things that lie on skin in dermatoscopic pictures and say nothing of a lesion, drawn as a bank of masks."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw

BANK = 32  # masks of each kind; with the eight symmetries no two images of a batch look alike
FINER = 3  # drawn so much larger, then reduced: lines thinner than a pixel
HAIRS = (2, 14)
GRADUATIONS = (20, 60)  # ticks per side of a picture


@lru_cache(maxsize=8)
def draw_hairs(size: int, device: torch.device) -> torch.Tensor:
    """The light that hairs let through: float32 (32, size, size, 1), 0.1 to 1; curved lines, the same at each call."""
    return _draw(size, seed=1, draw=_hair).to(device)


@lru_cache(maxsize=8)
def draw_rulers(size: int, device: torch.device) -> torch.Tensor:
    """The light that the ticks of a ruler along one edge let through: float32 (32, size, size, 1), 0.1 to 1."""
    return _draw(size, seed=2, draw=_ruler).to(device)


def _draw(size: int, seed: int, draw: Callable[[ImageDraw.ImageDraw, int, np.random.Generator], None]) -> torch.Tensor:
    rng, side = np.random.default_rng(seed), size * FINER
    masks = np.empty((BANK, size, size, 1), np.float32)
    for mask in masks:
        image = Image.new("L", (side, side))
        draw(ImageDraw.Draw(image), side, rng)
        mask[..., 0] = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32) / 255
    return torch.from_numpy(np.maximum(1 - masks, 0.1))


def _hair(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    """Quadratic Bézier curves that all grow roughly one way."""
    growing = rng.uniform(0, np.pi)
    at = np.linspace(0, 1, 24)[:, None]
    for _ in range(rng.integers(*HAIRS)):
        angle, length = growing + rng.normal(0, 0.4), side * rng.uniform(0.3, 0.9)
        start = rng.uniform(0, side, 2)
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        bend = (start + end) / 2 + rng.normal(0, side / 10, 2)
        curve = (1 - at) ** 2 * start + 2 * at * (1 - at) * bend + at**2 * end
        width = max(1, round(side * rng.uniform(0.003, 0.012)))
        pen.line([tuple(point) for point in curve], fill=int(rng.integers(140, 255)), width=width, joint="curve")


def _ruler(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    """Ticks along the upper edge, each fifth longer, as the millimetres of a contact plate."""
    pitch, width = side / rng.integers(*GRADUATIONS), max(1, round(side * rng.uniform(0.003, 0.008)))
    edge, fill = side * rng.uniform(0, 0.15), int(rng.integers(140, 255))
    for tick in range(int(side / pitch) + 1):
        length = side * (0.06 if tick % 5 == 0 else 0.035)
        pen.line([(tick * pitch, edge), (tick * pitch, edge + length)], fill=fill, width=width)
