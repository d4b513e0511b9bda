"""One pass over the image files: everything that the audit wants to know of each, decoded once."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lesion.data.duplicates import THUMB
from lesion.data.quality import Quality, measure_quality
from lesion.errors import ImageError, ImageTooLarge, NotAnImage
from lesion.files import open_regular
from lesion.images import MAX_BYTES, OPENERS, decode_image
from lesion.progress import Progress, Silent, track

AHEAD = 64  # files; more would only wait in memory
NAMES = {b"\xff\xd8\xff": ("JPEG", (".jpg", ".jpeg")), b"\x89PNG\r\n\x1a\n": ("PNG", (".png",))}


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at an image file found."""

    path: Path
    flaw: str = ""
    """Kind of what keeps it from being used: "absent", "empty", "not-an-image", "unusable-size" or "damaged"."""
    message: str = ""
    """The decoder's words for it."""
    disguise: str = ""
    """"JPEG" or "PNG" when the name promises the other."""
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels."""
    digest: str = ""
    """Hex SHA-256 of the size and the decoded pixels; copies with other metadata have the same."""
    quality: Quality | None = None
    thumb: npt.NDArray[np.uint8] | None = None
    """uint8 (64, 64, 3), for `duplicates.find_pairs`."""


def look_at_files(paths: Sequence[Path], workers: int, progress: Progress | None = None) -> list[Look]:
    """A look at each file, in order; `Path()` counts as absent. Never raises for what a file holds."""
    return list(track(progress or Silent(), _look_ahead(paths, workers), len(paths), "look at the images"))


def _look_ahead(paths: Sequence[Path], workers: int) -> Iterator[Look]:
    # Threads, not processes: Pillow and hashlib let go of the interpreter.
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        coming: deque[Future[Look]] = deque(pool.submit(look_at, path) for path in paths[:AHEAD])
        try:
            for i in range(len(paths)):
                yield coming.popleft().result()
                coming.extend(pool.submit(look_at, path) for path in paths[i + AHEAD : i + AHEAD + 1])
        finally:
            pool.shutdown(cancel_futures=True)


def look_at(path: Path) -> Look:
    """A look at one file."""
    if path == Path():
        return Look(path, "absent", "listed but absent")
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return Look(path, "damaged", f"cannot read {path.name}: {error.strerror or error}")
    if not content:
        return Look(path, "empty", f"{path.name} has no bytes")
    return _look_inside(path, content)


def _look_inside(path: Path, content: bytes) -> Look:
    try:
        image = decode_image(content, path.name)
    except NotAnImage as error:
        return Look(path, "not-an-image", error.message)
    except ImageTooLarge as error:
        return Look(path, "unusable-size", error.message)
    except ImageError as error:
        return Look(path, "unusable-size" if "every side" in error.message else "damaged", error.message)
    kind, suffixes = next(NAMES[magic] for magic in OPENERS if content.startswith(magic))
    return Look(
        path,
        disguise="" if path.suffix.lower() in suffixes else kind,
        size=image.size,
        digest=hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest(),
        quality=measure_quality(image),
        thumb=THUMB.apply(image),
    )
