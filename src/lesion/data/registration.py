"""Lay one small grey image over another by an affine map, and say how well their details agree."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

# Of the normal equations, as a share of their mean diagonal: one-directional texture leaves them singular.
DAMPING = 0.02
STEP = 0.15  # largest change of an entry per iteration, in half sides: one bad step must not leave the image
EDGE = 0.97  # half sides; the outermost pixel is half made of what lies outside
MIN_OVERLAP = 0.4  # of the area; less is no evidence
AREA = (0.4, 2.5)  # determinant of a map that is believed: more zoom than this is no near-duplicate
TILES = 8  # per side, of `agree`
LIVELY = 0.003  # added to the product of two tiles' variances, so that empty ones count for nothing
CONTRAST = 5e-5  # added to the local variance, so that noise on smooth skin is not blown up


def shrink(grey: Array) -> Array:
    """The means of squares of 2×2 pixels: (n, side, side) to (n, side / 2, side / 2)."""
    rows = grey[:, ::2] + grey[:, 1::2]  # a mean over two axes at once takes twenty times as long
    return np.asarray((rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25))


def normalize(grey: Array, fine: float, coarse: float) -> Array:
    """The details between two scales, at unit local contrast, so that brightness and its gradients do not matter.

    Args:
        grey: (n, side, side), range 0 to 1.
        fine: Gaussian sigma in pixels, below which details are dropped.
        coarse: sigma above which they are dropped, and within which contrast is measured.

    Returns:
        float32 (n, side, side): difference of Gaussians over the root of its local mean square.
    """
    band = _blur(grey, fine) - _blur(grey, coarse)
    return np.asarray(band / np.sqrt(_blur(band * band, coarse) + CONTRAST), np.float32)


@dataclass(frozen=True, slots=True)
class Template:
    """Images that others are laid over, with all that depends on them alone.

    Others are given as images (n, side, side) and, for each pair, the row of one of them. A map, (2, 3), is in half
    sides from the centre: a point (x, y) of the template is looked up in the other image at map @ (x, y, 1). It may
    turn and mirror.
    """

    values: Array
    """(m, points)."""
    update: Array
    """(m, 6, points): what the differences of all points say about the map."""
    stride: int
    """Every such pixel is a point."""

    @classmethod
    def of(cls, images: Array, stride: int = 1) -> "Template":
        """Prepare normalised images, (m, side, side)."""
        half = np.float32(images.shape[1] / 2)
        x, y, _ = _grid(images.shape[1], stride)
        gy, gx = (_flatten(np.gradient(images, axis=axis)[:, ::stride, ::stride] * half) for axis in (1, 2))
        slopes = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy], 1)
        normal = slopes @ slopes.transpose(0, 2, 1)
        damping = normal.trace(axis1=1, axis2=2) / 6 * DAMPING + 1e-3
        normal += np.eye(6, dtype=np.float32) * damping[:, None, None]
        return cls(_flatten(images[:, ::stride, ::stride]), np.linalg.inv(normal) @ slopes, stride)

    def align(self, rows: Rows, others: Array, places: Rows, maps: Array, steps: int) -> Array:
        """Improve the maps of pairs by inverse compositional Gauss–Newton.

        Baker and Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd.

        Args:
            rows: for each pair the row of the template, (pairs,).
            others: normalised images, (n, side, side).
            places: for each pair the row in `others`.
            maps: to begin with, (pairs, 2, 3).
            steps: iterations.

        Returns:
            float32 (pairs, 2, 3).
        """
        values, update = self.values[rows], self.update[rows]
        grid = _grid(others.shape[1], self.stride)
        for _ in range(steps):
            points = maps @ grid
            rest = _look_up(others, places, points)
            rest -= values
            rest *= _is_inside(points)
            change = np.clip(update @ rest[:, :, None], -STEP, STEP).reshape(-1, 2, 3)
            maps = _compose(maps, change)
        return maps

    def correlate(self, rows: Rows, others: Array, places: Rows, maps: Array) -> Array:
        """Correlation of each pair where they overlap, (pairs,), −1 to 1; −1 for a map not believed."""
        points = maps @ _grid(others.shape[1], self.stride)
        inside = _is_inside(points)
        a, b = self.values[rows] * inside, _look_up(others, places, points) * inside
        count = inside.sum(1) + np.float32(1e-6)
        mean_a, mean_b = a.sum(1) / count, b.sum(1) / count
        scale = (_dot(a, a) / count - mean_a**2) * (_dot(b, b) / count - mean_b**2)
        found = (_dot(a, b) / count - mean_a * mean_b) / np.sqrt(np.maximum(scale, 0) + 1e-6)
        return np.asarray(np.where(_believe(maps, inside), found, -1), np.float32)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Images cut into 64 tiles each, to be compared with others one by one."""

    values: Array
    """(m, pixels of a tile, 64), the mean of each tile taken away."""
    variance: Array
    """(m, 64)."""

    @classmethod
    def of(cls, images: Array) -> "Tiles":
        """Cut normalised images, (m, side, side)."""
        step = images.shape[1] // TILES
        values = images.reshape(-1, TILES, step, TILES, step).transpose(0, 2, 4, 1, 3).reshape(-1, step**2, TILES**2)
        values = values - values.mean(1, keepdims=True)
        return cls(values, np.einsum("npt,npt->nt", values, values) / np.float32(step**2))

    def agree(self, rows: Rows, others: Array, places: Rows, maps: Array) -> Array:
        """The mean of the correlations of the tiles that overlap; (pairs,), −1 to 1; −1 for a map not believed.

        Two dark lesions on smooth skin correlate well as a whole, because their outlines do. Pores, hairs and pigment
        in tile after tile agree only where the same skin was photographed. Arguments as in `Template.align`.
        """
        side = others.shape[1]
        step = side // TILES
        grid = _grid(side, 1).reshape(3, TILES, step, TILES, step).transpose(0, 2, 4, 1, 3).reshape(3, -1)
        b = _look_up(others, places, maps @ grid).reshape(-1, step**2, TILES**2)
        mean = b.sum(1) / np.float32(step**2)
        variance = np.einsum("npt,npt->nt", b, b) / np.float32(step**2) - mean**2
        product = np.einsum("npt,npt->nt", self.values[rows], b) / np.float32(step**2)
        scores = product / np.sqrt(np.maximum(self.variance[rows] * variance, 0) + LIVELY)
        inside = _is_inside(maps @ _grid(TILES, 1))  # the centres of the tiles
        found = (scores * inside).sum(1) / np.maximum(inside.sum(1), 1)
        return np.asarray(np.where(_believe(maps, inside), found, -1), np.float32)


