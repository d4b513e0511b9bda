"""Decode an untrusted image file into upright 8-bit RGB, or say why not."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageOps, UnidentifiedImageError

from lesion.errors import ImageError, ImageTooLarge, NotAnImage, NotFoundError

T = TypeVar("T")

MAX_BYTES = 16 * 2**20
MAX_PIXELS = 25_000_000  # a 6000×4000 camera frame fits; decoded it is 75 MB
MIN_SIDE = 16
# MPO is the JPEG of cameras that store a second picture behind the first: the first one is meant.
FORMATS = ("JPEG", "PNG")


def read_image(path: Path, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the file at `path`; see `decode_image`. NotFoundError when there is none."""
    try:
        if path.stat().st_size > max_bytes:
            raise _too_many_bytes(str(path), path.stat().st_size, max_bytes)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"no such image: {path}", hint="check the path") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}", hint="name one readable file") from error
    return decode_image(content, str(path), max_bytes, max_pixels)


def decode_image(
    content: bytes, name: str = "image", max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode JPEG or PNG bytes.

    16-bit grey is scaled rather than clipped, transparency is laid on white, CMYK is converted, and the EXIF
    orientation is applied. Size is judged at the header, before any pixel is decoded.

    Returns:
        Mode RGB, upright, every side at least 16 pixels.

    Raises:
        NotAnImage: the bytes are no JPEG or PNG.
        ImageTooLarge: more than `max_bytes` or `max_pixels`.
        ImageError: truncated, damaged, too small, or several frames.
    """
    if len(content) > max_bytes:
        raise _too_many_bytes(name, len(content), max_bytes)
    with warnings.catch_warnings():
        # Pillow's own bomb limits are laxer than ours; its warning would only be noise.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = _open(content, name)
        _check_header(image, name, max_pixels)
        return _guard(lambda: _upright_rgb(image), name)


def _open(content: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise NotAnImage(f"{name} is not a JPEG or PNG image", hint="convert it to JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"{name} has too many pixels", hint="downscale it") from error
    except Exception as error:  # Pillow's plug-ins raise SyntaxError, ValueError, struct.error … on damaged headers
        raise _damaged(name, error) from error


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
    if frames > 1 and image.format != "MPO":
        raise ImageError(f"{name} has {frames} frames, one expected", hint="save the frame you mean as an image")


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16-bit grey; convert("RGB") would clip all above 255 to white
        upright = upright.convert("I").point(lambda value: value / 257).convert("L")
    if "A" in upright.getbands() or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return upright.convert("RGB")


def _guard(step: Callable[[], T], name: str) -> T:
    try:
        return step()
    except Exception as error:  # a damaged stream surfaces as OSError, ValueError, SyntaxError, zlib.error …
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name} is damaged or truncated: {error}", hint="fetch or export the image again")


def _too_many_bytes(name: str, size: int, limit: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"{name} has {size / 2**20:.1f} MiB, at most {limit / 2**20:.0f} MiB expected",
        hint="compress or downscale it",
    )
