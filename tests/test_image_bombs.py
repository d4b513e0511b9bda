"""Images that ask for more work than their size shows, damaged ones, and anything else: an image or an ImageError."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lesion import jpeg, png
from lesion.errors import ImageError, LesionError
from lesion.images import decode_image
from tests import bombs

REFUSED = {
    "scans": lambda: bombs.scan_bomb(512, 600),
    "scans of a large image": lambda: bombs.scan_bomb(4992, 400),
    "refinements": lambda: bombs.refinement_bomb(4992, 400),
    "missing data": lambda: bombs.missing_data_bomb(512, 600),
    "sequential scans": lambda: bombs.sequential_bomb(4992, 400),
    "empty APP1": lambda: bombs.empty_segments(0xE1, 100_000),
    "empty COM": lambda: bombs.empty_segments(0xFE, 100_000),
    "frames": bombs.repeated_frames,
    "nested start": bombs.nested_start,
    "empty chunks": lambda: bombs.empty_chunks(count=100_000),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_much_for_its_size_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.jpeg.JpegFile.decode", lambda self: pytest.fail("it was decoded"))
    monkeypatch.setattr("lesion.png.PngFile.decode", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError):
        decode_image(REFUSED[name]())


def photo(**options: object) -> bytes:
    """A JPEG with enough detail that every part of it takes bytes."""
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((480, 320), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}, {"restart_marker_rows": 1}]
)
def test_pixels_are_those_of_pillow(options: dict[str, object]) -> None:
    content = photo(**options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(np.asarray(decode_image(content)), expected)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[: len(d) // 2] + bytes(len(d) // 4) + d[len(d) * 3 // 4 :],
        lambda d: d[: len(d) * 3 // 10] + bytes(len(d) * 7 // 10 - 2) + b"\xff\xd9",
        lambda d: d[: len(d) * 2 // 5] + d[len(d) * 3 // 5 :],
        lambda d: d[: len(d) // 2] + b"\xff\xd9",
        lambda d: d[: len(d) // 2],
    ],
    ids=["zeros", "zeros to the end", "left out", "end moved", "cut"],
)
def test_a_jpeg_with_missing_data_is_refused(damage: object, progressive: bool) -> None:
    assert callable(damage)
    with pytest.raises(ImageError, match="damaged"):
        decode_image(damage(photo(progressive=progressive)))


def test_what_follows_the_first_picture_does_not_matter() -> None:
    content = photo()
    assert decode_image(content + photo() + b"junk").tobytes() == decode_image(content).tobytes()


@pytest.mark.parametrize(
    "filling", [b"\xff" * 5000, bombs.segment(0xFE, b"camera") * 300, bombs.segment(0xE2, bytes(60_000)) * 20]
)
def test_long_metadata_do_not_matter(filling: bytes) -> None:
    content = photo()
    assert decode_image(content[:2] + filling + content[2:]).tobytes() == decode_image(content).tobytes()


@pytest.mark.filterwarnings("error")
def test_metadata_with_many_entries_cost_and_say_nothing() -> None:
    content = bombs.jpeg_with_exif(bombs.exif_entries(65_000 // 12, size=60_000))
    assert decode_image(content).mode == "RGB"


@settings(max_examples=300, deadline=None)
@given(
    content=st.sampled_from(
        [photo(), photo(progressive=True), bombs.plain_png(), bombs.png_with(bombs.chunk(b"eXIf", b"II*\0"))]
    ),
    changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 2**20) | st.none(),
)
def test_anything_is_an_image_or_an_image_error(
    content: bytes, changes: list[tuple[int, int]], cut: int | None
) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[4 + place % min(len(damaged) - 4, 2000)] = value
    try:
        image = decode_image(bytes(damaged[: len(damaged) if cut is None else 8 + cut % len(damaged)]))
    except ImageError:
        return
    assert image.mode == "RGB"


SEGMENTS = st.lists(
    st.tuples(st.sampled_from([*range(0xC0, 0x100), 0x01]), st.binary(max_size=40), st.booleans()), max_size=12
)


@settings(max_examples=300, deadline=None)
@given(segments=SEGMENTS, junk=st.binary(max_size=30))
def test_the_walk_of_markers_ends_with_a_picture_or_an_error(
    segments: list[tuple[int, bytes, bool]], junk: bytes
) -> None:
    words = b"".join(
        bytes((0xFF, marker)) + (struct.pack(">H", len(body) + 2) if honest else b"\0\1") + body
        for marker, body, honest in segments
    )
    for end in (b"", b"\xff\xd9"):
        try:
            file = jpeg.parse(b"\xff\xd8" + words + junk + end)
        except (ValueError, LesionError):
            continue
        assert file.scans <= jpeg.MAX_SCANS


@settings(max_examples=300, deadline=None)
@given(
    chunks=st.lists(
        st.tuples(
            st.sampled_from(
                [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"acTL", b"fcTL", b"eXIf", b"zTXt", b"iTXt", b"IEND", b"abCd"]
            ),
            st.binary(max_size=60),
        ),
        max_size=12,
    )
)
def test_the_walk_of_chunks_ends_with_a_picture_or_an_error(chunks: list[tuple[bytes, bytes]]) -> None:
    header = bombs.plain_png()[:33]
    for start in (bombs.SIGNATURE, header):
        try:
            png.parse(start + b"".join(bombs.chunk(kind, body) for kind, body in chunks))
        except (ValueError, LesionError):
            continue
