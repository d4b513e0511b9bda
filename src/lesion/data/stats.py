"""Count what is in a dataset, as its metadata tell it and without judging them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from lesion.config.schema import DataConfig
from lesion.data.index import OPTIONAL, Row, scan
from lesion.data.partition import to_split
from lesion.data.split import processed_folder, read_parts
from lesion.errors import DataError
from lesion.files import ensure_folder, write_atomic
from lesion.records import StatsReport
from lesion.taxonomy import BENIGN, DIAGNOSES, MALIGNANT, Taxonomy

UNKNOWN = "unknown"
BAND = 10  # years
LAST_BAND = 80
PAGE = "stats.html"
SHEET = "contact-sheet.png"

Group = dict[str, dict[str, int]]  # value → {"images", "lesions", "malignant"}


def describe_dataset(config: DataConfig, out: Path | None = None) -> StatsReport:
    """Count the dataset by diagnosis, malignancy, age, sex, site, confirmation and split; draw it into `out`, if given.

    Raises:
        NotFoundError, DataError: the metadata cannot be read; odd values in them are counted, not refused.
        OutputError: `out` cannot be written to.
    """
    root = Path(config.root)
    rows = scan(root)[0]
    splits = read_splits(processed_folder(config), config.val_fold)
    report = count_rows(rows, root, Taxonomy.of("diagnosis", config.malignant), splits, out)
    if out is not None:
        _draw(report, rows, out)
    return report


def count_rows(
    rows: Sequence[Row], root: Path, taxonomy: Taxonomy, splits: Mapping[str, str], out: Path | None = None
) -> StatsReport:
    """The counts of `rows`; `splits` is image id → split, empty when none was drawn."""
    values: dict[str, list[str]] = {
        "diagnosis": [row.dx or UNKNOWN for row in rows],
        "malignancy": [_to_class(row.dx, taxonomy) for row in rows],
        "age": [to_band(row.age) for row in rows],
        "sex": [row.sex or UNKNOWN for row in rows],
        "site": [row.localization or UNKNOWN for row in rows],
        "confirmation": [row.dx_type or UNKNOWN for row in rows],
    }
    if splits:
        values["split"] = [splits.get(row.image_id, "none") for row in rows]
    groups = {name: _count(rows, found, taxonomy) for name, found in values.items()}
    sizes = Counter(Counter(row.lesion_id for row in rows).values())
    columns = ("dx", *(name for name in OPTIONAL if name != "dataset"))  # that one says whence, not what
    missing = {name: sum(getattr(row, name).lower() in ("", UNKNOWN) for row in rows) for name in columns}
    missing["image file"] = sum(row.path == Path() for row in rows)
    return StatsReport(
        root=str(root),
        images=len(rows),
        lesions=len({row.lesion_id for row in rows}),
        malignant=sum(taxonomy.is_malignant(row.dx) for row in rows),
        groups=groups,
        images_per_lesion={str(size): sizes[size] for size in sorted(sizes)},
        missing=missing,
        written=[str(out / name) for name in (PAGE, SHEET)] if out else [],
    )


def to_band(age: str) -> str:
    """The decade of an age in years, "40–49"; "80+" from 80, "unknown" when it is no age."""
    try:
        years = int(float(age))
    except (ValueError, OverflowError):
        return UNKNOWN
    if years < 0:
        return UNKNOWN
    low = years // BAND * BAND
    return f"{LAST_BAND}+" if low >= LAST_BAND else f"{low}–{low + BAND - 1}"


def read_splits(folder: Path, fold: int | None = 0) -> dict[str, str]:
    """Image id → split as written in `folder`; empty when there is none or it cannot be read."""
    try:
        return {image: to_split(part, fold) for image, part in read_parts(folder).items()}
    except DataError:
        return {}


def _to_class(dx: str, taxonomy: Taxonomy) -> str:
    if dx not in DIAGNOSES:
        return UNKNOWN
    return MALIGNANT if taxonomy.is_malignant(dx) else BENIGN


def _count(rows: Sequence[Row], values: Sequence[str], taxonomy: Taxonomy) -> Group:
    images, malignant = Counter(values), Counter[str]()
    lesions: dict[str, set[str]] = defaultdict(set)
    for row, value in zip(rows, values, strict=True):
        lesions[value].add(row.lesion_id)
        malignant[value] += taxonomy.is_malignant(row.dx)
    ordered = sorted(images, key=lambda value: _rank(value, images[value]))
    return {
        value: {"images": images[value], "lesions": len(lesions[value]), "malignant": malignant[value]}
        for value in ordered
    }


def _rank(value: str, images: int) -> tuple[bool, int, str]:
    """Bands by age and splits in their order, all else by size; what is unknown comes last."""
    splits = ("train", "val", "test", "none")
    low = value.partition("–")[0].rstrip("+")
    place = int(low) if low.isdecimal() else splits.index(value) if value in splits else -images
    return value == UNKNOWN, place, value


def _draw(report: StatsReport, rows: Sequence[Row], out: Path) -> None:
    from lesion.data.contact_sheet import draw_contact_sheet, encode
    from lesion.data.stats_page import draw_page

    ensure_folder(out)
    sheet = draw_contact_sheet(rows)
    write_atomic(out / SHEET, encode(sheet, "PNG"))
    write_atomic(out / PAGE, draw_page(report, encode(sheet, "JPEG")))
