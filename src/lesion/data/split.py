"""Which image belongs to train, val or test: drawn once by lesion, written down, and read by everyone."""

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lesion.config.schema import DataConfig
from lesion.data.cache import PixelCache, open_cache
from lesion.data.csvfile import MAX_TABLE_BYTES
from lesion.data.duplicates import THUMB, find_exact, find_pairs
from lesion.data.index import Row, check_rows, name_dataset, scan
from lesion.data.partition import SPLITS, draw_split, group_lesions, to_split
from lesion.data.pixels import decode_rows
from lesion.data.quarantine import read_quarantine
from lesion.errors import DataError, ImageError
from lesion.files import ensure_folder, hold_lock, is_writable, read_regular, sha256, write_atomic
from lesion.preprocess import PreprocessSpec
from lesion.progress import Progress, Silent
from lesion.records import DataReport

log = logging.getLogger(__name__)
MAX_FACTS_BYTES = 2**20  # of splits.json, which has some hundreds
LOCK = ".splits.lock"
WRITABLE = "name a folder you may write to with data.processed=FOLDER"
WAIT_S = 600.0  # for another process that draws; ten thousand images take it a minute or two
OLDER = {"calibration": 0.0}  # terms of splits that were written before there was a choice


@dataclass(frozen=True, slots=True)
class Dataset:
    """An indexed dataset with its split."""

    root: Path
    processed: Path
    members: dict[str, list[Row]]
    """split → rows, in the order of the metadata."""
    fingerprint: str
    """12 hex digits of the split: same metadata, seed and shares give the same on every machine."""

    @property
    def name(self) -> str:
        """The dataset's name for model cards: "synthetic", "HAM10000" by its lesion ids, or "HAM10000 layout"."""
        rows = [row for members in self.members.values() for row in members]
        if {row.dataset for row in rows} == {"synthetic"}:
            return "synthetic"
        return "HAM10000" if all(row.lesion_id.startswith("HAM_") for row in rows) else "HAM10000 layout"

    def open_cache(self, spec: PreprocessSpec, workers: int, progress: Progress | None = None) -> PixelCache:
        """The decoded pixels of all images at one geometry; see `cache.open_cache`."""
        rows = sorted((row for rows in self.members.values() for row in rows), key=lambda row: row.image_id)
        with _naming_audit(self.root, self.processed):
            return open_cache(rows, spec, self.processed / "cache", workers, progress, _own_folder(self.root) / "cache")

    def require_split(self, trained: object, model: Path) -> None:
        """DataError unless `model` was trained on this very split: its training lesions could be in another's test."""
        if trained != self.fingerprint:
            raise DataError(
                f"{model} was trained on split {trained}, but the data have split {self.fingerprint}: test lesions "
                "could have been trained on",
                hint="name the data it was trained on with data.root=FOLDER and data.processed=FOLDER",
            )

    def report(self) -> DataReport:
        """Counts per split and diagnosis."""
        splits = {name: _count(rows) for name, rows in self.members.items()}
        return DataReport(
            root=str(self.root),
            processed=str(self.processed),
            images=sum(count["images"] for count in splits.values()),
            lesions=sum(count["lesions"] for count in splits.values()),
            fingerprint=self.fingerprint,
            splits=splits,
        )


def open_dataset(config: DataConfig, progress: Progress | None = None) -> Dataset:
    """Index the dataset and read its split, drawing and writing it when there is none yet.

    Images in quarantine are left out of either. Drawing looks at every image once, to keep near-duplicates together.
    Of several processes one draws; the others wait up to 10 min for it, then read its split.

    Raises DataError when the written split does not fit the metadata, the seed or the shares: a split is never
    silently drawn anew. Further errors as in `read_index`; OutputError when the split cannot be written.
    """
    root, folder = Path(config.root), processed_folder(config)
    listed = scan(root)[0]
    quarantined = read_quarantine(folder)
    if config.processed is None:  # of a dataset that is read-only now; the split may lie elsewhere
        quarantined = read_quarantine(root / "processed") | quarantined
    rows = check_rows([row for row in listed if row.image_id not in quarantined], root, config.processed)
    terms = _terms(listed, config)
    if not _is_drawn(folder):
        ensure_folder(folder, hint=WRITABLE)
        with hold_lock(folder / LOCK, f"draw the split in {folder}", WAIT_S):
            if not _is_drawn(folder):  # another process may have drawn it meanwhile
                groups = group_lesions(rows, _find_near_duplicates(rows, config, progress or Silent()))
                shares = (config.val, config.test, config.split_seed, config.folds)
                parts = draw_split(rows, *shares, groups=groups, calibration=config.calibration)
                _write(folder, rows, parts, groups, terms)
    parts = _read(folder, rows, terms)
    splits = {image: to_split(part, config.val_fold) for image, part in parts.items()}
    members = {name: [row for row in rows if splits[row.image_id] == name] for name in SPLITS}
    return Dataset(root, folder, members, _fingerprint(splits))


def _is_drawn(folder: Path) -> bool:
    return (folder / "splits.json").exists()  # it is written last


