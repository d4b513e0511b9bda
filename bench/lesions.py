"""How many photographs of one lesion the near-duplicate search would find if nobody had told which they are."""

from collections import defaultdict
from itertools import combinations
from pathlib import Path

from lesion.data.duplicates import THUMB, find_pairs
from lesion.data.index import read_index
from lesion.data.pixels import decode_rows


def measure(root: Path) -> list[str]:
    """Count the pairs of images of one lesion in the dataset at `root`, and those of them that the search finds."""
    rows = read_index(root)
    members: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        members[row.lesion_id].append(i)
    pairs = {pair for images in members.values() for pair in combinations(images, 2)}
    found = {(pair.first, pair.second) for pair in find_pairs(decode_rows(rows, THUMB))} & pairs
    return [f"pairs of images of one lesion: {len(pairs)}, found: {len(found)} ({len(found) / len(pairs):.0%})"]
