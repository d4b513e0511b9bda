"""PNG: the walk of the chunks, what reaches the decoder, and that nothing else can make a picture unreadable."""

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lesion import png
from lesion.errors import ImageError
from lesion.images import decode_image
from tests import bombs
from tests.bombs import chunk
from tests.test_exif import tiff


def pack(samples: Any, bits: int) -> bytes:
    if bits == 16:
        return bytes(samples.astype(">u2").tobytes())
    text = "".join(format(int(value), f"0{bits}b") for value in samples.ravel())
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8)


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def write(samples: Any, bits: int, colour: int, interlaced: bool = False, before: bytes = b"") -> bytes:
    """A PNG by hand; its stream is in three chunks, one of them empty. `samples` is (height, width, channels)."""
    height, width = samples.shape[:2]
    parts = [samples[y::down, x::across] for x, y, across, down in (ADAM7 if interlaced else [(0, 0, 1, 1)])]
    stream = zlib.compress(b"".join(b"\0" + pack(row, bits) for part in parts if part.size for row in part))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    pixels = chunk(b"IDAT", stream[:50]) + chunk(b"IDAT") + chunk(b"IDAT", stream[50:])
    return bombs.SIGNATURE + chunk(b"IHDR", header) + before + pixels + chunk(b"IEND")


KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (6, 8), (2, 16), (6, 16)]


@pytest.mark.parametrize(("colour", "bits"), KINDS)
@pytest.mark.parametrize("interlaced", [False, True])
def test_every_kind_is_read_as_by_pillow(colour: int, bits: int, interlaced: bool) -> None:
    rng = np.random.default_rng(6)
    samples = rng.integers(0, 2**bits, (37, 53, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]))
    palette = chunk(b"PLTE", rng.integers(0, 256, 3 * 2**bits, dtype=np.uint8).tobytes()) if colour == 3 else b""
    content = write(samples, bits, colour, interlaced, palette)
    expected = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.alpha_composite(Image.new("RGBA", expected.size, "white"), expected)
    assert np.array_equal(np.asarray(decode_image(content)), np.asarray(white)[..., :3])


def test_an_image_of_many_strips_is_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    contents = [write(rng.integers(0, 256, (50, 40, 4)), 8, 6), write(rng.integers(0, 2**16, (50, 40, 1)), 16, 0)]
    whole = [np.asarray(decode_image(content)) for content in contents]
    monkeypatch.setattr("lesion.images.STRIP", 3 * 40)
    for content, expected in zip(contents, whole, strict=True):
        assert np.array_equal(np.asarray(decode_image(content)), expected)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("keyword", [b"Comment", b"XML:com.adobe.xmp", b"Raw profile type exif"])
def test_large_metadata_make_no_picture_unreadable(kind: bytes, keyword: bytes) -> None:
    picture = np.asarray(decode_image(bombs.plain_png()))
    assert np.array_equal(np.asarray(decode_image(bombs.text_bomb(kind, keyword))), picture)


@pytest.mark.parametrize("kind", [b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"eXIf"])
@pytest.mark.parametrize("body", [b"", b"\0", b"x" * 40])
def test_broken_metadata_make_no_picture_unreadable(kind: bytes, body: bytes) -> None:
    broken = chunk(kind, body)[:-1] + b"?"  # nor does a wrong checksum
    assert decode_image(bombs.png_with(broken)).size == (160, 120)


def test_only_chunks_of_the_picture_go_to_the_decoder() -> None:
    content = bombs.png_with(chunk(b"tEXt", b"secret\0secret"), chunk(b"abCd", b"secret"), chunk(b"PLTE", bytes(30)))
    file = png.parse(content)
    assert b"secret" not in b"".join((*file.head, *file.pixels))
    assert len(file.head) == 3
    assert decode_image(content).size == (160, 120)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_the_picture_is_damage(kind: bytes) -> None:
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))
    content = bytearray(write(np.zeros((20, 20, 1), int), 8, 3, before=palette))
    at = content.index(kind)
    (length,) = struct.unpack_from(">I", content, at - 4)
    content[at + 4 + length] ^= 1
    with pytest.raises(ImageError, match=f"damaged or truncated: the checksum of {kind.decode()} is wrong"):
        decode_image(bytes(content))


HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 8, 3, 0, 0, 0))


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (b"", "a chunk is cut off"),
        (HEADER, "a chunk is cut off"),
        (HEADER + chunk(b"IEND"), "it has no pixels"),
        (HEADER + HEADER, "the header is wrong"),
        (chunk(b"IHDR", bytes(13)), "the header names no size"),
        (chunk(b"IHDR", b""), "the header is wrong"),
        (chunk(b"IDAT"), "it does not begin with its header"),
        (HEADER + chunk(b"PLTE", bytes(771)), "the palette has a wrong length"),
        (HEADER + chunk(b"tRNS", bytes(10**6)), "the transparency has more entries than a palette"),
        (HEADER + chunk(b"a\0\n1"), "there is no chunk"),
        (HEADER + chunk(b"acTL"), "the animation control is cut off"),
    ],
)
def test_a_broken_structure_is_damage(chunks: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=f"image is damaged or truncated: {reason}"):
        decode_image(bombs.SIGNATURE + chunks)


def test_what_follows_the_pixels_may_be_missing() -> None:
    content = bombs.plain_png()
    assert content[-12:] == chunk(b"IEND")
    for cut in (1, 4, 12):
        assert decode_image(content[:-cut]).size == (160, 120)


@pytest.mark.parametrize("kind", [b"abCd", b"tEXt", b"IDAT", b"fdAT", b"eXIf"])
def test_chunks_without_end_are_refused(kind: bytes) -> None:
    steps = 0
    with pytest.raises(ImageError, match="image has more than 50,000 PNG chunks"):
        for steps, _ in enumerate(png._chunks(bombs.empty_chunks(kind), "image"), 1):  # noqa: B007
            pass
    assert steps == png.MAX_CHUNKS
    with pytest.raises(ImageError, match="image has more than 50,000 PNG chunks"):
        decode_image(bombs.empty_chunks(kind))


def test_a_stream_longer_than_the_picture_is_not_unpacked_to_its_end() -> None:
    assert decode_image(bombs.overlong_pixels()).size == (64, 64)


@pytest.mark.parametrize("place", ["before the pixels", "after the pixels", "XMP", "packed XMP", "profile", "packed"])
def test_an_orientation_is_read_wherever_it_stands(place: str) -> None:
    exif, xmp = tiff(6), b'<x tiff:Orientation="6"/>'
    profile = b"\nexif\n 40\n" + exif.hex().encode()
    base = bombs.plain_png(40, 30)
    start, end = {
        "before the pixels": (chunk(b"eXIf", exif), b""),
        "after the pixels": (b"", chunk(b"eXIf", exif)),
        "XMP": (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), b""),
        "packed XMP": (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)), b""),
        "profile": (chunk(b"tEXt", b"Raw profile type exif\0" + profile), b""),
        "packed": (chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)), b""),
    }[place]
    assert decode_image(base[:33] + start + base[33:-12] + end + base[-12:]).size == (30, 40)


PARTS = st.builds(
    lambda kind, body, flaw: chunk(kind, body)[:-1] + b"?" if flaw else chunk(kind, body),
    st.sampled_from([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"eXIf", b"iTXt", b"q?zz"]),
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda *fields: struct.pack(">IIBBBBB", *fields),
            st.integers(0, 40), st.integers(0, 40), st.sampled_from([1, 8, 16]), st.integers(0, 6),
            st.just(0), st.just(0), st.integers(0, 1),
        ),
        st.integers(0, 2000).map(lambda size: zlib.compress(bytes(size))),
    ),
    st.integers(0, 9).map(lambda value: value == 0),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PARTS, max_size=8).map(b"".join), st.booleans())
def test_any_chunks_end_in_an_image_or_an_image_error(chunks: bytes, headed: bool) -> None:
    with suppress(ImageError):
        assert decode_image(bombs.SIGNATURE + (HEADER if headed else b"") + chunks).mode == "RGB"


MUTANTS = [
    bombs.plain_png(40, 32),
    write(np.zeros((20, 20, 1), int), 8, 3, True, chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))),
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(MUTANTS), st.data())
def test_any_mutant_ends_in_an_image_or_an_image_error(original: bytes, data: st.DataObject) -> None:
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(ImageError):
        assert decode_image(bytes(content)).mode == "RGB"
