"""Decoding untrusted files: what is accepted comes out upright, RGB and unchanged; all else is refused in words."""

import gc
import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lesion.errors import ImageError, ImageTooLarge, NotAnImage, NotFoundError
from lesion.images import decode_image, read_image

Array = npt.NDArray[Any]
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def paint(width: int = 48, height: int = 36) -> Image.Image:
    """A smooth picture without any symmetry, so that JPEG changes it little and every turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 200 // width + 30, y * 180 // height + 20, (x * 90 // width + y * 90 // height) + 40)
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(samples: Array, bits: int, colour: int, *extra: bytes) -> bytes:
    """A PNG by hand, for the 16-bit kinds that Pillow cannot write; `samples` is (height, width, channels)."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    stream = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join((SIGNATURE, chunk(b"IHDR", header), *extra, chunk(b"IDAT", stream), chunk(b"IEND", b"")))


def to_array(content: bytes) -> npt.NDArray[np.int64]:
    image = decode_image(content)
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


def average_difference(a: Array, b: Array) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.int64) - b.astype(np.int64)).mean())


def test_a_png_comes_back_to_the_bit() -> None:
    assert np.array_equal(to_array(encode(paint())), np.asarray(paint()))


def test_a_jpeg_comes_back_closely() -> None:
    assert average_difference(to_array(encode(paint(), "JPEG", quality=95)), np.asarray(paint())) < 2


def test_a_text_file_named_jpg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("These are my notes.\n")
    with pytest.raises(NotAnImage) as caught:
        read_image(path)
    assert caught.value.message == f"{path} is not a JPEG or PNG image"
    assert caught.value.hint == "convert it to JPEG or PNG"
    assert (caught.value.exit_code, caught.value.http_status) == (65, 415)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PDF", "EPS"])
def test_other_image_formats_are_refused(kind: str) -> None:
    with pytest.raises(NotAnImage, match="lesion7 is not a JPEG or PNG image"):
        decode_image(encode(paint(), kind), "lesion7")


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8", SIGNATURE[:7]], ids=["empty", "1", "2", "7"])
def test_nothing_and_next_to_nothing_are_no_image(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "short.png"
    path.write_bytes(content)
    with pytest.raises(NotAnImage, match="is not a JPEG or PNG"):
        read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_truncated_image_is_called_truncated(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), kind)
    with pytest.raises(ImageError) as caught:
        decode_image(content[: int(len(content) * share)], "half.jpg")
    assert type(caught.value) is ImageError
    assert caught.value.message.startswith("half.jpg is damaged or truncated: ")
    assert caught.value.hint == "fetch or export the image again"
    assert (caught.value.exit_code, caught.value.http_status) == (65, 422)


def test_a_png_with_a_wrong_checksum_is_damaged() -> None:
    content = bytearray(encode(paint()))
    content[-20] ^= 1
    with pytest.raises(ImageError, match="damaged"):
        decode_image(bytes(content))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path)
    assert caught.value.message == f"cannot read {tmp_path}: it is a folder, not a regular file"
    assert caught.value.hint == "name one readable file"
    assert caught.value.exit_code == 65


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        read_image(tmp_path / "nowhere.png")
    assert caught.value.message == f"no such image: {tmp_path / 'nowhere.png'}"
    assert caught.value.hint == "check the path"
    assert (caught.value.exit_code, caught.value.http_status) == (66, 404)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "file.txt/lesion.png"], ids=["too long", "inside a file"])
def test_an_impossible_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(ImageError, match="cannot read"):
        read_image(tmp_path / name)


