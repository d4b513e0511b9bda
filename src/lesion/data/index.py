"""Read a dataset in HAM10000's layout: its metadata as checked rows, its images as paths."""

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesion.data.csvfile import read_csv_file
from lesion.errors import DataError, NotFoundError
from lesion.suggest import nearest
from lesion.taxonomy import DIAGNOSES

METADATA = "HAM10000_metadata.csv"
IMAGES = "HAM10000_images"
NEEDED = ("lesion_id", "image_id", "dx")
PARTS = re.compile(rf"{IMAGES}_part_\d+", re.IGNORECASE)  # as the archives of the Dataverse and of Kaggle unpack
SUFFIXES = (".jpg", ".jpeg", ".png")
OPTIONAL = ("dx_type", "age", "sex", "localization", "dataset")


@dataclass(frozen=True, slots=True)
class Row:
    """One image. The optional columns describe subgroups and provenance; they are never inputs of a model."""

    image_id: str
    lesion_id: str
    dx: str
    path: Path
    dx_type: str = ""
    age: str = ""
    sex: str = ""
    localization: str = ""
    dataset: str = ""
    rivals: tuple[Path, ...] = ()
    """Further files with this image's id, such as `a.png` beside `a.jpg`: which one is meant is not known."""


def read_index(root: Path) -> list[Row]:
    """All images of the dataset at `root`, in the order of its metadata; errors as in `scan` and `check_rows`."""
    return check_rows(scan(root)[0], root)


def scan(root: Path) -> tuple[list[Row], list[Path]]:
    """The rows as the metadata give them, unchecked, and the image files that no row names.

    An image that is listed but absent has the path `Path()`.

    Raises:
        NotFoundError: no folder, or the metadata or the image folder is missing.
        DataError: a file or folder is not readable; a column is missing or repeated.
    """
    try:
        table = _read_table(_find(root, METADATA, _is_no_folder))
        # One listing instead of ten thousand look-ups: it matters on network file systems.
        files = [path for folder in _find_images(root) for path in sorted(folder.iterdir())]
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror or error}", hint="check its permissions") from error
    present: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in SUFFIXES:
            present[path.stem].append(path)
    rows = [_row(record, present) for record in table]
    listed = {row.image_id for row in rows}
    return rows, [path for stem, paths in present.items() if stem not in listed for path in paths]


def _row(record: Mapping[str, str], present: Mapping[str, Sequence[Path]]) -> Row:
    path, *rivals = present.get(record["image_id"], (Path(),))
    known = {name: record.get(name, "") for name in (*NEEDED, *OPTIONAL)}
    return Row(**known, path=path, rivals=tuple(rivals))


def _is_no_folder(path: Path) -> bool:
    return path.exists() and not path.is_dir()


def _find_images(root: Path) -> list[Path]:
    """The image folder, or the folders of its published parts. Kaggle has each part a second time, in lower case."""
    parts: dict[str, Path] = {}
    if root.is_dir() and not (root / IMAGES).is_dir():
        for path in sorted(root.iterdir()):
            if PARTS.fullmatch(path.name) and path.is_dir():
                parts.setdefault(path.name.lower(), path)
    return list(parts.values()) or [_find(root, IMAGES, Path.is_dir)]


def _find(root: Path, name: str, fits: Callable[[Path], bool]) -> Path:
    if not root.is_dir():
        raise NotFoundError(
            f"no data folder {root}",
            hint="name it with data.root=FOLDER; `lesion data synth FOLDER` makes a synthetic dataset to try",
        )
    if fits(root / name):
        return root / name
    others = {path.name.lower(): path.name for path in sorted(root.iterdir()) if path.name != name and fits(path)}
    misnamed = others.get(nearest(name, others) or "")
    message, hint = f"{root} has no {name}", f"{METADATA} and {IMAGES}/ are expected there"
    if misnamed is not None:
        message += f", only {misnamed!r}"
        problem = _find_problem(root / misnamed)
        hint = f"{hint}; {misnamed!r} is not it: {problem}" if problem else f"rename it to {name}"
    raise NotFoundError(message, hint=hint)


def _find_problem(path: Path) -> str:
    """Why a file cannot be the metadata, or a folder not that of the images; empty when it can."""
    if path.is_dir():
        return "" if any(file.suffix.lower() in SUFFIXES for file in path.iterdir()) else "no image is in it"
    try:
        _read_table(path)
    except DataError as error:
        return error.message
    return ""


def _read_table(path: Path) -> list[dict[str, str]]:
    table = read_csv_file(path)
    if missing := [name for name in NEEDED if name not in table.names]:
        raise DataError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(table.names) or 'nothing'}",
            hint=f"name them {', '.join(NEEDED)}; `lesion data import` reads tables with other names",
        )
    if not table.rows:
        raise DataError(f"{path} has no rows", hint="one row for each image is expected")
    return table.rows


def check_rows(rows: list[Row], root: Path, processed: str | None = None) -> list[Row]:
    """The same rows, if they can be trained on.

    Args:
        rows: all that are not in quarantine.
        root: the dataset, for messages.
        processed: `data.processed`, for the command that the hint names.

    Raises DataError when an id is repeated or empty, a diagnosis is unknown, a lesion has two diagnoses, an image is
    listed but absent, or several files have one id. All concerned are counted, the first ones named.
    """
    audit = f"`lesion data audit {name_dataset(root, processed)} --fix`"
    by_lesion: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if not row.image_id or not row.lesion_id:
            raise DataError(
                f"{root / METADATA}: a row with an empty image_id or lesion_id", hint="give each row both, or delete it"
            )
        if not all(part.isalnum() for part in row.image_id.replace("-", "_").split("_") if part):
            raise DataError(
                f"{root / METADATA}: {row.image_id!r} is not an image id",
                hint=f"use letters, digits, _ and -; or leave such images out with {audit}",
            )
        by_lesion[row.lesion_id].add(row.dx)
    counts = Counter(row.image_id for row in rows)
    _refuse([row.image_id for row in rows if row.dx not in DIAGNOSES], root, "with an unknown diagnosis (dx)",
            f"write one of {', '.join(DIAGNOSES)}; or leave these images out with {audit}")  # fmt: skip
    _refuse([image for image, count in counts.items() if count > 1], root,
            "listed twice", "remove the repeated rows; if they contradict each other, leave the images out with "
            f"{audit}")  # fmt: skip
    _refuse([lesion for lesion, found in by_lesion.items() if len(found) > 1], root, "with two diagnoses",
            "correct lesion_id or dx (lesion_id names one lesion, not a patient); or leave all images of these lesions "
            f"out with {audit}", "lesion")  # fmt: skip
    _refuse([row.image_id for row in rows if row.path == Path()], root, "listed but absent",
            f"complete {IMAGES}/; or leave these rows out with {audit}")  # fmt: skip
    _refuse([row.image_id for row in rows if row.rivals], root, "with several files",
            f"keep one file of each in {IMAGES}/, the photograph; or leave these images out with {audit}")  # fmt: skip
    return rows


def name_dataset(root: Path, processed: str | Path | None) -> str:
    """The settings that name a dataset on a command line, quoted; `processed` is left out at its default place."""
    words = [f"data.root={root}"]
    if processed is not None and Path(processed) != root / "processed":
        words.append(f"data.processed={processed}")
    return shlex.join(words)


def _refuse(found: Iterable[str], root: Path, what: str, hint: str, noun: str = "image") -> None:
    names = list(dict.fromkeys(found))
    if names:
        listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise DataError(f"{root}: {len(names)} {noun}{'s' * (len(names) > 1)} {what}: {listed}", hint=hint)
