"""Describe small grey images, so that products of their descriptors say which ones may show the same thing."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from lesion.data.registration import Array, pool

SIDE = 32  # of the images
CELLS, DIRECTIONS = 4, 8  # a histogram of gradient directions in each of 4×4 cells
WINDOW = 22  # side of a window
OFFSETS = (0, 5, 10)  # of the windows, down and to the right
CENTRAL, WHOLE = 4, 9  # places of the central window, and of the whole image, behind the windows
LOCAL, FLAT = 5, 0.004  # sigma of the local contrast, and the contrast of smooth skin
SHRINKAGE = (0.1, 0.5)  # of the covariance of windows and whole images, towards a multiple of the identity
SPREADS = (3.0, 4.0)  # Gaussian sigma of a cell, in a window and in the whole image
SYMMETRIES = tuple(product(range(4), (False, True)))  # quarter turns, then mirrored or not


def measure(grey: Array) -> Array:
    """Root histograms for 9 overlapping windows and the whole image, not yet whitened.

    Directions of gradients at unit local contrast do not see the light; the Gaussian cells forgive some pixels of
    shift and a few per cent of zoom, the windows larger shifts.

    Args:
        grey: (n, 32, 32), range 0 to 1.

    Returns:
        float32 (10, n, 128).
    """
    gy, gx = np.gradient(grey, axis=1), np.gradient(grey, axis=2)
    size = np.sqrt(gx * gx + gy * gy) + np.float32(1e-12)
    gx, gy = gx / size, gy / size
    local = pool(np.arange(SIDE), SIDE, LOCAL)
    size /= local @ size @ local.T + np.float32(FLAT)
    strength = np.empty((len(grey), DIRECTIONS, SIDE, SIDE), np.float32)
    for k in range(DIRECTIONS // 2):
        angle = 2 * np.pi * k / DIRECTIONS
        along = gx * np.float32(np.cos(angle)) + gy * np.float32(np.sin(angle))
        both = np.square(np.square(along)) * size
        strength[:, k] = both * (along > 0)
        strength[:, k + DIRECTIONS // 2] = both - strength[:, k]
    cells = (np.arange(CELLS) + 0.5) / CELLS
    lines = [pool(offset + cells * WINDOW - 0.5, SIDE, SPREADS[0]) for offset in OFFSETS]
    lines.append(pool(cells * SIDE - 0.5, SIDE, SPREADS[1]))
    stack = np.concatenate(lines)
    cut = np.sqrt(stack @ strength @ stack.T).reshape(len(grey), DIRECTIONS, len(lines), CELLS, len(lines), CELLS)
    places = [*product(range(len(OFFSETS)), repeat=2), (-1, -1)]
    return np.stack([cut[:, :, row, :, column].reshape(len(grey), -1) for row, column in places])


@dataclass(frozen=True, slots=True)
class Whitening:
    """The mean and the inverse root of the covariance of a dataset's descriptors; windows and whole images apart.

    It takes away what most lesions have in common.
    """

    means: tuple[Array, Array]
    roots: tuple[Array, Array]

    @classmethod
    def of(cls, raw: Array) -> "Whitening":
        """Learn it from what `measure` says, (10, n, 128)."""
        means, roots = [], []
        for part, share in zip((raw[:WHOLE], raw[WHOLE:]), SHRINKAGE, strict=True):
            rows = part.reshape(-1, part.shape[-1])
            means.append(rows.mean(0))
            values, vectors = np.linalg.eigh(np.cov(rows[:: len(part)].T.astype(np.float64), bias=True))
            roots.append((vectors / np.sqrt(values + share * values.mean() + 1e-9)).astype(np.float32))
        return cls((means[0], means[1]), (roots[0], roots[1]))

    def apply(self, raw: Array, place: int) -> Array:
        """Whitened rows of unit length from what `measure` says of one place, (n, 128)."""
        part = int(place == WHOLE)
        rows = np.asarray((raw - self.means[part]) @ self.roots[part], np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True) + np.float32(1e-6)
        return rows


def turn(raw: Array, quarters: int, mirrored: bool) -> Array:
    """What `measure` would say of turned images; of the windows, only the central one stays where it is."""
    cells = raw.reshape(*raw.shape[:2], DIRECTIONS, CELLS, CELLS)
    cells = np.roll(np.rot90(cells, quarters, axes=(3, 4)), -quarters * DIRECTIONS // 4, axis=2)
    if mirrored:
        cells = cells[:, :, (DIRECTIONS // 2 - np.arange(DIRECTIONS)) % DIRECTIONS, :, ::-1]
    return cells.reshape(raw.shape)