def test_more_pixels_than_allowed_are_refused_before_any_is_decoded(tmp_path: Path) -> None:
    rows = zlib.compressobj()
    stream = b"".join(rows.compress(bytes(1 + 13000 // 8)) for _ in range(13000)) + rows.flush()
    header = struct.pack(">IIBBBBB", 13000, 13000, 1, 0, 0, 0, 0)
    bomb = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    assert len(bomb) < 100_000
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    # A process of its own: the peak of this one may be far above what a decoded bomb needs.
    program = """
import resource, sys, time
from pathlib import Path
from lesion.errors import ImageTooLarge
from lesion.images import read_image
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    read_image(Path(sys.argv[1]))
except ImageTooLarge as error:
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(error.message, error.hint, error.exit_code, error.http_status, sep="|")
    print(grown, time.process_time() - start)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, cost = done.stdout.splitlines()
    assert told == f"{path} is 13000×13000: 169 megapixels, at most 25 expected|downscale it|65|413"
    kilobytes, seconds = map(float, cost.split())
    assert kilobytes < 20_000
    assert seconds < 1


@pytest.mark.parametrize("side", [20_000, 2**31 - 1], ids=["bomb", "largest"])
def test_a_header_that_lies_about_its_size_is_refused(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    lie = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    with pytest.raises(ImageTooLarge, match=f"{side}×{side}"):
        decode_image(lie)


def test_the_limit_of_pixels_is_inclusive() -> None:
    content = encode(paint(40, 30))
    assert decode_image(content, max_pixels=1200).size == (40, 30)
    with pytest.raises(ImageTooLarge, match="40×30"):
        decode_image(content, max_pixels=1199)


def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(encode(paint()))
    size = path.stat().st_size
    assert read_image(path, max_bytes=size).size == (48, 36)
    with pytest.raises(ImageTooLarge) as caught:
        read_image(path, max_bytes=size - 1)
    assert caught.value.message.startswith(f"{path} has more than ")
    assert caught.value.message.endswith(" MiB")
    assert caught.value.hint == "compress or downscale it"
    assert (caught.value.exit_code, caught.value.http_status) == (65, 413)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="it is a pipe, not a regular file"):
        read_image(tmp_path / "pipe")


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (15, 16)], ids=str)
def test_an_image_of_hardly_any_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"is {size[0]}×{size[1]}: every side must have at least 16 pixels"):
        decode_image(encode(Image.new("RGB", size)))


def test_sixteen_pixels_are_enough() -> None:
    assert decode_image(encode(Image.new("RGB", (16, 16)))).size == (16, 16)


def test_a_cmyk_jpeg_is_close_to_its_rgb_twin() -> None:
    rgb, cmyk = (to_array(encode(paint().convert(mode), "JPEG", quality=95)) for mode in ("RGB", "CMYK"))
    assert average_difference(rgb, cmyk) < 3


def test_a_grayscale_jpeg_has_three_equal_channels() -> None:
    pixels = to_array(encode(paint().convert("L"), "JPEG", quality=95))
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert average_difference(pixels[..., 0], np.asarray(paint().convert("L"))) < 2


def test_grayscale_comes_back_to_the_bit() -> None:
    gray = np.asarray(paint().convert("L"))
    assert np.array_equal(to_array(encode(Image.fromarray(gray))), np.stack([gray] * 3, axis=2))


def test_a_sixteen_bit_gray_image_equals_its_eight_bit_twin() -> None:
    values = np.random.default_rng(1).integers(0, 2**16, (20, 30), dtype=np.uint16)
    values[0, :2] = 0, 65535
    pixels = to_array(encode(Image.fromarray(values)))
    assert np.abs(pixels - np.round(values / 257)[..., None]).max() <= 1
    assert pixels[0, :2, 0].tolist() == [0, 255]


def test_a_bright_sixteen_bit_gray_image_is_not_all_white() -> None:
    values = np.linspace(60_000, 65_535, 600).astype(np.uint16).reshape(20, 30)
    pixels = to_array(encode(Image.fromarray(values)))
    assert np.abs(pixels - np.round(values / 257)[..., None]).max() <= 1
    assert 232 <= pixels.min() <= 234
    assert len(np.unique(pixels)) > 20


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)], ids=["rgb", "rgba"])
def test_a_sixteen_bit_colour_image_equals_its_eight_bit_twin(colour: int, channels: int) -> None:
    values = np.random.default_rng(2).integers(0, 2**16, (20, 30, channels), dtype=np.uint16)
    values[..., 3:] = 65535
    pixels = to_array(write_png(values, 16, colour))
    assert np.abs(pixels - np.round(values[..., :3] / 257)).max() <= 1


def test_a_hidden_gray_is_hidden_in_sixteen_bits_too() -> None:
    values = np.arange(600, dtype=np.uint16).reshape(20, 30, 1) * 100
    pixels = to_array(write_png(values, 16, 0, chunk(b"tRNS", struct.pack(">H", 51_300))))
    shown = np.abs(values[..., 0].astype(int) - 51_300) > 257
    assert pixels[values[..., 0] == 51_300].tolist() == [[255, 255, 255]]
    assert np.abs(pixels[shown] - np.round(values / 257)[shown]).max() <= 1


def test_a_transparent_pixel_is_white_whatever_colour_it_hides() -> None:
    layer = np.dstack([np.asarray(paint()), np.full((36, 48), 255, np.uint8)])
    layer[:, :10, 3] = 0
    layer[:, 10:20, 3] = 128
    pixels = to_array(encode(Image.fromarray(layer)))
    assert (pixels[:, :10] == 255).all()
    assert np.abs(pixels[:, 10:20] - (layer[:, 10:20, :3] * (128 / 255) + 127)).max() <= 1
    assert np.array_equal(pixels[:, 20:], layer[:, 20:, :3])


def test_transparent_gray_is_white() -> None:
    gray = np.asarray(paint().convert("L"))
    layer = np.dstack([gray, np.full(gray.shape, 255, np.uint8)])
    layer[:12, :, 1] = 0
    pixels = to_array(encode(Image.fromarray(layer)))
    assert (pixels[:12] == 255).all()
    assert np.array_equal(pixels[12:, :, 1], gray[12:])


@pytest.mark.parametrize("hidden", [1, bytes([255, 0, 255])], ids=["one index", "alpha per index"])
def test_a_transparent_palette_entry_is_white(hidden: int | bytes) -> None:
    image = Image.fromarray((np.arange(600) % 3).astype(np.uint8).reshape(20, 30)).convert("P")
    image.putpalette([10, 20, 30, 200, 0, 0, 40, 50, 60])
    pixels = to_array(encode(image, transparency=hidden))
    assert pixels[0, :3].tolist() == [[10, 20, 30], [255, 255, 255], [40, 50, 60]]


@pytest.mark.parametrize(
    ("mode", "hidden", "colour"), [("L", 80, (80,) * 3), ("RGB", (9, 8, 7), (9, 8, 7))], ids=["gray", "rgb"]
)
def test_a_colour_that_counts_as_transparent_is_white(mode: str, hidden: Any, colour: tuple[int, ...]) -> None:
    image = Image.new("RGB", (20, 20), (100, 100, 100))
    image.paste(colour, (0, 0, 5, 20))
    pixels = to_array(encode(image.convert(mode), transparency=hidden))
    assert (pixels[:, :5] == 255).all()
    assert (pixels[:, 5:] == 100).all()


def test_one_bit_images_are_black_and_white() -> None:
    bits = np.random.default_rng(3).integers(0, 2, (20, 30)).astype(bool)
    assert np.array_equal(to_array(encode(Image.fromarray(bits))), np.stack([bits * 255] * 3, axis=2))


STORED: dict[int, Callable[[Array], Array]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""EXIF orientation → how a camera that notes it stores an upright picture."""


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_turned_upright(orientation: int) -> None:
    upright = np.asarray(paint())
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = with_orientation(orientation)
    assert np.array_equal(to_array(encode(stored, exif=exif)), upright)
    jpeg = to_array(encode(stored, "JPEG", quality=95, subsampling=0, exif=exif))
    assert average_difference(jpeg, upright) < 2


@pytest.mark.parametrize("exif", [with_orientation(9), b"Exif\0\0garbage"], ids=["unknown value", "garbage"])
def test_an_orientation_that_says_nothing_is_ignored(exif: Any) -> None:
    assert np.array_equal(to_array(encode(paint(), exif=exif)), np.asarray(paint()))


def test_a_camera_that_notes_nonsense_elsewhere_is_still_turned_upright() -> None:
    exif = with_orientation(6)
    exif[0x0128] = 2  # the unit of the resolution: a SHORT, here labelled as the LONG that it cannot be
    short, long = (struct.pack(">HH", 0x0128, kind) for kind in (3, 4))
    raw = exif.tobytes()
    assert raw.count(short) == 1
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](np.asarray(paint()))))
    assert np.array_equal(to_array(encode(stored, exif=raw.replace(short, long))), np.asarray(paint()))


