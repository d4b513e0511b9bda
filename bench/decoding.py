"""What could make the way from a JPEG to pixels shorter, and by how much each changes the pixels."""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import jpeg_factory

from lesion.images import decode_image
from lesion.preprocess import PreprocessSpec

SIZES = (128, 160, 224)
MOST = 150
Decode = Callable[[bytes], np.ndarray]


def measure(native: Path) -> Iterator[str]:
    """Processor time of one thread per image, and how far pixels are from those of a plain resize."""
    contents = [path.read_bytes() for path in sorted(native.glob("*.jpg"))[:MOST]]
    yield f"{len(contents)} JPEGs, {sum(map(len, contents)) / len(contents) / 1024:.0f} KiB each"
    for size in SIZES:
        full, reduced = (PreprocessSpec(size, "bilinear", reduce) for reduce in (False, True))
        ways: dict[str, Decode] = {
            "plain": lambda content, spec=full: spec.apply(decode_image(content)),
            "reduce": lambda content, spec=reduced: spec.apply(decode_image(content)),
            "decoder": lambda content, spec=full: spec.apply(_draft(content, spec.size)),
        }
        expected = [ways["plain"](content).astype(int) for content in contents]
        for name, way in ways.items():
            away = np.stack([np.abs(way(content) - plain) for content, plain in zip(contents, expected, strict=True)])
            yield (
                f"{size} px, {name:<8} {_time(way, contents):6.3f} ms   differs by {away.mean():.3f} on average, "
                f"{np.percentile(away, 99):.0f} at the 99th percentile, {away.max()} at most"
            )
    whole, half = _time(decode_image, contents), _time(lambda content: _draft(content, 225), contents)
    yield f"decoding alone {whole:.3f} ms, at half the size {half:.3f} ms"


def _draft(content: bytes, size: int) -> Image.Image:
    image = jpeg_factory(io.BytesIO(content))
    image.draft("RGB", (size, size))
    image.load()
    return image


def _time(way: Callable[[bytes], object], contents: list[bytes], rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        for content in contents:
            way(content)
        times.append((time.thread_time() - start) / len(contents) * 1000)
    return median(times)
