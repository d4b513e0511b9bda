"""Decode an untrusted image file into upright 8-bit RGB, or say why not."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile

from lesion.errors import ImageError, ImageTooLarge, NotAnImage, NotFoundError
from lesion.files import open_regular

T = TypeVar("T")

MAX_BYTES = 16 * 2**20
MAX_PIXELS = 25_000_000  # a 6000×4000 camera frame fits; decoded it is 75 MB
MIN_SIDE = 16
# By first bytes. Not Image.open: it warns of many pixels, and to silence a warning is to change it for all threads.
OPENERS: dict[bytes, Callable[[io.BytesIO], Image.Image]] = {
    b"\xff\xd8\xff": jpeg_factory,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
}
# By EXIF orientation. Not ImageOps.exif_transpose: it writes the EXIF anew and fails on any odd entry of a camera's.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the file at `path`; see `decode_image`. NotFoundError when there is none."""
    try:
        with open_regular(path) as file:
            content = file.read(max_bytes + 1)  # whatever size it claims: it may grow
    except FileNotFoundError as error:
        raise NotFoundError(f"no such image: {path}", hint="check the path") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}", hint="name one readable file") from error
    return decode_image(content, str(path), max_bytes, max_pixels)


def decode_image(
    content: bytes, name: str = "image", max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode JPEG or PNG bytes into an image as `to_upright_rgb` returns it.

    Raises:
        NotAnImage: the bytes are no JPEG or PNG.
        ImageTooLarge: more than `max_bytes` or `max_pixels`.
        ImageError: truncated, damaged, too small, or several frames.
    """
    if len(content) > max_bytes:
        raise ImageTooLarge(f"{name} has more than {max_bytes / 2**20:.3g} MiB", hint="compress or downscale it")
    opener = next((opener for magic, opener in OPENERS.items() if content.startswith(magic)), None)
    if opener is None:
        raise NotAnImage(f"{name} is not a JPEG or PNG image", hint="convert it to JPEG or PNG")
    return to_upright_rgb(_guard(lambda: opener(io.BytesIO(content)), name), name, max_pixels)


def to_upright_rgb(image: Image.Image, name: str = "image", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Bring any Pillow image into the one form that all later code expects.

    16-bit grey is scaled rather than clipped, transparency is laid on white, CMYK is converted, and the EXIF
    orientation is applied. Size is judged at the header, before any pixel is decoded.

    Returns:
        Mode RGB, upright, every side at least 16 pixels.

    Raises:
        ImageTooLarge: more than `max_pixels`.
        ImageError: truncated, damaged, too small, or several frames.
    """
    _check_header(image, name, max_pixels)
    return _guard(lambda: _convert(image), name)


def _check_header(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{name} is {width}×{height}: {width * height / 1e6:.0f} megapixels, "
            f"at most {max_pixels / 1e6:.0f} expected",
            hint="downscale it",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name} is {width}×{height}: every side must have at least {MIN_SIDE} pixels")
    frames = _guard(lambda: int(getattr(image, "n_frames", 1)), name)
    # MPO is the JPEG of cameras that store a second picture behind the first: the first one is meant.
    if frames > 1 and image.format != "MPO":
        raise ImageError(f"{name} has {frames} frames, one expected", hint="save the frame you mean as an image")


def _convert(image: Image.Image) -> Image.Image:
    image.load()
    upright = _turn(image)
    if upright.mode.startswith("I"):  # 16-bit grey; convert("RGB") would clip all above 255 to white
        upright = upright.convert("I").point(lambda value: value / 257).convert("L")
        if "transparency" in upright.info:
            upright.info["transparency"] //= 257
    if "A" in upright.getbands() or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return upright if upright.mode == "RGB" else upright.convert("RGB")  # which copies


def _turn(image: Image.Image) -> Image.Image:
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the metadata is unreadable, the picture is not
        turn = None
    return image if turn is None else image.transpose(turn)


def _guard(step: Callable[[], T], name: str) -> T:
    try:
        return step()
    except Exception as error:  # a damaged stream surfaces as OSError, ValueError, SyntaxError, zlib.error …
        raise ImageError(f"{name} is damaged or truncated: {error}", hint="fetch or export the image again") from error
