"""Read a dataset in HAM10000's layout: its metadata as checked rows, its images as paths."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lesion.errors import DataError, NotFoundError
from lesion.files import read_regular
from lesion.suggest import nearest
from lesion.taxonomy import DIAGNOSES

METADATA = "HAM10000_metadata.csv"
IMAGES = "HAM10000_images"
NEEDED = ("lesion_id", "image_id", "dx")
MAX_TABLE_BYTES = 256 * 2**20  # a million images; a larger file is something else
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
        files = sorted(_find(root, IMAGES, Path.is_dir).iterdir())
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror or error}", hint="check its permissions") from error
    present = {path.stem: path for path in files if path.suffix.lower() in (".jpg", ".jpeg", ".png")}
    rows = [_row(record, present) for record in table]
    listed = {row.image_id for row in rows}
    return rows, [path for stem, path in present.items() if stem not in listed]


def _row(record: Mapping[str, str], present: Mapping[str, Path]) -> Row:
    image = record["image_id"]
    known = {name: record.get(name, "") for name in (*NEEDED, *OPTIONAL)}
    return Row(**known, path=present.get(image, Path()))


def _is_no_folder(path: Path) -> bool:
    return path.exists() and not path.is_dir()


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
    raise NotFoundError(
        f"{root} has no {name}" + (f", only {misnamed!r}" if misnamed else ""),
        hint=f"rename it to {name}" if misnamed else f"{METADATA} and {IMAGES}/ are expected there",
    )


def _read_table(path: Path) -> list[dict[str, str]]:
    try:
        text = read_regular(path, MAX_TABLE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: {error}", hint="save it as CSV in UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint="a CSV file is expected") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        if missing := [name for name in NEEDED if name not in names]:
            raise DataError(
                f"{path}: no column {', '.join(missing)}; found {', '.join(names) or 'nothing'}",
                hint=f"the columns {', '.join(NEEDED)} are needed, separated by commas",
            )
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{path}: column {', '.join(repeated)} repeated", hint="keep one column of each name")
        table = []
        for record in reader:
            if None in record or None in record.values():
                raise DataError(f"{path}, line {reader.line_num}: {len(names)} columns expected")
            table.append({name: value.strip() for name, value in zip(names, record.values(), strict=True)})
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}", hint="save it as CSV in UTF-8") from error
    if not table:
        raise DataError(f"{path} has no rows")
    return table


def check_rows(rows: list[Row], root: Path) -> list[Row]:
    """The same rows, if they can be trained on.

    Raises DataError when an id is repeated or empty, a diagnosis is unknown, a lesion has two diagnoses, or an image is
    listed but absent. All concerned are counted, the first ones named.
    """
    first: dict[str, Row] = {}
    for row in rows:
        if not row.image_id or not row.lesion_id:
            raise DataError(f"{root / METADATA}: a row with an empty image_id or lesion_id")
        if not all(part.isalnum() for part in row.image_id.replace("-", "_").split("_") if part):
            raise DataError(f"{root / METADATA}: {row.image_id!r} is not an image id", hint="letters, digits, _ and -")
    _refuse([row.image_id for row in rows if row.dx not in DIAGNOSES], root, "with an unknown diagnosis (dx)",
            f"dx is one of {', '.join(DIAGNOSES)}")  # fmt: skip
    seen: set[str] = set()
    _refuse([row.image_id for row in rows if row.image_id in seen or seen.add(row.image_id)], root,  # type: ignore[func-returns-value]
            "listed twice", "remove the repeated rows")  # fmt: skip
    _refuse([row.lesion_id for row in rows if first.setdefault(row.lesion_id, row).dx != row.dx], root,
            "with two diagnoses", "give all images of a lesion the same dx", "lesion")  # fmt: skip
    _refuse([row.image_id for row in rows if row.path == Path()], root, "listed but absent",
            f"complete {IMAGES}/, or remove the rows")  # fmt: skip
    return rows


def _refuse(found: Iterable[str], root: Path, what: str, hint: str, noun: str = "image") -> None:
    names = list(dict.fromkeys(found))
    if names:
        listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise DataError(f"{root}: {len(names)} {noun}{'s' * (len(names) > 1)} {what}: {listed}", hint=hint)
