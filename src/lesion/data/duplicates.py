"""Find images that show the same thing: byte for byte, or zoomed, shifted, turned, mirrored and lit anew."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from lesion.data.registration import Array, agree, align, correlate, normalize, pool, shrink
from lesion.preprocess import PreprocessSpec

Pixels = npt.NDArray[np.uint8]
Shift = tuple[int, int]
Candidates = tuple[npt.NDArray[np.int64], Array]

SIDE = 64
THUMB = PreprocessSpec(SIDE, "bilinear")  # its own geometry: what is a duplicate must not depend on the training size
THRESHOLD = 0.42  # of `Pair.similarity`; docs/audit.md has the measurement
LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255

# The descriptor: histograms of gradient directions in 4×4 cells, for 9 overlapping windows and the whole image.
HALF = SIDE // 2  # gradients are taken at half the size
CELLS = 4
DIRECTIONS = 8
WINDOW = 22  # side of a window, of 32
OFFSETS = (0, 5, 10)
WHOLE = 9  # place of the whole image, behind the windows
LOCAL, FLAT = 5, 0.004  # sigma of the local contrast, and the contrast of smooth skin
SHRINKAGE = (0.1, 0.5)  # of the covariance of windows and whole images, towards a multiple of the identity
SPREADS = (3.0, 4.0)  # Gaussian sigma of a cell, in a window and in the whole image
# Windows of two images that show the same place when the second is shifted by (−2…2)² offsets.
SHIFTS = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
SYMMETRIES = tuple(product(range(4), (False, True)))  # quarter turns, then mirrored or not

# The search: how many candidates an image may have, and what it takes to stay one.
NEIGHBOURS, TURNED_NEIGHBOURS = 16, 1  # per image and view; turned and mirrored copies are rare
LEAST, TURNED_LEAST = 0.5, 0.55  # cosine of the descriptors, of windows or of the whole image
TOGETHER = 0.65  # that of the windows and half that of the whole image: spares two fifths of the registrations
SMALL = 64  # images, up to which every pair of neighbours is looked at: too few to learn a whitening from
# Registration: how much smaller, sigmas of `normalize`, steps, least correlation to go on.
PYRAMID = ((4, (1, 3), 8, 0.85), (2, (1, 4), 5, 0.8))
MIDDLE, LEAST_MIDDLE = (1, 5), 0.68
SHARP = (0.7, 3)
FINEST = (0.5, 2)
BLOCK = 512  # rows at once
BATCH = 256  # pairs at once: larger ones leave the cache, smaller ones leave threads waiting for each other
THREADS = min(os.cpu_count() or 1, 8)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that show the same thing."""

    first: int
    """Index of the earlier image."""
    second: int
    """Index of the later image."""
    similarity: float
    """Correlation of their details after one is laid over the other, up to 1."""


def find_pairs(thumbs: Pixels, threshold: float = THRESHOLD, groups: Sequence[str] | None = None) -> list[Pair]:
    """All pairs of near-duplicates, in three steps: neighbours by descriptor, a coarse and a fine registration.

    Args:
        thumbs: uint8 (n, 64, 64, 3), RGB, as `THUMB.apply` makes them.
        threshold: the least similarity.
        groups: for each image, for example, its lesion; pairs within one are then not looked for.

    Returns:
        Pairs in the order of (first, second).
    """
    if len(thumbs) < 2:
        return []
    grey = to_grey(thumbs)
    names = np.unique(groups, return_inverse=True)[1] if groups is not None else np.arange(len(thumbs))
    found: dict[tuple[int, int], float] = {}
    for turn, candidates in _find_candidates(grey, names):
        for (i, j), score in zip(candidates[0].tolist(), _verify(grey, candidates, turn), strict=True):
            if score >= threshold:
                key = (min(i, j), max(i, j))
                found[key] = max(found.get(key, -1.0), float(score))
    return [Pair(i, j, score) for (i, j), score in sorted(found.items())]