def _find_near_duplicates(rows: Sequence[Row], config: DataConfig, progress: Progress) -> list[tuple[int, int]]:
    if not config.near_duplicates:
        return []
    with _naming_audit(Path(config.root), config.processed):
        thumbs = decode_rows(rows, THUMB, config.workers, progress, "look for near-duplicates")
    pairs = {(pair.first, pair.second) for pair in find_pairs(thumbs, groups=[row.lesion_id for row in rows])}
    # The search compares details, and flat pictures have none.
    same = find_exact([sha256(thumb.tobytes()) for thumb in thumbs])
    pairs.update((i, j) for i, j in same if rows[i].lesion_id != rows[j].lesion_id)
    if pairs:
        log.info("%d pairs of near-duplicates of different lesions: kept in one split each", len(pairs))
    return sorted(pairs)


@contextmanager
def _naming_audit(root: Path, processed: str | Path | None) -> Iterator[None]:
    """Add to the hint of an image that cannot be used how to leave out all such images."""
    try:
        yield
    except ImageError as error:
        way = f"leave out all such images: `lesion data audit {name_dataset(root, processed)} --fix`"
        raise type(error)(error.message, hint=f"{error.hint}; or {way}" if error.hint else way) from error


def processed_folder(config: DataConfig) -> Path:
    """Where the split lies: as configured, else inside the dataset, else (read-only data) in ./processed.

    A split inside a read-only dataset is read there; `Dataset.open_cache` then keeps decoded pixels in ./processed.
    """
    root = Path(config.root)
    if config.processed is not None:
        return Path(config.processed)
    inside = root / "processed"
    if (inside / "splits.json").is_file() or is_writable(root):
        return inside
    return _own_folder(root)


def _own_folder(root: Path) -> Path:
    """Where files about a dataset go that cannot be written into it."""
    return Path("processed") / root.resolve().name


def read_parts(folder: Path) -> dict[str, str]:
    """Image id → part as written in splits.csv, unjudged; DataError when it is missing or not readable."""
    path = folder / "splits.csv"
    try:
        text = io.StringIO(read_regular(path, MAX_TABLE_BYTES).decode(), newline="")
        parts = {record["image_id"]: record["split"] for record in csv.DictReader(text, strict=True)}
        if None in parts.values():
            raise ValueError("a row is cut off")
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"the split in {path} is not readable: {error!r}", hint=_way_out(folder)) from error
    return parts


def _way_out(folder: Path) -> str:
    return f"set data.processed to another folder, or delete {folder / 'splits.json'} to draw the split anew"


def _write(
    folder: Path, rows: Sequence[Row], parts: Mapping[str, str], groups: Mapping[str, str], terms: Mapping[str, object]
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "lesion_id", "dx", "split", "group"))
    for row in rows:
        writer.writerow((row.image_id, row.lesion_id, row.dx, parts[row.image_id], groups[row.lesion_id]))
    write_atomic(folder / "splits.csv", text.getvalue())
    # Last: its presence says that the split is complete.
    write_atomic(folder / "splits.json", json.dumps({**terms, "fingerprint": _fingerprint(parts)}, indent=2))


def _read(folder: Path, rows: Sequence[Row], terms: Mapping[str, object]) -> dict[str, str]:
    hint = _way_out(folder)
    parts = read_parts(folder)
    try:
        facts = json.loads(read_regular(folder / "splits.json", MAX_FACTS_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"the split in {folder} is not readable: {error!r}", hint=hint) from error
    if not isinstance(facts, dict) or facts.get("fingerprint") != _fingerprint(parts):
        raise DataError(f"the split in {folder} was changed after it was drawn", hint=hint)
    for name, asked in terms.items():
        if facts.get(name, OLDER.get(name)) != asked:
            raise DataError(f"the split in {folder} was drawn for {name} {facts.get(name)}, not {asked}", hint=hint)
    if unknown := [row.image_id for row in rows if row.image_id not in parts]:
        raise DataError(
            f"{len(unknown)} images have no split, among them {unknown[0]}: they were in quarantine when it was drawn",
            hint=hint,
        )
    return parts


def _terms(listed: Sequence[Row], config: DataConfig) -> dict[str, object]:
    """What a drawn split depends on; quarantine only filters it."""
    table = "\n".join(sorted(f"{row.image_id},{row.lesion_id},{row.dx}" for row in listed))
    return {
        "metadata": sha256(table.encode())[:12],
        "seed": config.split_seed,
        "val": config.val,
        "test": config.test,
        "folds": config.folds,
        "calibration": config.calibration if config.folds else 0.0,
        "near_duplicates": config.near_duplicates,
    }


def _fingerprint(assigned: Mapping[str, str]) -> str:
    return sha256("\n".join(sorted(f"{image},{name}" for image, name in assigned.items())).encode())[:12]


def _count(rows: Sequence[Row]) -> dict[str, int]:
    counts = Counter(row.dx for row in rows)
    return {
        "images": len(rows),
        "lesions": len({row.lesion_id for row in rows}),
        **dict(sorted(counts.items())),
    }
