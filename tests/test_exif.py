"""The orientation, out of any metadata."""

import struct
import warnings
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.exif import MAX_ENTRIES, from_raw_profile, read_orientation, unpack_text
from lesion.images import decode_image
from tests import bombs


def tiff(
    value: int, kind: int = 3, count: int = 1, order: str = "<", before: int = 0, magic: bytes | None = None
) -> bytes:
    """A TIFF structure with the orientation after `before` other entries."""
    form = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}[kind]
    values = struct.pack(order + form * count, *[value] * count)
    entries = b"".join(struct.pack(order + "HHLL", 1 + number % 200, 4, 1, 0) for number in range(before))
    end = 8 + 2 + 12 * (before + 1) + 4
    field = values.ljust(4, b"\0") if len(values) <= 4 else struct.pack(order + "L", end)
    head = (magic or {"<": b"II*\0", ">": b"MM\0*"}[order]) + struct.pack(order + "LH", 8, before + 1)
    return head + entries + struct.pack(order + "HHL", 0x0112, kind, count) + field + bytes(4) + values


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4, 6, 8, 9])
@pytest.mark.parametrize("count", [1, 3])
def test_every_integer_is_read(order: str, kind: int, count: int) -> None:
    for value in range(1, 9):
        assert read_orientation(tiff(value, kind, count, order)) == value
        assert read_orientation(b"Exif\0\0" * 2 + tiff(value, kind, count, order)) == value


@pytest.mark.parametrize(("order", "magic"), [(">", b"MM*\0"), ("<", b"II\0*")])
def test_a_header_in_the_other_byte_order_is_read(order: str, magic: bytes) -> None:
    assert read_orientation(tiff(6, order=order, magic=magic)) == 6


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_unknown_value_is_upright(value: int) -> None:
    assert read_orientation(tiff(value)) == 1


def test_every_cut_is_survived() -> None:
    whole = tiff(6, 4, 3)
    assert read_orientation(whole) == 6
    assert {read_orientation(whole[:length]) for length in range(len(whole))} <= {1, 6}


def test_a_directory_is_read_up_to_a_limit() -> None:
    assert read_orientation(tiff(6, before=MAX_ENTRIES - 1)) == 6
    assert read_orientation(tiff(6, before=MAX_ENTRIES)) == 1


def test_the_xmp_packet_counts_where_the_exif_data_say_nothing() -> None:
    assert read_orientation(b"", b'<a tiff:Orientation="8"/>') == 8
    assert read_orientation(b"", b"<tiff:Orientation>3</tiff:Orientation>") == 3
    assert read_orientation(tiff(6), b'<a tiff:Orientation="8"/>') == 6
    assert read_orientation(b"", b'<a tiff:Orientation="9"/>') == 1


def test_a_profile_in_hexadecimal_is_read() -> None:
    data = b"Exif\0\0" + tiff(6)
    text = b"\nexif\n      32\n" + b"\n".join(data.hex().encode()[at : at + 72] for at in range(0, len(data) * 2, 72))
    assert from_raw_profile(text) == data
    assert from_raw_profile(b"\nexif\n 2\nxyz") == b""
    assert from_raw_profile(b"\xff") == b""


def test_a_text_is_unpacked_up_to_a_limit() -> None:
    assert unpack_text(zlib.compress(b"text")) == b"text"
    assert len(unpack_text(zlib.compress(bytes(2**25)))) == 2**20
    assert unpack_text(b"nothing packed") == b""


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_metadata_are_never_told(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    exif = bombs.exif_entries(65_000)
    content = bombs.jpeg_with_exif(exif) if kind == "jpeg" else bombs.png_with(bombs.chunk(b"eXIf", exif))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert decode_image(content).size == (160, 120)
        many = tiff(1, count=40_000)
        decode_image(bombs.png_with(bombs.chunk(b"eXIf", many)))
    assert not told
    assert not caplog.records


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", tiff(6)]), st.binary(max_size=200), st.binary())
def test_any_bytes_have_an_orientation(start: bytes, rest: bytes, xmp: bytes) -> None:
    assert 1 <= read_orientation(start + rest, xmp) <= 8