def find_exact(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs (first, second) of equal digests; each later one is paired with the first of its kind."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, digest in enumerate(digests):
        places[digest].append(i)
    return sorted((same[0], later) for same in places.values() for later in same[1:])


def to_grey(thumbs: Pixels) -> Array:
    """Luminance, float32 (n, 64, 64), range 0 to 1."""
    # Block by block: the whole of HAM10000 in float colours would take half a gigabyte.
    out = np.empty(thumbs.shape[:3], np.float32)
    for i in range(0, len(thumbs), BLOCK):
        out[i : i + BLOCK] = thumbs[i : i + BLOCK].astype(np.float32) @ LUMA
    return out


def describe(thumbs: Pixels) -> Array:
    """Descriptors whose products are similarities: per image one for each of 9 windows, then one for the whole image.

    Directions of gradients at unit local contrast do not see the light; the Gaussian cells forgive some pixels of
    shift and a few per cent of zoom, the windows larger shifts. Whitening takes away what most lesions have in common.

    Args:
        thumbs: uint8 (n, 64, 64, 3).

    Returns:
        float32 (10, n, 128), rows of unit length.
    """
    return Whitening.of(raw := _measure(to_grey(thumbs))).apply(raw)


@dataclass(frozen=True, slots=True)
class Whitening:
    """The mean and the inverse root of the covariance of a dataset's descriptors; windows and whole images apart."""

    means: tuple[Array, Array]
    roots: tuple[Array, Array]

    @classmethod
    def of(cls, raw: Array) -> "Whitening":
        """Learn it from `raw` descriptors, (10, n, 128)."""
        means, roots = [], []
        for part, share in zip((raw[:WHOLE], raw[WHOLE:]), SHRINKAGE, strict=True):
            rows = part.reshape(-1, part.shape[-1])
            means.append(rows.mean(0))
            values, vectors = np.linalg.eigh(np.cov(rows[:: len(part)].T.astype(np.float64), bias=True))
            roots.append((vectors / np.sqrt(values + share * values.mean() + 1e-9)).astype(np.float32))
        return cls((means[0], means[1]), (roots[0], roots[1]))

    def apply(self, raw: Array) -> Array:
        """Whitened rows of unit length, same shape."""
        out = np.empty_like(raw)
        for place in range(len(raw)):
            part = int(place == WHOLE)
            rows = (raw[place] - self.means[part]) @ self.roots[part]
            out[place] = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)
        return out


def _measure(grey: Array) -> Array:
    """Root histograms of grey images (n, 64, 64), not yet whitened, (10, n, 128)."""
    return np.concatenate([_measure_block(grey[i : i + BLOCK]) for i in range(0, len(grey), BLOCK)], 1)


