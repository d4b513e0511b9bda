"""Lay one small grey image over another by an affine map, and say how well their details agree."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

DAMPING = (
    0.02  # of the normal equations, as a share of their mean diagonal: one-directional texture leaves them singular
)
STEP = 0.15  # largest change of an entry per iteration, in half sides: one bad step must not leave the image
EDGE = 0.97  # half sides; the outermost pixel is half made of what lies outside
MIN_OVERLAP = 0.4  # of the area; less is no evidence
AREA = (0.4, 2.5)  # determinant of a map that is believed: more zoom than this is no near-duplicate
TILES = 8  # per side, of `agree`
LIVELY = 0.003  # added to the product of two tiles' deviations, so that empty ones count for nothing
CONTRAST = 5e-5  # added to the local variance, so that noise on smooth skin is not blown up


def shrink(grey: Array, factor: int) -> Array:
    """The means of squares of factor×factor pixels: (n, side, side) to (n, side / factor, side / factor)."""
    side = grey.shape[1] // factor
    return np.asarray(grey.reshape(-1, side, factor, side, factor).mean((2, 4)), np.float32)


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


def align(first: Array, second: Array, start: Array, steps: int, stride: int = 1) -> Array:
    """Find the affine maps under which `second` looks like `first`, by inverse compositional Gauss–Newton.

    Baker and Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd.

    Args:
        first: normalised images, (n, side, side).
        second: likewise.
        start: maps to begin with, (n, 2, 3), in half sides from the centre: a point (x, y) of `first` is looked up in
            `second` at map @ (x, y, 1).
        steps: iterations.
        stride: look at every such pixel only.

    Returns:
        float32 (n, 2, 3).
    """
    half = first.shape[1] / 2
    x, y = _grid(first.shape[1], stride)
    gy, gx = (_flatten(np.gradient(first, axis=axis)[:, ::stride, ::stride] * np.float32(half)) for axis in (1, 2))
    template = _flatten(first[:, ::stride, ::stride])
    slopes = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy], 1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    normal += np.eye(6, dtype=np.float32) * (normal.trace(axis1=1, axis2=2) / 6 * DAMPING + 1e-3)[:, None, None]
    solver = np.linalg.inv(normal)
    maps = start
    for _ in range(steps):
        values, inside = _look_up(second, maps, x, y)
        rest = (values - template) * inside
        change = np.clip(solver @ (slopes @ rest[:, :, None]), -STEP, STEP).reshape(-1, 2, 3)
        maps = _compose(maps, change)
    return maps


def correlate(first: Array, second: Array, maps: Array, stride: int = 1) -> Array:
    """Correlation of `first` with the mapped `second` where they overlap, (n,), −1 to 1; −1 for a map not believed."""
    values, weight, believed = _overlap(first, second, maps, stride)
    a = _flatten(first[:, ::stride, ::stride])
    return np.where(believed, _correlate(a, values, weight), np.float32(-1))


def agree(first: Array, second: Array, maps: Array) -> Array:
    """The mean of the correlations of 64 tiles, as far as they overlap; (n,), −1 to 1; −1 for a map not believed.

    Two dark lesions on smooth skin correlate well as a whole, because their outlines do. Pores, hairs and pigment in
    tile after tile agree only where the same skin was photographed.
    """
    values, weight, believed = _overlap(first, second, maps, 1)
    a, b, w = (_to_tiles(part) for part in (_flatten(first), values, weight))
    scores, count = _correlate(a, b, w, LIVELY), w.sum(-1)
    full = count > w.shape[-1] / 2
    mean = (scores * full).sum(1) / np.maximum(full.sum(1), 1)
    return np.asarray(np.where(believed, mean, -1), np.float32)


def _overlap(first: Array, second: Array, maps: Array, stride: int) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """The mapped values of `second`, 1 where they lie inside and 0 elsewhere, and which maps are believed."""
    x, y = _grid(first.shape[1], stride)
    values, inside = _look_up(second, maps, x, y)
    area = maps[:, 0, 0] * maps[:, 1, 1] - maps[:, 0, 1] * maps[:, 1, 0]
    return values, inside.astype(np.float32), (inside.mean(1) >= MIN_OVERLAP) & (area > AREA[0]) & (area < AREA[1])


def _correlate(a: Array, b: Array, weight: Array, floor: float = 1e-6) -> Array:
    """Weighted correlation along the last axis."""
    count = weight.sum(-1, keepdims=True) + 1e-6
    a = (a - (a * weight).sum(-1, keepdims=True) / count) * weight
    b = (b - (b * weight).sum(-1, keepdims=True) / count) * weight
    scale = (a * a).sum(-1) * (b * b).sum(-1) / count[..., 0] ** 2
    return np.asarray((a * b).sum(-1) / count[..., 0] / np.sqrt(scale + floor), np.float32)


def _flatten(images: Array) -> Array:
    return images.reshape(len(images), images.shape[1] * images.shape[2])  # −1 would refuse an empty batch


def _to_tiles(flat: Array) -> Array:
    """(n, side²) to (n, tiles, pixels of a tile)."""
    step = round(flat.shape[1] ** 0.5) // TILES
    return flat.reshape(-1, TILES, step, TILES, step).transpose(0, 1, 3, 2, 4).reshape(-1, TILES**2, step**2)


def _compose(maps: Array, change: Array) -> Array:
    """`maps` after the inverse of (identity + change)."""
    step = change.copy()
    step[:, 0, 0] += 1
    step[:, 1, 1] += 1
    linear = maps[:, :, :2] @ np.linalg.inv(step[:, :, :2])
    shift = maps[:, :, 2:] - linear @ step[:, :, 2:]
    return np.concatenate([linear, shift], 2)


def _look_up(images: Array, maps: Array, x: Array, y: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Bilinear values of `images` at the mapped points, (n, points), and which of them lie inside."""
    side = images.shape[1]
    u = maps[:, 0, 0:1] * x + maps[:, 0, 1:2] * y + maps[:, 0, 2:3]
    v = maps[:, 1, 0:1] * x + maps[:, 1, 1:2] * y + maps[:, 1, 2:3]
    inside = (np.abs(u) <= EDGE) & (np.abs(v) <= EDGE)
    u, v = (np.clip((axis + 1) * np.float32(side / 2) - np.float32(0.5), 0, side - 1.001) for axis in (u, v))
    left, top = u.astype(np.int32), v.astype(np.int32)
    u, v = u - left.astype(np.float32), v - top.astype(np.float32)
    corner = (np.arange(len(images), dtype=np.int32) * side**2)[:, None] + top * side + left
    flat = images.reshape(-1)
    above = flat[corner] * (1 - u) + flat[corner + 1] * u
    below = flat[corner + side] * (1 - u) + flat[corner + side + 1] * u
    return above * (1 - v) + below * v, inside


def _grid(side: int, stride: int) -> tuple[Array, Array]:
    place = ((np.arange(0, side, stride) + 0.5) / (side / 2) - 1).astype(np.float32)
    y, x = np.meshgrid(place, place, indexing="ij")
    return x.ravel(), y.ravel()


def _blur(images: Array, sigma: float) -> Array:
    matrix = pool(np.arange(images.shape[1]), images.shape[1], sigma)
    return np.asarray(matrix @ images @ matrix.T, np.float32)


def pool(centres: npt.NDArray[Any], side: int, sigma: float) -> Array:
    """Gaussian averages around `centres` (pixels) of a line of `side` pixels: (centres, side), rows add up to 1."""
    weights = np.exp(-0.5 * ((np.arange(side)[None] - centres[:, None]) / sigma) ** 2)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
