"""Pick the pairs of images that are worth laying over each other."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.data.blocks import map_blocks
from lesion.data.descriptor import CENTRAL, OFFSETS, SIDE, SYMMETRIES, WHOLE, Whitening, turn
from lesion.data.registration import Array, Rows

WHOLE_WEIGHT = 0.35  # of the product of whole images; that of the windows counts once
LEAST, TURNED_LEAST = 0.6, 0.67  # sum of the two products
NEIGHBOURS, TURNED_NEIGHBOURS = 10, 1  # per image and symmetry; turned and mirrored copies are rare
SMALL = 64  # images, up to which every pair of neighbours is looked at: too few to learn a whitening from
ROWS, COLUMNS = 256, 512  # images at once: their products stay in the cache
TILE = (32, 32)  # images in one product of matrices
BLOCK = 1024  # pairs at once
DECIMALS = 4  # of a sum that decides: the last bits depend on the processor
# The linear maps of `SYMMETRIES`: where the turned image has (x, y), the image itself has TURNS @ (x, y).
TURNS = np.array(
    [
        np.linalg.matrix_power([[0, -1], [1, 0]], quarters) @ np.diag([-1 if mirrored else 1, 1])
        for quarters, mirrored in SYMMETRIES
    ],
    np.float32,
)
Found = tuple[Rows, Rows, Rows, Array]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs that may show the same thing, and how the second image of each might lie over the first."""

    pairs: Rows
    """(m, 2), the earlier image first; in order, and with one row for each symmetry."""
    maps: Array
    """(m, 2, 3), as `Template` takes them."""

    def __getitem__(self, some: slice | Rows | npt.NDArray[np.bool_]) -> "Candidates":
        """Some of them."""
        return Candidates(self.pairs[some], self.maps[some])

    def __len__(self) -> int:
        """How many there are."""
        return len(self.pairs)


def find_candidates(raw: Array, names: Rows) -> Candidates:
    """For each image its nearest ones as they are, and the nearest one of each turn and mirroring.

    Args:
        raw: what `measure` says of the images, (10, n, 128).
        names: the group of each image, (n,); pairs within one are left out.
    """
    whitening = Whitening.of(raw)
    places = [whitening.apply(part, place) for place, part in enumerate(raw)]
    scale = np.float32(WHOLE_WEIGHT**0.5)
    turned = []
    for symmetry in SYMMETRIES:
        ends = turn(raw[[CENTRAL, WHOLE]], *symmetry)
        turned.append(np.hstack([whitening.apply(ends[0], CENTRAL), scale * whitening.apply(ends[1], WHOLE)]))
    found = [np.concatenate(part) for part in zip(*_compare_all(places, turned, names), strict=True)]
    order = np.lexsort((found[2], found[1], found[0]))
    first, second, views, scores = (part[order] for part in found)
    kept = _pick_nearest(first, second, views, scores)
    first, second, views = first[kept], second[kept], views[kept]
    maps = np.concatenate([TURNS[views], np.zeros((len(views), 2, 1), np.float32)], 2)
    plain = np.flatnonzero(views == 0)
    maps[plain, :, 2] = _find_shifts(places, first[plain], second[plain])
    return Candidates(np.stack([first, second], 1), maps)


def _compare_all(places: list[Array], turned: list[Array], names: Rows) -> list[Found]:
    """First and second images, symmetries and scores of all pairs that are alike enough."""
    n = len(names)
    least = [-np.inf] * len(SYMMETRIES) if n <= SMALL else [LEAST, *[TURNED_LEAST] * (len(SYMMETRIES) - 1)]
    filling = -n % COLUMNS
    places, turned = ([np.pad(rows, ((0, filling), (0, 0))) for rows in part] for part in (places, turned))
    whole = places[WHOLE] * np.float32(WHOLE_WEIGHT)
    indices, names = np.arange(n + filling), np.pad(names, (0, filling))

    def compare(start: int) -> list[Found]:
        found = []
        rows = slice(start, start + ROWS)
        best, other = np.empty((2, ROWS // TILE[0], COLUMNS // TILE[1], *TILE), np.float32)
        for j in range(start // COLUMNS * COLUMNS, n, COLUMNS):
            columns = slice(j, j + COLUMNS)
            i, k = indices[rows].reshape(-1, 1, TILE[0], 1), indices[columns].reshape(-1, 1, TILE[1])
            allowed = (i < k) & (k < n) & (names[i] != names[k])
            for view in range(len(SYMMETRIES)):
                if view:
                    _multiply(turned[0][rows], turned[view][columns], best)
                else:
                    best.fill(-1)
                    for window in places[:WHOLE]:
                        np.maximum(best, _multiply(places[CENTRAL][rows], window[columns], other), out=best)
                    best += _multiply(whole[rows], places[WHOLE][columns], other)
                near = np.flatnonzero((best >= least[view]) & allowed)
                down, right, row, column = np.unravel_index(near, best.shape)
                first, second = start + down * TILE[0] + row, j + right * TILE[1] + column
                found.append((first, second, np.full(len(near), view), best.reshape(-1)[near].round(DECIMALS)))
        return found

    return [part for parts in map_blocks(compare, n, ROWS) for part in parts]


def _multiply(a: Array, b: Array, out: Array) -> Array:
    """The products of all rows of `a` with all of `b`, tile by tile: (rows / 32, columns / 32, 32, 32)."""
    # OpenBLAS computes products of up to 32×32×256 in the thread that asks. The threads it starts for larger ones wait
    # for each other, many times longer than they work when other programs want the processor too.
    left, right = a.reshape(-1, 1, TILE[0], a.shape[1]), b.reshape(1, -1, TILE[1], b.shape[1])
    return np.matmul(left, right.transpose(0, 1, 3, 2), out=out)


def _pick_nearest(first: Rows, second: Rows, views: Rows, scores: Array) -> npt.NDArray[np.bool_]:
    """Which pairs are among the nearest of either image, under their symmetry."""
    owners = np.concatenate([first, second]) * len(SYMMETRIES) + np.tile(views, 2)
    order = np.lexsort((-np.tile(scores, 2), owners))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(owners[order], owners[order])
    return np.asarray(place.reshape(2, -1).min(0) < np.where(views > 0, TURNED_NEIGHBOURS, NEIGHBOURS))


def _find_shifts(places: list[Array], first: Rows, second: Rows) -> Array:
    """Where the window of the second image lies that looks most like the central one of the first.

    Returns:
        float32 (m, 2), to the right and down from the centre, in half sides.
    """
    best = np.empty(len(first), np.int64)
    for i in range(0, len(first), BLOCK):
        central = places[CENTRAL][first[i : i + BLOCK]]
        others = [window[second[i : i + BLOCK]] for window in places[:WHOLE]]
        best[i : i + BLOCK] = np.argmax([np.einsum("md,md->m", central, other) for other in others], 0)
    step = (OFFSETS[1] - OFFSETS[0]) / (SIDE / 2)
    return np.stack([best % 3 - 1, best // 3 - 1], 1).astype(np.float32) * np.float32(step)
