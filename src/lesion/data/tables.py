"""Turn a publisher's tables into HAM10000's metadata, whole or for some of the images."""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from lesion.data.csvfile import MAX_TABLE_BYTES
from lesion.data.index import NEEDED, OPTIONAL
from lesion.errors import ConfigError, DataError
from lesion.files import read_regular, sha256
from lesion.taxonomy import DIAGNOSES

Record = dict[str, str]
IMAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
LEAST = 3  # lesions of each diagnosis: one for each split
# The archive's words for how a diagnosis was found, and HAM10000's.
CONFIRMED = {
    "histopathology": "histo",
    "serial imaging showing no change": "follow_up",
    "single image expert consensus": "consensus",
    "confocal microscopy with consensus dermoscopy": "confocal",
}


def read_metadata(paths: Iterable[Path]) -> list[Record]:
    """The rows of HAM10000's metadata, from a table of that layout or from ISIC's labels and lesion groups.

    Without groups each image is a lesion of its own. DataError when the tables are neither, or contradict each other,
    or an image id is none: it will be the name of a file.
    """
    rows = _convert([(path, _read(path)) for path in paths])
    for row in rows:
        if not IMAGE_ID.fullmatch(row["image_id"]):
            raise DataError(f"the downloaded metadata name an image {row['image_id']!r}, which is no id")
    return rows


def _convert(tables: list[tuple[Path, list[Record]]]) -> list[Record]:
    for _, rows in tables:
        if rows and set(NEEDED) <= set(rows[0]):
            return rows
    words = {dx.upper() for dx in DIAGNOSES}
    labels = [rows for _, rows in tables if rows and {"image", *words} <= set(rows[0])]
    groups = [rows for _, rows in tables if rows and {"image", "lesion_id"} <= set(rows[0])]
    if not labels:
        names = ", ".join(path.name for path, _ in tables) or "no table"
        raise DataError(f"{names}: no diagnoses found", hint="delete downloads/ in the dataset and download again")
    lesions = {row["image"]: row for row in groups[0]} if groups else {}
    return [_join(row, lesions.get(row["image"]), bool(groups)) for row in labels[0]]


def _join(label: Record, group: Record | None, grouped: bool) -> Record:
    image = label["image"]
    marked = [dx for dx in DIAGNOSES if label[dx.upper()] in ("1", "1.0")]
    if len(marked) != 1 or (grouped and group is None):
        what = "no lesion" if len(marked) == 1 else f"{len(marked)} diagnoses, one expected"
        raise DataError(f"{image} has {what} in the downloaded tables")
    group = group or {"lesion_id": image}
    found = group.get("diagnosis_confirm_type", "")
    known = {"lesion_id": group["lesion_id"], "image_id": image, "dx": marked[0], "dx_type": CONFIRMED.get(found, "")}
    return dict.fromkeys((*NEEDED, *OPTIONAL), "") | known


def _read(path: Path) -> list[Record]:
    try:
        text = io.StringIO(read_regular(path, MAX_TABLE_BYTES).decode("utf-8-sig"), newline="")
        return [dict(row) for row in csv.DictReader(text, strict=True) if None not in row.values()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", hint="delete it and download again") from error


def format_metadata(rows: Sequence[Record], paths: Iterable[Path]) -> str:
    """The rows as CSV with their own columns, to the byte as published if that is all of one of the tables `paths`."""
    for path in paths:
        if _read(path) == rows:
            return read_regular(path, MAX_TABLE_BYTES).decode()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def choose_subset(rows: Sequence[Record], images: int) -> list[Record]:
    """Rows of `images` images, in their order: whole lesions, diagnoses in about the shares of the whole.

    Each diagnosis gets at least three lesions, so that the subset can be split. Within a diagnosis, lesions come in the
    order of a hash of their id: the same on every machine. ConfigError when so many or so few cannot be had.
    """
    lesions: dict[str, dict[str, int]] = defaultdict(Counter)
    for row in rows:
        lesions[row["dx"]][row["lesion_id"]] += 1
    ranked = {dx: sorted(sizes, key=lambda name: sha256(f"subset:{name}".encode())) for dx, sizes in lesions.items()}
    chosen: set[str] = set()
    left, lacking = images, {dx: images * sum(sizes.values()) / len(rows) for dx, sizes in lesions.items()}
    for dx, names in ranked.items():
        for name in sorted(names, key=lesions[dx].__getitem__)[:LEAST]:  # small ones leave room to choose
            chosen.add(name)
            names.remove(name)
            left -= lesions[dx][name]
            lacking[dx] -= lesions[dx][name]
    while left > 0 and (found := _find_next(ranked, lesions, lacking, left)):
        dx, name = found
        chosen.add(name)
        ranked[dx].remove(name)
        left -= lesions[dx][name]
        lacking[dx] -= lesions[dx][name]
    if left:
        raise ConfigError(
            f"a subset of {images} images is not possible: {images - left} are the nearest of {len(rows)}",
            hint=f"at least {LEAST} lesions of each diagnosis are taken, and never a part of a lesion",
        )
    return [row for row in rows if row["lesion_id"] in chosen]


def _find_next(
    ranked: dict[str, list[str]], lesions: dict[str, dict[str, int]], lacking: dict[str, float], left: int
) -> tuple[str, str] | None:
    """The first lesion that fits of the diagnosis that lacks most."""
    for dx in sorted(ranked, key=lambda dx: -lacking[dx]):
        for name in ranked[dx]:
            if lesions[dx][name] <= left:
                return dx, name
    return None


def drop_absent(rows: Sequence[Record], present: Collection[str]) -> list[Record]:
    """The rows whose image id is in `present`; DataError when more than one in a hundred is not."""
    kept = [row for row in rows if row["image_id"] in present]
    if len(rows) - len(kept) > len(rows) / 100:
        raise DataError(
            f"{len(rows) - len(kept)} of {len(rows)} listed images did not come with the archives",
            hint="download again, or choose another --source",
        )
    return kept
