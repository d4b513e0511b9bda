"""Which image belongs to train, val or test: drawn once by lesion, written down, and read by everyone."""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lesion.config.schema import DataConfig
from lesion.data.index import Row, read_index
from lesion.errors import DataError
from lesion.files import ensure_folder, is_writable, sha256, write_atomic
from lesion.records import DataReport

SPLITS = ("train", "val", "test")


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
        """The dataset's name for model cards: "synthetic" or "HAM10000 layout"."""
        sources = {row.dataset for rows in self.members.values() for row in rows}
        return "synthetic" if sources == {"synthetic"} else "HAM10000 layout"

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


def open_dataset(config: DataConfig) -> Dataset:
    """Index the dataset and read its split, drawing and writing it when there is none yet.

    Raises DataError when the written split does not fit the metadata, the seed or the shares: a split is never
    silently drawn anew. Further errors as in `read_index`; OutputError when the split cannot be written.
    """
    root = Path(config.root)
    rows = read_index(root)
    folder = processed_folder(config)
    if not (folder / "splits.json").is_file():
        assigned = draw_split(rows, config.val, config.test, config.split_seed)
        _write(ensure_folder(folder), rows, assigned, config)
    assigned = _read(folder, rows, config)
    members = {name: [row for row in rows if assigned[row.image_id] == name] for name in SPLITS}
    return Dataset(root, folder, members, _fingerprint(assigned))


def processed_folder(config: DataConfig) -> Path:
    """Where the split lies: as configured, else inside the dataset, else (read-only data) in ./processed."""
    root = Path(config.root)
    if config.processed is not None:
        return Path(config.processed)
    inside = root / "processed"
    if (inside / "splits.json").is_file() or is_writable(root):
        return inside
    return Path("processed") / root.resolve().name


def draw_split(rows: Sequence[Row], val: float, test: float, seed: int) -> dict[str, str]:
    """Assign each image to "train", "val" or "test": whole lesions, each diagnosis in the same shares.

    Within a diagnosis, lesions come in the order of a hash of (seed, lesion id). The first three go one to each
    split, every later one to the split that lacks most images of its share, so no split ends more than one
    lesion above its share. No random generator: the result depends on no library, version or row order.
    """
    shares = {"train": 1 - val - test, "val": val, "test": test}
    lesions: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        lesions[row.dx][row.lesion_id].append(row.image_id)
    assigned = {}
    for dx, images in lesions.items():
        if len(images) < len(SPLITS):
            raise DataError(
                f"{len(images)} lesion{'s' * (len(images) > 1)} with diagnosis {dx}, at least {len(SPLITS)} expected: "
                "each split needs one",
                hint="add lesions of this diagnosis, or leave it out",
            )
        total = sum(map(len, images.values()))
        lacking = {name: share * total for name, share in shares.items()}
        ranked = sorted(images, key=lambda lesion: sha256(f"{seed}:{lesion}".encode()))
        for place, lesion in enumerate(ranked):
            name = SPLITS[place] if place < len(SPLITS) else max(SPLITS, key=lacking.__getitem__)
            lacking[name] -= len(images[lesion])
            assigned.update(dict.fromkeys(images[lesion], name))
    return assigned


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


def _write(folder: Path, rows: Sequence[Row], assigned: dict[str, str], config: DataConfig) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "lesion_id", "dx", "split"))
    writer.writerows((row.image_id, row.lesion_id, row.dx, assigned[row.image_id]) for row in rows)
    write_atomic(folder / "splits.csv", text.getvalue())
    # Last: its presence says that the split is complete.
    facts = {**_terms(rows, config), "fingerprint": _fingerprint(assigned)}
    write_atomic(folder / "splits.json", json.dumps(facts, indent=2))


def _read(folder: Path, rows: Sequence[Row], config: DataConfig) -> dict[str, str]:
    hint = f"set data.processed to another folder, or delete {folder / 'splits.json'} to draw the split anew"
    try:
        facts = json.loads((folder / "splits.json").read_text("utf-8"))
        with (folder / "splits.csv").open(encoding="utf-8", newline="") as file:
            assigned = {record["image_id"]: record["split"] for record in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"the split in {folder} is not readable: {error!r}", hint=hint) from error
    if not isinstance(facts, dict) or facts.get("fingerprint") != _fingerprint(assigned):
        raise DataError(f"the split in {folder} was changed after it was drawn", hint=hint)
    for name, asked in _terms(rows, config).items():
        if facts.get(name) != asked:
            raise DataError(f"the split in {folder} was drawn for {name} {facts.get(name)}, not {asked}", hint=hint)
    return assigned


def _terms(rows: Sequence[Row], config: DataConfig) -> dict[str, object]:
    """What a drawn split depends on."""
    table = "\n".join(sorted(f"{row.image_id},{row.lesion_id},{row.dx}" for row in rows))
    return {
        "metadata": sha256(table.encode())[:12],
        "seed": config.split_seed,
        "val": config.val,
        "test": config.test,
    }


def _fingerprint(assigned: dict[str, str]) -> str:
    return sha256("\n".join(sorted(f"{image},{name}" for image, name in assigned.items())).encode())[:12]


def _count(rows: Sequence[Row]) -> dict[str, int]:
    counts = Counter(row.dx for row in rows)
    return {
        "images": len(rows),
        "lesions": len({row.lesion_id for row in rows}),
        **dict(sorted(counts.items())),
    }
