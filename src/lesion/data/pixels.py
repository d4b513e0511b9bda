"""Rows to uint8 pixels: the same decode and geometry that serving uses, in parallel and in memory."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lesion.data.index import Row
from lesion.errors import ImageError
from lesion.files import open_regular
from lesion.images import read_image
from lesion.preprocess import PreprocessSpec
from lesion.progress import Progress, Silent, track

Pixels = npt.NDArray[np.uint8]
AHEAD = 64  # images; more would only wait in memory for a slow disk


def read_photo(path: Path) -> Image.Image:
    """Decode an image file of a dataset; see `images.read_image`. ImageError for a pipe or a device: it never waits."""
    try:
        open_regular(path).close()
    except FileNotFoundError:
        pass  # the next step says so
    except OSError as error:
        raise ImageError(
            f"cannot read {path}: {error.strerror or error}", hint="put a readable file in its place"
        ) from error
    return read_image(path)


def decode_row(row: Row, spec: PreprocessSpec) -> Pixels:
    """One image as uint8 (size, size, 3); ImageError that names the file when it cannot be used."""
    return spec.apply(read_photo(row.path))


def decode_rows(
    rows: Sequence[Row],
    spec: PreprocessSpec,
    workers: int = 0,
    progress: Progress | None = None,
    label: str = "decode",
) -> Pixels:
    """All images as one uint8 array (n, size, size, 3), in order. Raises ImageError for the first unusable one."""
    out = np.empty((len(rows), spec.size, spec.size, 3), np.uint8)
    images = decode_in_order(rows, spec, workers)
    for i, pixels in enumerate(track(progress or Silent(), images, len(rows), label)):
        out[i] = pixels
    return out


def decode_in_order(rows: Sequence[Row], spec: PreprocessSpec, workers: int) -> Iterator[Pixels]:
    """The images one after another, a few ahead of the reader. Raises ImageError for the first unusable one."""
    # Threads, not processes: Pillow lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        coming = deque(pool.submit(decode_row, row, spec) for row in rows[:AHEAD])
        try:
            for i in range(len(rows)):
                yield coming.popleft().result()
                coming.extend(pool.submit(decode_row, row, spec) for row in rows[i + AHEAD : i + AHEAD + 1])
        finally:
            pool.shutdown(cancel_futures=True)
