"""What was downloaded into a dataset, from where, under which licence: `downloads.json` beside the data."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lesion.data.index import IMAGES, METADATA
from lesion.data.publishers import Licence, Source
from lesion.errors import DataError, OutputError
from lesion.files import read_regular, write_atomic

LEDGER = "downloads.json"
MAX_BYTES = 64 * 2**20  # a hundred thousand single images


@dataclass(slots=True)
class Ledger:
    """The record of one dataset's downloads; the only thing here that changes."""

    dataset: str
    subset: int | None = None
    licence: dict[str, str] = field(default_factory=dict)
    """Name and address of the licence that was accepted, and when."""
    host: str = ""
    """Who gave the files of a finished download."""
    finished: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name → url, bytes, md5, sha256, and `members`: place → bytes of what it became in the dataset."""

    @classmethod
    def read(cls, root: Path, source: Source, subset: int | None) -> "Ledger":
        """The ledger of `root`, or a new one.

        Raises:
            DataError: it cannot be read.
            OutputError: `root` holds another dataset, whose files must not be mixed with this one's.
        """
        path = root / LEDGER
        if not path.exists():
            if (root / METADATA).exists() or ((root / IMAGES).is_dir() and any((root / IMAGES).iterdir())):
                raise OutputError(
                    f"{root} holds a dataset that was not downloaded by this command", hint="name another folder"
                )
            return cls(source.name, subset)
        try:
            ledger = cls(**json.loads(read_regular(path, MAX_BYTES)))
            members = [size for entry in ledger.files.values() for size in entry["members"].values()]
            if not all(isinstance(size, int) for size in members):
                raise ValueError("a size is no number")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{path} is not readable: {error!r}",
                hint=f"name another folder; or delete {root} and download it again",
            ) from error
        if (ledger.dataset, ledger.subset) != (source.name, subset):
            there = _describe(ledger.dataset, ledger.subset)
            raise OutputError(f"{root} holds {there}, not {_describe(source.name, subset)}", hint="name another folder")
        return ledger

    def write(self, root: Path) -> None:
        """Keep it."""
        write_atomic(root / LEDGER, json.dumps(asdict(self), indent=1))

    def accept(self, licence: Licence) -> None:
        """Note that the user accepted `licence` now."""
        self.licence = {"name": licence.name, "url": licence.url, "accepted": now()}

    def has_accepted(self, licence: Licence) -> bool:
        """Whether this very licence was accepted before."""
        return (self.licence.get("name"), self.licence.get("url")) == (licence.name, licence.url)

    def has(self, root: Path, name: str) -> bool:
        """Whether the file `name` was fetched and all that it became is still there with its size."""
        entry = self.files.get(name)
        return entry is not None and all(_size(root / place) == size for place, size in entry["members"].items())

    def is_finished(self, root: Path) -> bool:
        """Whether nothing is left to do."""
        return bool(self.finished) and (root / METADATA).is_file() and all(self.has(root, name) for name in self.files)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _describe(dataset: str, subset: int | None) -> str:
    return dataset if subset is None else f"{subset} images of {dataset}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
