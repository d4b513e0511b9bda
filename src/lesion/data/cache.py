"""Decoded pixels on disk: one memory-mapped file per geometry, rebuilt for exactly what changed."""

import json
import logging
import shutil
import sys
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import PIL
import simplejpeg

from lesion.data.index import Row
from lesion.data.pixels import decode_in_order
from lesion.errors import ImageError, OutputError
from lesion.files import ensure_folder, is_writable, open_regular, read_regular, rename, sha256, write_atomic
from lesion.images import MAX_BYTES
from lesion.preprocess import PreprocessSpec
from lesion.progress import Progress, Silent, track

log = logging.getLogger(__name__)
FORMAT = 1
MAX_INDEX_BYTES = 256 * 2**20  # a million images
ABANDONED_S = 24 * 3600  # after which a temporary file is the remains of a killed process
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached image: how its file looked, and the checksum of its pixels."""

    size: int
    """Bytes of the file."""
    mtime_ns: int
    """When it was last written."""
    content: str
    """16 hex digits of the file's SHA-256; decides when size or time have changed."""
    crc: int
    """CRC-32 of the pixels, so that a flipped byte is found when the cache is opened."""


@dataclass(frozen=True, slots=True)
class PixelCache:
    """Images of a dataset at one geometry."""

    pixels: Pixels
    """(n, size, size, 3), mapped from disk, read-only."""
    entries: dict[str, Entry]
    """image id → entry, of what is intact."""
    place: dict[str, int]
    """image id → index in `pixels`."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the content of all image files."""
        lines = sorted(f"{image},{entry.content}" for image, entry in self.entries.items())
        return sha256("\n".join(lines).encode())[:12]

    def find(self, rows: Sequence[Row]) -> npt.NDArray[np.int64]:
        """The indices of `rows` in `pixels`, (n,)."""
        return np.array([self.place[row.image_id] for row in rows], np.int64)

    def take(self, rows: Sequence[Row]) -> Pixels:
        """The pixels of `rows` in memory, in their order: (n, size, size, 3)."""
        return np.asarray(self.pixels[self.find(rows)])


def open_cache(
    rows: Sequence[Row],
    spec: PreprocessSpec,
    folder: Path,
    workers: int = 2,
    progress: Progress | None = None,
    elsewhere: Path | None = None,
) -> PixelCache:
    """The pixels of `rows`, decoding only files that are new or have changed.

    Several processes may do this at once, and any may be killed: files appear whole, by renaming, and what does not
    match its checksum is decoded again.

    Args:
        rows: images.
        spec: geometry.
        folder: where the pixels are kept.
        workers: threads.
        progress: of the decoding.
        elsewhere: where they are kept instead when they are not complete in `folder`, and it is read-only.

    Raises:
        ImageError, NotFoundError: an image cannot be used; it is named.
        OutputError: the folder cannot be written, or the disk is full.
    """
    name = f"{spec.size}-{spec.filter}{'-reduced' if spec.reduce else ''}.npy"
    cache, fresh = _look_up(folder / name, rows, spec, workers)
    if _is_complete(cache, fresh, rows):
        return cache
    if elsewhere is not None and not _may_write(folder):
        log.info("%s is read-only: decoded images are kept in %s", folder, elsewhere)
        folder = elsewhere
        cache, fresh = _look_up(folder / name, rows, spec, workers)
        if _is_complete(cache, fresh, rows):
            return cache
    return _build(folder / name, rows, cache, fresh, spec, workers, progress or Silent())


def _look_up(
    path: Path, rows: Sequence[Row], spec: PreprocessSpec, workers: int
) -> tuple[PixelCache, dict[str, Entry]]:
    """What lies at `path`, and the entries of it that still fit `rows`."""
    cache = _read(path, spec, workers)
    return cache, {row.image_id: entry for row in rows if (entry := _find_fresh(row, cache.entries))}


def _is_complete(cache: PixelCache, fresh: dict[str, Entry], rows: Sequence[Row]) -> bool:
    return list(fresh.items()) == list(cache.entries.items()) and len(fresh) == len(rows) == len(cache.pixels)


