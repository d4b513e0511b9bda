"""Find images that show the same thing: byte for byte, or zoomed, shifted, turned, mirrored and lit anew."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.data.blocks import map_blocks
from lesion.data.candidates import DECIMALS, Candidates, find_candidates
from lesion.data.descriptor import measure
from lesion.data.registration import Array, Template, Tiles, normalize, pool, shrink
from lesion.preprocess import PreprocessSpec

Pixels = npt.NDArray[np.uint8]
Band = tuple[float, float]

SIDE = 64
THUMB = PreprocessSpec(SIDE, "bilinear")  # its own geometry: what is a duplicate must not depend on the training size
THRESHOLD = 0.42  # of `Pair.similarity`; docs/audit.md has the measurement
LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255

# Registration: sigmas of `normalize`, steps, and the least correlation to go on.
QUARTER = ((1.0, 3.0), 8, 0.85)  # at a quarter of the size
HALF = ((1.0, 4.0), 4, 0.8)
DETAIL, DETAIL_STEPS = (0.7, 3.0), 3  # at half the size
FINEST, LEAST_FINEST = (0.5, 2.0), 0.38  # of the tiles at half the size; nineteen in twenty candidates end here
FULL_STEPS = 8  # at full size; with more, small nevi on empty skin come to agree by chance
STRIDE = 2  # every such pixel takes part in a registration
BLOCK = 256  # images at once
BATCH, FULL_BATCH = 256, 32  # pairs at once: larger ones leave the cache, smaller ones leave threads waiting


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
    names = np.unique(groups, return_inverse=True)[1] if groups is not None else np.arange(len(thumbs))
    blocks = map_blocks(lambda start: _reduce(thumbs[start : start + BLOCK]), len(thumbs), BLOCK)
    candidates = find_candidates(np.concatenate([raw for _, raw in blocks], 1), names)
    candidates = _screen(np.concatenate([small for small, _ in blocks]), candidates)
    found: dict[tuple[int, int], float] = {}
    for (i, j), score in zip(candidates.pairs.tolist(), _compare(thumbs, candidates).tolist(), strict=True):
        if score >= threshold:
            found[i, j] = max(found.get((i, j), -1.0), score)
    return [Pair(i, j, score) for (i, j), score in sorted(found.items())]


def find_exact(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs (first, second) of equal digests; each later one is paired with the first of its kind."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, digest in enumerate(digests):
        places[digest].append(i)
    return sorted((same[0], later) for same in places.values() for later in same[1:])


def to_grey(thumbs: Pixels) -> Array:
    """Luminance, float32 (n, 64, 64), range 0 to 1."""
    return np.asarray(thumbs.astype(np.float32) @ LUMA)


def _reduce(thumbs: Pixels) -> tuple[Array, Array]:
    """Grey images of half the size, (n, 32, 32), and what `measure` says of smoother ones, (10, n, 128)."""
    # The full size is not kept: for new memory the system takes as long as all of this.
    grey = to_grey(thumbs)
    smooth = pool(np.arange(0.5, SIDE, 2), SIDE, 1.5)
    return shrink(grey), measure(np.asarray(smooth @ grey @ smooth.T, np.float32))


def _screen(small: Array, candidates: Candidates) -> Candidates:
    """Those whose details agree at half the size, with better maps."""
    quarter = shrink(small)
    levels = [(_normalize_all(quarter, QUARTER[0]), *QUARTER[1:]), (_normalize_all(small, HALF[0]), *HALF[1:])]
    detail, finest = _normalize_all(small, DETAIL), _normalize_all(small, FINEST)

    def check(start: int) -> Candidates:
        some = candidates[start : start + BATCH]
        first, rows = np.unique(some.pairs[:, 0], return_inverse=True)
        for level, steps, least in levels:
            template, places = Template.of(level[first], STRIDE), some.pairs[:, 1]
            maps = template.align(rows, level, places, some.maps, steps)
            good = template.correlate(rows, level, places, maps) >= least
            some, rows = Candidates(some.pairs[good], maps[good]), rows[good]
        places = some.pairs[:, 1]
        maps = Template.of(detail[first], STRIDE).align(rows, detail, places, some.maps, DETAIL_STEPS)
        good = Tiles.of(finest[first]).agree(rows, finest, places, maps) >= LEAST_FINEST
        return Candidates(some.pairs[good], maps[good])

    parts = map_blocks(check, len(candidates), BATCH)
    none = candidates[:0]
    return Candidates(
        np.concatenate([part.pairs for part in [none, *parts]]), np.concatenate([part.maps for part in [none, *parts]])
    )


def _compare(thumbs: Pixels, candidates: Candidates) -> npt.NDArray[np.float64]:
    """Similarity of each pair at full size, (m,), rounded."""

    def compare(start: int) -> Array:
        some = candidates[start : start + FULL_BATCH]
        (first, rows), (second, places) = (np.unique(side, return_inverse=True) for side in some.pairs.T)
        a, b = to_grey(thumbs[first]), to_grey(thumbs[second])
        template = Template.of(normalize(a, *DETAIL), STRIDE)
        maps = template.align(rows, normalize(b, *DETAIL), places, some.maps, FULL_STEPS)
        return Tiles.of(normalize(a, *FINEST)).agree(rows, normalize(b, *FINEST), places, maps)

    parts = map_blocks(compare, len(candidates), FULL_BATCH)
    return np.concatenate([np.empty(0, np.float32), *parts]).astype(np.float64).round(DECIMALS)


def _normalize_all(images: Array, band: Band) -> Array:
    out = np.empty_like(images)

    def fill(start: int) -> None:
        out[start : start + BLOCK] = normalize(images[start : start + BLOCK], *band)

    map_blocks(fill, len(images), BLOCK)
    return out
