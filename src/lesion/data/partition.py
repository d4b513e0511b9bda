"""How lesions are dealt out: groups that must stay together, shares that every diagnosis gets."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from lesion.data.index import Row
from lesion.errors import DataError
from lesion.files import sha256

SPLITS = ("train", "val", "test")
CALIBRATION = "calibration"


def name_parts(val: float, test: float, folds: int = 0, calibration: float = 0.0) -> dict[str, float]:
    """Part → share of the images: train, val and test; or test, calibration if any, and equal folds of the rest."""
    if not folds:
        return {"train": 1 - val - test, "val": val, "test": test}
    apart = {"test": test} | ({CALIBRATION: calibration} if calibration else {})
    return apart | {f"fold{i}": (1 - test - calibration) / folds for i in range(folds)}


def to_split(part: str, fold: int | None) -> str:
    """The split that a part is when the fold number `fold` validates; with None, the calibration part does.

    While a fold validates, the calibration part is in no split: nothing of its images may reach a member.
    """
    if part == CALIBRATION:
        return "val" if fold is None else CALIBRATION
    if not part.startswith("fold"):
        return part
    return "val" if part == f"fold{fold}" else "train"


def group_lesions(rows: Sequence[Row], pairs: Iterable[tuple[int, int]]) -> dict[str, str]:
    """Lesion id → the smallest lesion id of its group, joining the lesions of each pair of row indices."""
    leader = {row.lesion_id: row.lesion_id for row in rows}

    def find(lesion: str) -> str:
        while leader[lesion] != lesion:
            leader[lesion] = leader[leader[lesion]]
            lesion = leader[lesion]
        return lesion

    for first, second in pairs:
        low, high = sorted((find(rows[first].lesion_id), find(rows[second].lesion_id)))
        leader[high] = low
    return {lesion: find(lesion) for lesion in leader}


def draw_split(
    rows: Sequence[Row],
    val: float,
    test: float,
    seed: int,
    folds: int = 0,
    groups: Mapping[str, str] | None = None,
    calibration: float = 0.0,
) -> dict[str, str]:
    """Assign each image to a part: whole groups of lesions, each diagnosis in the same shares.

    Within a diagnosis, groups come in the order of a hash of (seed, group). The first ones go one to each part, every
    later one to the part that lacks most images of its share, so no part ends more than one group above its share.
    When a part that is held out would then have more than half of the images of a diagnosis, and more than training,
    although its share is no larger, groups come by their size instead, so that training gets the largest one: most
    images of a rare diagnosis can be of one lesion. No random generator: the result depends on no library, version or
    row order.

    Args:
        rows: the images.
        val: share of the images for validation; unused with folds.
        test: share of the images for the test.
        seed: which of the possible splits.
        folds: 0 for train, val and test; otherwise how many folds share what is not test.
        groups: lesion id → group, as from `group_lesions`; each lesion its own when None.
        calibration: share of the images that no fold gets; 0 without folds.

    Returns:
        image id → part, a key of `name_parts`.
    """
    shares = name_parts(val, test, folds, calibration)
    assigned = {}
    for dx, images in _by_diagnosis(rows, groups or {}).items():
        if len(images) < len(shares):
            raise DataError(
                f"{len(images)} lesion{'s' * (len(images) > 1)} with diagnosis {dx}, at least {len(shares)} expected: "
                "each split needs one",
                hint="add lesions of this diagnosis, or remove its rows from the metadata",
            )
        ranked = sorted(images, key=lambda group: sha256(f"{seed}:{group}".encode()))
        sizes = {group: len(images[group]) for group in ranked}
        dealt = _deal(sizes, shares)
        if _is_upside_down(dealt, sizes, shares):
            by_size = {group: sizes[group] for group in sorted(ranked, key=sizes.__getitem__, reverse=True)}
            dealt = _deal(by_size, dict(sorted(shares.items(), key=_is_held_out)))
        for group, name in dealt.items():
            assigned.update(dict.fromkeys(images[group], name))
    return assigned


def _deal(sizes: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, str]:
    """Group → part: the first groups one to each part, the others to the part that lacks most images."""
    total = sum(sizes.values())
    lacking = {name: share * total for name, share in shares.items()}
    dealt = {}
    for group, first in zip(sizes, [*shares, *[""] * len(sizes)], strict=False):
        name = first or max(lacking, key=lacking.__getitem__)
        lacking[name] -= sizes[group]
        dealt[group] = name
    return dealt


def _is_held_out(share: tuple[str, float]) -> bool:
    return share[0] != "train" and not share[0].startswith("fold")


def _is_upside_down(dealt: Mapping[str, str], sizes: Mapping[str, int], shares: Mapping[str, float]) -> bool:
    """Whether a held-out part has most of the images, and more than training, although its share is no larger."""
    held = {name: share for name, share in shares.items() if _is_held_out((name, share))}
    images = {name: sum(sizes[group] for group, part in dealt.items() if part == name) for name in shares}
    training = sum(images[name] for name in shares if name not in held)
    share = sum(each for name, each in shares.items() if name not in held)
    half = sum(sizes.values()) / 2
    return any(images[name] > max(training, half) and each <= share for name, each in held.items())


def _by_diagnosis(rows: Sequence[Row], groups: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Diagnosis → group → image ids; a group of several diagnoses counts under its rarest one."""
    counts: dict[str, int] = defaultdict(int)
    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        counts[row.dx] += 1
        members[groups.get(row.lesion_id, row.lesion_id)].append(row)
    strata: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for group, images in members.items():
        dx = min({row.dx for row in images}, key=lambda dx: (counts[dx], dx))
        strata[dx][group] = [row.image_id for row in images]
    return strata


def subsample(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """A share of the lesions of each diagnosis (at least one each), smaller shares nested in larger ones."""
    lesions: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        lesions[row.dx].add(row.lesion_id)
    kept = set()
    for ids in lesions.values():
        ranked = sorted(ids, key=lambda lesion: sha256(f"subsample:{seed}:{lesion}".encode()))
        kept.update(ranked[: max(1, round(share * len(ranked)))])
    return [row for row in rows if row.lesion_id in kept]