def _may_write(folder: Path) -> bool:
    """Whether files can be made in `folder`, or it can be made."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), None)
    return there is not None and is_writable(there)


def _read(path: Path, spec: PreprocessSpec, workers: int) -> PixelCache:
    """What lies on disk; empty when there is nothing, or nothing that this version made."""
    nothing = PixelCache(np.empty((0, spec.size, spec.size, 3), np.uint8), {}, {})
    try:
        index = json.loads(read_regular(path.with_suffix(".json"), MAX_INDEX_BYTES))
        if index["made"] != _made_by(spec):
            return nothing
        entries = {str(name): Entry(*values) for name, values in index["images"].items()}
        open_regular(path).close()  # numpy would wait for a pipe
        pixels = _map(path)
        if pixels.shape != (len(entries), *nothing.pixels.shape[1:]) or pixels.dtype != np.uint8:
            return nothing
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError):
        return nothing
    with ThreadPoolExecutor(max(workers, 1)) as pool:  # zlib lets go of the interpreter
        crcs = list(pool.map(zlib.crc32, pixels))
    place = {name: i for i, name in enumerate(entries)}
    damaged = [name for name, i in place.items() if entries[name].crc != crcs[i]]
    for name in damaged:
        del entries[name]
    if damaged:
        log.warning("%s: %d damaged, decoded again: %s", path, len(damaged), ", ".join(damaged[:3]))
    return PixelCache(pixels, entries, place)


def _map(path: Path) -> Pixels:
    """The array of a file, mapped; on Windows read, since it lets nobody rename or replace a file that is mapped."""
    return np.load(path, mmap_mode=None if sys.platform == "win32" else "r")  # type: ignore[no-any-return]


def _made_by(spec: PreprocessSpec) -> dict[str, Any]:
    # Another version may decode or resize otherwise.
    return {"format": FORMAT, "pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__, **asdict(spec)}


def _find_fresh(row: Row, entries: dict[str, Entry]) -> Entry | None:
    """The entry of `row` if its file still has the content that was decoded, with today's size and time."""
    entry = entries.get(row.image_id)
    if entry is None:
        return None
    try:
        now = row.path.stat()
    except OSError:
        return None  # the decoder says what is wrong
    if (entry.size, entry.mtime_ns) == (now.st_size, now.st_mtime_ns):
        return entry
    if _digest(row) != entry.content:
        return None
    return Entry(now.st_size, now.st_mtime_ns, entry.content, entry.crc)


def _build(
    path: Path, rows: Sequence[Row], old: PixelCache, fresh: dict[str, Entry], spec: PreprocessSpec, workers: int,
    progress: Progress,
) -> PixelCache:  # fmt: skip
    """Write the file anew: what is fresh is copied, the rest decoded."""
    shape = (len(rows), spec.size, spec.size, 3)
    _prepare_folder(path, int(np.prod(shape)))
    missing = [row for row in rows if row.image_id not in fresh]
    decoded = track(progress, decode_in_order(missing, spec, workers), len(missing), f"decode {spec.size} px")
    entries: dict[str, Entry] = {}
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for row in rows:
                entry = fresh.get(row.image_id)
                pixels = next(decoded) if entry is None else old.pixels[old.place[row.image_id]]
                entries[row.image_id] = entry or _describe(row, pixels)
                file.write(pixels.data)  # a plain write: on a full disk it raises, a mapped page would kill us
        # Mapped under its own name: by the time it has the final one, another builder may have replaced it.
        mapped = _map(temporary)
        rename(temporary, path)
    except OSError as error:
        raise OutputError(
            f"cannot write decoded images to {path}: {error.strerror or error}",
            hint="free some space, or set data.processed to a folder on another disk",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    index = {"made": _made_by(spec), "images": {name: list(asdict(entry).values()) for name, entry in entries.items()}}
    write_atomic(path.with_suffix(".json"), json.dumps(index))
    return PixelCache(mapped, entries, {name: i for i, name in enumerate(entries)})


def _prepare_folder(path: Path, needed: int) -> None:
    ensure_folder(
        path.parent,
        hint="work in a folder you may write to; or name one with data.processed=FOLDER, which gets a split of its own",
    )
    for left in path.parent.glob(".*.npy.*"):
        if time.time() - left.stat().st_mtime > ABANDONED_S:
            left.unlink(missing_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise OutputError(
            f"decoded images need {needed / 1e9:.1f} GB in {path.parent}, {free / 1e9:.1f} GB are free",
            hint="free some space, or set data.processed to a folder on another disk",
        )


def _describe(row: Row, pixels: Pixels) -> Entry:
    now = row.path.stat()
    return Entry(now.st_size, now.st_mtime_ns, _digest(row), zlib.crc32(pixels.data))


def _digest(row: Row) -> str:
    try:
        return sha256(read_regular(row.path, MAX_BYTES))[:16]
    except OSError as error:
        raise ImageError(
            f"cannot read {row.path}: {error.strerror or error}", hint="put a readable file in its place"
        ) from error