def test_an_animated_png_is_refused() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    with pytest.raises(ImageError) as caught:
        decode_image(encode(frames[0], save_all=True, append_images=frames[1:]), "film.png")
    assert caught.value.message == "film.png has 3 frames, one expected"
    assert caught.value.hint == "save the frame you mean as an image"
    assert caught.value.http_status == 422


def test_of_a_cameras_double_jpeg_the_first_picture_is_taken() -> None:
    second = Image.new("RGB", (48, 36), "white")
    content = encode(paint(), "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(content)).format == "MPO"
    pixels = to_array(content)
    assert average_difference(pixels, np.asarray(paint())) < 5
    assert average_difference(pixels, np.asarray(second)) > 50


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_text_that_unpacks_without_end_is_not_unpacked(kind: bytes) -> None:
    bomb = zlib.compress(bytes(32 * 2**20), 9)
    body = b"Comment\0\x01\0\0\0" + bomb if kind == b"iTXt" else b"Comment\0\0" + bomb
    content = encode(paint())
    image = decode_image(content[:33] + chunk(kind, body) + content[33:])
    assert image.tobytes() == decode_image(content).tobytes()


def repair(content: bytes) -> bytes:
    """The PNG with right checksums again, so that damage reaches the code behind them."""
    out, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        out += chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + length])
        at += 12 + length
    return bytes(out)


