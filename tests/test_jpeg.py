"""JPEG: the walk of the markers, the bound on the work, lost data, and the same pixels as Pillow's."""

import io
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lesion import jpeg
from lesion.errors import ImageError
from lesion.images import MAX_PIXELS, decode_image
from tests import bombs


def noise(width: int = 83, height: int = 61) -> Image.Image:
    rng = np.random.default_rng(4)
    small = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or noise()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def decode_with_pillow(content: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def assert_as_pillow(content: bytes) -> None:
    assert np.array_equal(np.asarray(decode_image(content)), decode_with_pillow(content))


def patch(content: bytes, at: int, *values: int) -> bytes:
    return content[:at] + bytes(values) + content[at + len(values) :]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", [0, 3])
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_pixels_are_those_of_pillow(progressive: bool, restart: int, sampling: int) -> None:
    assert_as_pillow(encode(progressive=progressive, restart_marker_blocks=restart, subsampling=sampling))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_pixels_of_one_and_four_channels_are_those_of_pillow(mode: str, progressive: bool) -> None:
    assert_as_pillow(encode(noise().convert(mode), progressive=progressive))


@pytest.mark.parametrize("transform", [0, 1, 2, 9])
def test_every_colour_transform_of_adobe_is_read_as_by_pillow(transform: int) -> None:
    cmyk = encode(noise().convert("CMYK"))
    assert_as_pillow(patch(cmyk, cmyk.index(b"Adobe") + 11, transform))
    plain = encode()
    assert plain[2:4] == b"\xff\xe0"
    adobe = bombs.segment(0xEE, b"Adobe\0d\0\0\0\0" + bytes([transform]))
    assert_as_pillow(plain[:2] + adobe + plain[20:])  # in the place of the JFIF segment
    assert_as_pillow(plain[:20] + adobe + plain[20:])


@pytest.mark.parametrize("factors", [(0x21, 0x22, 0x11), (0x31, 0x11, 0x11), (0x22, 0x12, 0x11), (0x42, 0x11, 0x11)])
def test_rare_sampling_factors_are_read_as_by_pillow(factors: tuple[int, ...]) -> None:
    content = encode(subsampling=0)
    at = content.index(b"\xff\xc0")
    for number, factor in enumerate(factors):
        content = patch(content, at + 11 + 3 * number, factor)
    assert_as_pillow(content)


def test_a_lossless_gray_jpeg_is_read_as_by_pillow() -> None:
    header = struct.pack(">BHHB", 8, 64, 64, 1) + bytes([1, 0x11, 0])
    table = bombs.segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\0")
    scan = bombs.segment(0xDA, bytes([1, 1, 0, 1, 0, 0])) + bytes(512)
    assert_as_pillow(bombs.START + bombs.segment(0xC3, header) + table + scan + bombs.END)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content + b"\xff\xd8\xff tail" * 1000,
        lambda content: content[:20] + b"\0junk\xff\0\xff\xd3\xff\xff" + content[20:],
        lambda content: content[:-2] + b"\xff\xff\xff" + content[-2:],
        lambda content: content[:-2] + bytes(20) + content[-2:],
        lambda content: content[:-2] + b"\1\2" + content[-2:],
        lambda content: patch(content, content.index(b"\xff\xda") + 11, 0, 0, 0),
        lambda content: content.replace(b"JFIF\0\1\1", b"JFIF\0\7\7"),
    ],
    ids=["after the end", "between segments", "fill bytes", "padding", "two bytes", "spectral selection", "JFIF 7"],
)
def test_what_loses_no_data_is_no_damage(change: Any) -> None:
    whole = encode()
    changed = change(whole)
    assert changed != whole
    assert np.array_equal(np.asarray(decode_image(changed)), np.asarray(decode_image(whole)))


