"""The record of images that must not be used: nothing is moved, and a line taken out brings its image back."""

import csv
import io
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from lesion.errors import DataError
from lesion.files import ensure_folder, hold_lock, read_regular, write_atomic

FILE = "quarantine.csv"
LOCK = ".quarantine.lock"
WAIT_S = 60.0  # for another process that changes the file, which takes it a moment
ASK = "ask its owner; or name a folder of your own, which gets a split of its own, with data.processed=FOLDER"
COLUMNS = ("image_id", "reason", "date")
MAX_BYTES = 64 * 2**20  # half a million images with long reasons; a larger file is something else


def read_quarantine(folder: Path) -> dict[str, str]:
    """Image id → reason, from `quarantine.csv` in the folder `folder`; empty when there is none.

    Raises DataError when the file is not readable, is no such table, or names an image twice.
    """
    return {image: reason for image, (reason, _) in _read(folder).items()}


def add_to_quarantine(folder: Path, reasons: Mapping[str, str]) -> int:
    """Record images (id → reason) with today's date; an id that is there keeps its first reason.

    Returns:
        How many ids are new.

    Raises DataError when the present file is damaged, OutputError when it cannot be written; it is then unchanged.
    """
    if "" in reasons:
        raise DataError("an empty image id cannot be put in quarantine")
    if reasons.keys() <= _read(folder).keys():
        return 0
    ensure_folder(folder, hint=ASK)
    today = datetime.now(UTC).date().isoformat()
    with _locked(folder):
        entries = _read(folder)
        fresh = {image: (" ".join(reason.split()), today) for image, reason in reasons.items() if image not in entries}
        _write(folder, entries | fresh)
    return len(fresh)


def ensure_quarantine(folder: Path) -> None:
    """Write an empty `quarantine.csv` if there is none, for a pipeline that declares the file as an output.

    Raises what `add_to_quarantine` does.
    """
    ensure_folder(folder)
    with _locked(folder):
        if not _read(folder):
            _write(folder, {})


def restore(folder: Path, images: Iterable[str] | None = None) -> list[str]:
    """Take `images` out of quarantine, all when None; returns the ids that were taken out.

    Raises DataError when one of `images` is not in quarantine, or the file is damaged.
    """

    def choose(entries: Mapping[str, tuple[str, str]]) -> list[str]:
        leaving = list(entries) if asked is None else asked
        if unknown := [image for image in leaving if image not in entries]:
            raise DataError(
                f"{folder / FILE}: {unknown[0]!r} is not in quarantine", hint="give ids as they stand in the file"
            )
        return leaving

    asked = None if images is None else list(dict.fromkeys(images))
    if not choose(_read(folder)):
        return []
    with _locked(folder):
        entries = _read(folder)
        leaving = choose(entries)
        _write(folder, {image: entry for image, entry in entries.items() if image not in leaving})
    return leaving


def _locked(folder: Path) -> AbstractContextManager[None]:
    """Keep others from changing the file between reading and writing it."""
    return hold_lock(folder / LOCK, f"change {folder / FILE}", WAIT_S)


def _read(folder: Path) -> dict[str, tuple[str, str]]:
    path = folder / FILE
    hint = f"mend {path} by hand, or delete it to use all images again"
    try:
        raw = read_regular(path, MAX_BYTES)
        lines = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {said}", hint=hint) from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DataError(f"{path}: columns {', '.join(COLUMNS)} expected", hint=hint)
    entries: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line:  # an empty line at the end, from an editor
            continue
        if len(line) != len(COLUMNS) or not line[0]:
            raise DataError(f"{path}, row {number}: an image id, a reason and a date expected", hint=hint)
        if line[0] in entries:
            raise DataError(f"{path}, row {number}: {line[0]!r} is listed twice", hint=hint)
        entries[line[0]] = (line[1], line[2])
    return entries


def _write(folder: Path, entries: Mapping[str, tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((image, reason, date) for image, (reason, date) in sorted(entries.items()))
    write_atomic(folder / FILE, text.getvalue())