def _believe(maps: Array, inside: Array) -> npt.NDArray[np.bool_]:
    area = np.abs(maps[:, 0, 0] * maps[:, 1, 1] - maps[:, 0, 1] * maps[:, 1, 0])
    return np.asarray((inside.mean(1) >= MIN_OVERLAP) & (area > AREA[0]) & (area < AREA[1]))


def _is_inside(points: Array) -> Array:
    """1 for each of `points`, (n, 2, points), that lies inside the image, and 0 for the others."""
    near = np.abs(points) <= np.float32(EDGE)
    return (near[:, 0] & near[:, 1]).astype(np.float32)


def _look_up(images: Array, places: Rows, points: Array) -> Array:
    """Bilinear values of images[places] at `points`, (pairs, 2, points); those outside are moved to the edge."""
    side = images.shape[1]
    # In place and in 32 bits: half of all the time for a pair goes here, and most of it into memory.
    fraction = points + np.float32(1 - 1 / side)
    fraction *= np.float32(side / 2)
    np.clip(fraction, 0, np.float32(side - 1.001), out=fraction)
    corner = fraction.astype(np.int32)
    fraction -= corner.astype(np.float32)
    u, v = fraction[:, 0], fraction[:, 1]
    index = (corner[:, 1] * np.int32(side) + corner[:, 0]).astype(np.int64)
    index += (places * side**2)[:, None]
    flat = images.reshape(-1)
    above, right = flat.take(index), flat.take(index + 1)
    right -= above
    right *= u
    above += right
    index += side
    below, right = flat.take(index), flat.take(index + 1)
    right -= below
    right *= u
    below += right
    below -= above
    below *= v
    below += above
    return below


def _compose(maps: Array, change: Array) -> Array:
    """`maps` after the inverse of (identity + change)."""
    step = change.copy()
    step[:, 0, 0] += 1
    step[:, 1, 1] += 1
    linear = maps[:, :, :2] @ np.linalg.inv(step[:, :, :2])
    shift = maps[:, :, 2:] - linear @ step[:, :, 2:]
    return np.concatenate([linear, shift], 2)


def _grid(side: int, stride: int) -> Array:
    """The points (x, y, 1) of every such pixel, (3, points)."""
    place = ((np.arange(0, side, stride) + 0.5) / (side / 2) - 1).astype(np.float32)
    y, x = np.meshgrid(place, place, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.ones(x.size, np.float32)])


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(np.einsum("np,np->n", a, b), np.float32)


def _flatten(images: Array) -> Array:
    return images.reshape(len(images), images.shape[1] * images.shape[2])  # −1 would refuse an empty batch


def _blur(images: Array, sigma: float) -> Array:
    matrix = pool(np.arange(images.shape[1]), images.shape[1], sigma)
    return np.asarray(matrix @ images @ matrix.T, np.float32)


def pool(centres: npt.NDArray[Any], side: int, sigma: float) -> Array:
    """Gaussian averages around `centres` (pixels) of a line of `side` pixels: (centres, side), rows add up to 1."""
    weights = np.exp(-0.5 * ((np.arange(side)[None] - centres[:, None]) / sigma) ** 2)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