def _measure_block(grey: Array) -> Array:
    halve = pool(np.arange(0.5, SIDE, 2, dtype=np.float32), SIDE, 1.5)
    small = halve @ grey @ halve.T
    gy, gx = np.gradient(small, axis=1), np.gradient(small, axis=2)
    size = np.hypot(gx, gy)
    local = pool(np.arange(HALF, dtype=np.float32), HALF, LOCAL)
    size /= local @ size @ local.T + FLAT
    angle = np.arctan2(gy, gx)
    cells = (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS
    axes = [pool(offset + cells * WINDOW - 0.5, HALF, SPREADS[0]) for offset in OFFSETS]
    whole = pool(cells * HALF - 0.5, HALF, SPREADS[1])
    pools = [*product(axes, axes), (whole, whole)]
    out = np.empty((len(pools), len(grey), DIRECTIONS, CELLS, CELLS), np.float32)
    for k in range(DIRECTIONS):
        strength = np.maximum(0, np.cos(angle - 2 * np.pi * k / DIRECTIONS)) ** 4 * size
        for place, (rows, columns) in enumerate(pools):
            out[place, :, k] = rows @ strength @ columns.T
    return np.sqrt(out.reshape(len(pools), len(grey), -1))


def _find_candidates(grey: Array, names: npt.NDArray[np.int64]) -> Iterator[tuple[tuple[int, bool], Candidates]]:
    """Each symmetry with its pairs (m, 2), and the shift of the second image for each, (m, 2), in half sides."""
    raw = _measure(grey)
    whitening = Whitening.of(raw)
    plain = whitening.apply(raw)
    yield SYMMETRIES[0], _match(plain, plain, names, SHIFTS, NEIGHBOURS)
    for turn in SYMMETRIES[1:]:
        turned = whitening.apply(_turn_histograms(raw, *turn))
        yield turn, _match(plain, turned, names, ((0, 0),), TURNED_NEIGHBOURS)


def _turn_histograms(raw: Array, quarters: int, mirrored: bool) -> Array:
    """What `_measure` would say of turned images; of the windows, only the central one stays where it is."""
    cells = raw.reshape(*raw.shape[:2], DIRECTIONS, CELLS, CELLS)
    cells = np.roll(np.rot90(cells, quarters, axes=(3, 4)), -quarters * DIRECTIONS // 4, axis=2)
    if mirrored:
        cells = cells[:, :, (DIRECTIONS // 2 - np.arange(DIRECTIONS)) % DIRECTIONS, :, ::-1]
    return cells.reshape(raw.shape)


def _match(first: Array, second: Array, names: npt.NDArray[np.int64], shifts: Sequence[Shift], most: int) -> Candidates:
    """For each image its `most` nearest by windows at any of `shifts`, and as many by the whole image."""
    views = [[_pick_windows(*shift) for shift in shifts], [(WHOLE, WHOLE)]]
    n, few = len(names), min(most, len(names) - 1)
    least = -1.0 if n <= SMALL else LEAST if first is second else TURNED_LEAST
    codes = [np.empty(0, np.int64)]
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        for view in views:
            best = first[view[0][0], rows] @ second[view[0][1]].T
            for a, b in view[1:]:
                np.maximum(best, first[a, rows] @ second[b].T, out=best)
            best[names[rows][:, None] == names] = -2
            near = np.argpartition(best, -few, axis=1)[:, -few:] if few > 1 else best.argmax(1)[:, None]
            kept = np.take_along_axis(best, near, 1) >= least
            codes.append((rows[:, None] * n + near)[kept])
    pairs = np.stack(np.divmod(np.unique(np.concatenate(codes)), n), 1)
    if first is second:
        pairs = np.unique(np.sort(pairs, 1), axis=0)
    cosines = [_multiply(first[a], second[b], pairs) for a, b in views[0]]
    if n > SMALL:
        together = np.max(cosines, 0) + _multiply(first[WHOLE], second[WHOLE], pairs) / 2
        pairs, cosines = pairs[together >= TOGETHER], [each[together >= TOGETHER] for each in cosines]
    step = (OFFSETS[1] - OFFSETS[0]) / (HALF / 2)
    return pairs, np.array(shifts, np.float32)[np.argmax(cosines, 0)][:, ::-1] * np.float32(-step)


def _multiply(first: Array, second: Array, pairs: npt.NDArray[np.int64]) -> Array:
    """The products of the rows of each pair, (m,)."""
    return np.asarray(np.einsum("md,md->m", first[pairs[:, 0]], second[pairs[:, 1]]), np.float32)


def _pick_windows(down: int, right: int) -> tuple[int, int]:
    """The most central windows of two images that show the same place when the second is shifted by this."""
    row, column = ((2 if by == 2 else 0 if by == -2 else 1) for by in (down, right))
    return row * 3 + column, (row - down) * 3 + column - right


def _turn(grey: Array, quarters: int, mirrored: bool) -> Array:
    turned = np.rot90(grey, quarters, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)


def _verify(grey: Array, candidates: Candidates, turn: tuple[int, bool]) -> Array:
    """Similarity of each pair, (m,); −1 where already the coarse details disagree."""
    small = [normalize(shrink(grey, factor), *band) for factor, band, _, _ in PYRAMID]

    def check(start: int) -> Array:
        pairs, shifts = (part[start : start + BATCH] for part in candidates)
        out = np.full(len(pairs), -1, np.float32)
        maps = np.zeros((len(pairs), 2, 3), np.float32)
        maps[:, 0, 0] = maps[:, 1, 1] = 1
        maps[:, :, 2] = shifts
        kept = np.arange(len(pairs))
        for level, (_, _, steps, least) in zip(small, PYRAMID, strict=True):
            a, b = level[pairs[kept, 0]], _turn(level[pairs[kept, 1]], *turn)
            maps = align(a, b, maps, steps)
            good = correlate(a, b, maps) >= least
            maps, kept = maps[good], kept[good]
        out[kept] = _compare(grey[pairs[kept, 0]], _turn(grey[pairs[kept, 1]], *turn), maps)
        return out

    # Threads: numpy lets go of the interpreter in nearly all of this.
    with ThreadPoolExecutor(THREADS) as pool:
        return np.concatenate([np.empty(0, np.float32), *pool.map(check, range(0, len(candidates[0]), BATCH))])


def _compare(first: Array, second: Array, maps: Array) -> Array:
    """Similarity of images (m, 64, 64) that are roughly registered, (m,); −1 if they turn out to differ."""
    out = np.full(len(first), -1, np.float32)
    a, b = normalize(first, *MIDDLE), normalize(second, *MIDDLE)
    maps = align(a, b, maps, 4, stride=2)
    kept = np.flatnonzero(correlate(a, b, maps, stride=2) >= LEAST_MIDDLE)
    first, second = first[kept], second[kept]
    maps = align(normalize(first, *SHARP), normalize(second, *SHARP), maps[kept], 4)
    out[kept] = agree(normalize(first, *FINEST), normalize(second, *FINEST), maps)
    return out