def mutate(content: bytes, rng: random.Random) -> bytes:
    raw = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at, span = rng.randrange(len(raw)), rng.randint(1, 40)
        match rng.choice(("flip", "flip", "flip", "set", "cut", "insert", "double", "drop")):
            case "flip":
                raw[at] ^= 1 << rng.randrange(8)
            case "set":
                raw[at] = rng.choice((0, 0x7F, 0x80, 0xFF))
            case "cut":
                del raw[max(at, 1) :]
            case "insert":
                raw[at:at] = rng.randbytes(span)
            case "double":
                raw[at:at] = raw[at : at + span]
            case "drop":
                del raw[at : at + span]
                raw = raw or bytearray(b"\0")
    return bytes(raw)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG, checksums repaired"])
def test_damage_of_any_kind_ends_in_an_image_or_an_image_error(kind: str) -> None:
    rng = random.Random(20)
    original = encode(paint(32, 24), kind[:4].rstrip(","), exif=with_orientation(6))
    outcomes: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in production: as an error, a warning would pass for damage
        for _ in range(400):
            mutant = mutate(original, rng)
            if kind.endswith("repaired"):
                mutant = repair(mutant)
            try:
                image = decode_image(mutant)
            except ImageError:
                outcomes["refused"] += 1
            else:
                assert image.mode == "RGB"
                assert min(image.size) >= 16
                image.tobytes()
                outcomes["decoded"] += 1
    assert outcomes["refused"] > 40
    assert outcomes["decoded"] > 4


def test_no_file_stays_open(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.png", tmp_path / "half.png"
    whole.write_bytes(encode(paint()))
    half.write_bytes(encode(paint())[:80])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(whole)
        with pytest.raises(ImageError):
            read_image(half)
        gc.collect()
    assert [str(each.message) for each in caught] == []


def test_decoding_in_many_threads_leaves_the_warning_filters_alone() -> None:
    content, before = encode(paint()), list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda _: decode_image(content), range(400)))
    assert len(images) == 400
    assert warnings.filters == before


def test_a_name_that_is_no_utf_8_and_not_there_leads_to_the_table_it_came_from() -> None:
    for name, hint in (("L\udce4sion.jpg", "save that as UTF-8"), ("Läsion.jpg", "check the path")):
        with pytest.raises(NotFoundError, match="no such image") as caught:
            read_image(Path(name))
        assert hint in caught.value.hint
