"""How fast, and in how much memory, whatever answers for images does so in this process; imports no engine."""

import io
import json
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from lesion.machine import peak_memory

Pixels = npt.NDArray[np.uint8]
BATCHES = (1, 4, 16, 64)
REPEATS, LONGEST_S = 300, 3.0  # of one at a time: whichever comes first
BATCH_S = 1.0
PHOTO = (600, 450)  # as HAM10000's images are


class Engine(Protocol):
    """What answers for images."""

    def read(self, content: bytes, /) -> Pixels:
        """Decode and preprocess: uint8 (size, size, 3)."""

    def compute(self, pixels: Pixels, /) -> object:
        """What the network says of (n, size, size, 3)."""

    def answer(self, content: bytes, /) -> object:
        """From an encoded image to its probabilities."""


def draw_photo() -> bytes:
    """A JPEG of 600×450 with the grain of a photograph, the same on every machine."""
    y, x = np.mgrid[0 : PHOTO[1], 0 : PHOTO[0]]
    inside = (x - 310) ** 2 + 2 * (y - 220) ** 2 < 36_000
    photo = np.stack([np.where(inside, a, b) for a, b in ((120, 205), (70, 160), (55, 140))], axis=2)
    grain = np.random.default_rng(0).normal(0, 4, photo.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(photo + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def measure_memory(load: Callable[[], Engine]) -> dict[str, Any]:
    """The peak of this process after loading and one answer, in bytes, and milliseconds that loading took."""
    start = perf_counter()
    engine = load()
    loaded = perf_counter() - start
    engine.answer(draw_photo())
    return {"memory": peak_memory(), "load_ms": loaded * 1000}


def measure_speed(load: Callable[[], Engine]) -> dict[str, Any]:
    """Milliseconds at the median and the 99th percentile, of a file and of ready pixels; images a second by batch."""
    engine, photo = load(), draw_photo()
    pixels = engine.read(photo)[None]
    found: dict[str, Any] = {
        "file_ms": _time(lambda: engine.answer(photo)),
        "pixels_ms": _time(lambda: engine.compute(pixels)),
        "images_per_second": {},
    }
    for batch in BATCHES:
        many = np.repeat(pixels, batch, axis=0)
        engine.compute(many)
        start, rounds = perf_counter(), 0
        while (spent := perf_counter() - start) < BATCH_S or not rounds:
            engine.compute(many)
            rounds += 1
        found["images_per_second"][str(batch)] = batch * rounds / spent
    return found


def _time(run: Callable[[], object]) -> dict[str, float]:
    times: list[float] = []
    for _ in range(10):
        run()
    begin = perf_counter()
    while len(times) < REPEATS and (len(times) < 20 or perf_counter() - begin < LONGEST_S):
        start = perf_counter()
        run()
        times.append((perf_counter() - start) * 1000)
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}


def report(kind: str, load: Callable[[], Engine]) -> None:
    """Print the figures of one kind as JSON."""
    sys.stdout.write(json.dumps((measure_memory if kind == "memory" else measure_speed)(load)))