HOLES: dict[str, Any] = {
    "a quarter of zeros": lambda c: c[: len(c) // 2] + bytes(len(c) // 4) + c[len(c) // 2 + len(c) // 4 :],
    "zeros to the end": lambda c: c[: len(c) * 6 // 10] + bytes(len(c) * 4 // 10 - 2) + c[-2:],
    "zeros in the middle": lambda c: c[: len(c) // 2] + bytes(900) + c[len(c) // 2 + 900 :],
    "a part left out": lambda c: c[: len(c) // 2] + c[len(c) * 7 // 10 :],
    "cut, with an end mark": lambda c: c[: len(c) // 2] + c[-2:],
    "a part twice": lambda c: c[: len(c) * 7 // 10] + c[len(c) // 2 :],
}


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_with_a_hole_is_damaged(hole: str, progressive: bool, mode: str) -> None:
    image = noise(332, 244).convert(mode)
    with pytest.raises(ImageError, match="image is damaged or truncated"):
        decode_image(HOLES[hole](encode(image, quality=95, progressive=progressive)))


@pytest.mark.parametrize("cut", [1, 2, 3, 10])
def test_a_jpeg_without_its_end_is_truncated(cut: int) -> None:
    with pytest.raises(ImageError, match="damaged or truncated: it has no end marker"):
        decode_image(encode()[:-cut])


def test_a_colour_plane_without_a_scan_is_lost() -> None:
    content = bytearray(bombs.scan_bomb(64, 1))
    at = content.index(b"\xff\xc2")
    header = struct.pack(">BHHB", 8, 64, 64, 3) + b"".join(bytes([name, 0x11, 0]) for name in (1, 2, 3))
    content[at : at + 13] = bombs.segment(0xC2, header)
    with pytest.raises(ImageError, match="no scan for one of the colour planes"):
        decode_image(bytes(content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bombs.repeated_frames(), "two frames in one picture"),
        (bombs.nested_start(), "unexpected marker 0xd8"),
        (bombs.later_height(), "the frame has no size"),
        (bombs.START + b"\xff\xe0\0\1" + bombs.END, "the segment of marker 0xe0 is cut off"),
        (bombs.START + b"\xff\xe0\0\x20", "the segment of marker 0xe0 is cut off"),
        (bombs.START + b"\xff\xd9", "no scan for one of the colour planes"),
        (bombs.START + bombs.segment(0xC0, b"\x08"), "the frame header is wrong"),
        (bombs.START + bombs.scan(0, 0, 0, 0, b"") + bombs.END, "the header of a scan is wrong"),
        (bombs.START + bombs.segment(0xDA, b"") + bombs.END, "the header of a scan is wrong"),
        (bombs.START + bombs.segment(0xDD, b"") + bombs.END, "the restart interval has a wrong length"),
    ],
)
def test_a_broken_structure_is_damage(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=f"image is damaged or truncated: {reason}"):
        decode_image(content)


@pytest.mark.parametrize("marker", [0xC5, 0xC9, 0xCA, 0xCB, 0xCF])
def test_arithmetic_coding_and_hierarchies_are_refused(marker: int) -> None:
    content = encode()
    with pytest.raises(ImageError, match="image is an arithmetic-coded or hierarchical JPEG"):
        decode_image(patch(content, content.index(b"\xff\xc0") + 1, marker))


def test_other_than_eight_bits_are_refused() -> None:
    content = encode()
    with pytest.raises(ImageError, match="image is a JPEG of 3 channels of 12 bits, 1, 3 or 4 of 8 bits expected"):
        decode_image(patch(content, content.index(b"\xff\xc0") + 4, 12))


# Work


def get_work(content: bytes) -> float:
    return jpeg.parse(content).work_ns / (jpeg.NS_PER_PIXEL * MAX_PIXELS)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"progressive": True, "subsampling": 0}], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_an_ordinary_image_of_the_largest_size_takes_far_less_work_than_allowed(
    mode: str, options: dict[str, Any]
) -> None:
    content = bytearray(encode(Image.new(mode, (64, 64)), **options))
    at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    content[at + 5 : at + 9] = struct.pack(">HH", 4166, 6000)  # the walk reads no pixels
    assert 0.01 < get_work(bytes(content)) < 0.75


@pytest.mark.parametrize(
    "bomb",
    [
        bombs.refinement_bomb(),
        bombs.scan_bomb(scans=200),
        bombs.missing_data_bomb(),
        bombs.restart_bomb(),
        bombs.sequential_bomb(scans=40),
        bombs.band_bomb(passes=2),
        bombs.refinement_bomb(1024, 400),
    ],
    ids=["refinements", "bands", "no data", "restarts", "sequential", "each bit of each band", "one megapixel"],
)
def test_more_work_than_any_photograph_takes_is_refused_before_decoding(
    bomb: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simplejpeg.decode_jpeg", None)
    with pytest.raises(ImageError, match=r"image has \d+ scans that take .* times the work allowed") as caught:
        decode_image(bomb, max_pixels=max(1024**2, jpeg.parse(bomb).size[0] ** 2))
    assert caught.value.http_status == 422
    assert caught.value.hint == "save it again as a baseline JPEG or as PNG"


def test_more_scans_than_the_limit_are_refused() -> None:
    assert decode_image(bombs.scan_bomb(64, jpeg.MAX_SCANS - 1)).size == (64, 64)
    with pytest.raises(ImageError, match="image has more than 500 scans"):
        decode_image(bombs.scan_bomb(64, 20_000))


class Steps:
    """Counts the steps of the walk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        find = jpeg._find_marker

        def counted(content: bytes, at: int) -> int:
            self.count += 1
            return find(content, at)

        monkeypatch.setattr(jpeg, "_find_marker", counted)


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xFE, 0xC4, 0xDB, 0xDC], ids=hex)
def test_segments_without_end_are_refused(marker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    with pytest.raises(ImageError, match="image has more than 5,000 JPEG segments"):
        decode_image(bombs.empty_segments(marker))
    assert steps.count == jpeg.MAX_SEGMENTS


@pytest.mark.parametrize(
    "bomb",
    [bombs.fill_bytes, bombs.junk_bytes, lambda: bombs.junk_bytes(unit=b"\xff\xd3"), bombs.table_flood],
    ids=["fill bytes", "stuffed zeros", "restart markers", "tables"],
)
def test_sixteen_mebibytes_of_nothing_take_few_steps(bomb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    assert np.array_equal(np.asarray(decode_image(bomb())), np.asarray(decode_image(bombs.plain_jpeg())))
    assert steps.count < 600


def test_a_scan_that_runs_on_is_walked_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    with pytest.raises(ImageError, match="extraneous bytes"):
        decode_image(bombs.stuffed_scan())
    assert steps.count < 20


def test_only_what_the_picture_needs_goes_to_the_decoder() -> None:
    secret = b"this is metadata"
    exif = Image.Exif()
    exif[0x010E] = secret.decode()
    content = encode(exif=exif, comment=secret, icc_profile=secret * 9000, xmp=secret)
    assert content.count(secret) > 9000
    assert secret not in b"".join(jpeg.parse(content).parts)


# Any bytes

SEGMENTS = st.builds(
    lambda marker, body, rest: bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + rest,
    st.sampled_from([0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE, 0xFE, 0xD9, 0xD8, 0xC9, 0x01]),
    st.one_of(
        st.binary(max_size=30),
        st.builds(
            lambda h, w, parts: struct.pack(">BHHB", 8, h, w, len(parts)) + b"".join(map(bytes, parts)),
            st.integers(0, 70), st.integers(0, 70),
            st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0x11, 0x21, 0x44, 0]), st.just(0)), max_size=4),
        ),
        st.builds(
            lambda parts, rest: bytes([len(parts)]) + b"".join(map(bytes, parts)) + bytes(rest),
            st.lists(st.tuples(st.integers(0, 3), st.just(0)), max_size=4),
            st.tuples(st.integers(0, 70), st.integers(0, 70), st.integers(0, 255)),
        ),
    ),
    st.one_of(st.just(b""), st.binary(max_size=40)),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(SEGMENTS, max_size=12).map(b"".join))
def test_any_segments_end_in_an_image_or_an_image_error(segments: bytes) -> None:
    for content in (bombs.START + b"\xff" + segments, bombs.START + segments + bombs.END):
        if content.startswith(jpeg.MAGIC):
            with suppress(ImageError):
                assert decode_image(content).mode == "RGB"


MUTANTS = [encode(noise(40, 32)), encode(noise(40, 32), progressive=True), encode(noise(40, 32).convert("CMYK"))]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(MUTANTS), st.data())
def test_any_mutant_ends_in_an_image_or_an_image_error(original: bytes, data: st.DataObject) -> None:
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(3, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(ImageError):
        assert decode_image(bytes(content)).mode == "RGB"
