"""Answer items: decoding, preprocessing and inference of several batches at once, answers in order."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lesion.errors import DataError, LesionError, NotFoundError, RemoteError
from lesion.inference.bulk import remote
from lesion.inference.bulk.items import Answer, Item, Unreadable
from lesion.records import Prediction
from lesion.remote import is_remote


class Model(Protocol):
    """What is asked of a Predictor here."""

    def read(self, source: str | bytes, /) -> npt.NDArray[np.uint8]:
        """Decode and preprocess: uint8 (size, size, 3)."""

    def predict_pixels(self, pixels: npt.NDArray[np.uint8], names: Sequence[str], /) -> list[Prediction]:
        """The answers to (n, size, size, 3)."""


def answer(items: Iterable[Item | None], model: Model, threads: int, batch: int) -> Generator[Answer, None, None]:
    """The answers to `items`, in their order; at most `2 × threads + 1` batches are ahead of the one who asks.

    Each thread decodes and answers a batch of its own, so the model should compute with one thread: threads that wait
    for each other within one image do less than threads that have an image each. After a None in `items`, all that
    came before it is answered before the next one is asked for.
    """
    pool = ThreadPoolExecutor(threads, "predict")
    coming: deque[Future[list[Answer]]] = deque()
    try:
        for group in form_batches(items, batch):
            if group:
                coming.append(pool.submit(answer_batch, group, model))
            while coming and (not group or len(coming) > 2 * threads):
                yield from coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def form_batches(items: Iterable[Item | None], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; a shorter one and then an empty one at each None and at the end."""
    group: list[Item] = []
    for item in items:
        if item is not None:
            group.append(item)
            if len(group) < size:
                continue
        if group:
            yield group
            group = []
        if item is None:
            yield []
    if group:
        yield group
    yield []


def answer_batch(items: Sequence[Item], model: Model) -> list[Answer]:
    """One answer for each item: those that can be read go through the model together."""
    read = [_read(item, model) for item in items]
    good = [(item.name, pixels) for item, pixels in zip(items, read, strict=True) if isinstance(pixels, np.ndarray)]
    if good:
        predictions = iter(model.predict_pixels(np.stack([pixels for _, pixels in good]), [name for name, _ in good]))
    return [each if isinstance(each, Unreadable) else next(predictions) for each in read]


def _read(item: Item, model: Model) -> npt.NDArray[np.uint8] | Unreadable:
    try:
        return model.read(_fetch(item.source))
    except (DataError, NotFoundError, RemoteError) as error:  # what else there is concerns all images
        return Unreadable.of(item.name, error)


def _fetch(source: str | bytes | LesionError) -> str | bytes:
    if isinstance(source, LesionError):
        raise source
    if isinstance(source, bytes):
        return source
    if is_remote(source):
        return remote.read(source)
    return source
