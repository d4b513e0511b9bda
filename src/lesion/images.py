"""Decode an untrusted image file into upright 8-bit RGB, or say why not."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image

from lesion import jpeg, png
from lesion.errors import ImageError, ImageTooLarge, LesionError, NotAnImage, NotFoundError
from lesion.exif import read_orientation
from lesion.files import open_regular

T = TypeVar("T")

MAX_BYTES = 16 * 2**20
MAX_PIXELS = 25_000_000  # a 6000×4000 camera frame fits; decoded it is 75 MB
MIN_SIDE = 16
STRIP = 2**20  # pixels that are converted at a time
# By first bytes: what walks the file before any decoder sees it.
OPENERS: dict[bytes, Callable[[bytes, str], jpeg.JpegFile | png.PngFile]] = {
    jpeg.MAGIC: jpeg.parse,
    png.MAGIC: png.parse,
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
        # Such a character is a byte that is no UTF-8: the path may come from a table or list in another encoding.
        is_text = not any("\udc80" <= each <= "\udcff" for each in str(path))
        hint = "check the path" if is_text else "is the path from a table or list? save that as UTF-8"
        raise NotFoundError(f"no such image: {path}", hint=hint) from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}", hint="name one readable file") from error
    return decode_image(content, str(path), max_bytes, max_pixels)


def decode_image(
    content: bytes, name: str = "image", max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode JPEG or PNG bytes into an image as `to_upright_rgb` returns it.

    Metadata are read for the orientation alone. The work is judged before anything is decoded: a file of `max_bytes`
    takes little more time than the largest ordinary photograph.

    Raises:
        NotAnImage: the bytes are no JPEG or PNG.
        ImageTooLarge: more than `max_bytes` or `max_pixels`.
        ImageError: truncated, damaged, too small, several frames, an unusual kind of JPEG, or too much work.
    """
    if len(content) > max_bytes:
        raise ImageTooLarge(f"{name} has more than {max_bytes / 2**20:.3g} MiB", hint="compress or downscale it")
    opener = next((opener for magic, opener in OPENERS.items() if content.startswith(magic)), None)
    if opener is None:
        raise NotAnImage(f"{name} is not a JPEG or PNG image", hint="convert it to JPEG or PNG")
    file = _guard(lambda: opener(content, name), name)
    _check_size(file.size, name, max_pixels)
    file.check(max_pixels)
    return _guard(lambda: _turn(_flatten(file.decode()), file.orientation), name)


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
    _check_size(image.size, name, max_pixels)
    frames = _guard(lambda: int(getattr(image, "n_frames", 1)), name)
    # MPO is the JPEG of cameras that store a second picture behind the first: the first one is meant.
    if frames > 1 and image.format != "MPO":
        raise ImageError(f"{name} has {frames} frames, one expected", hint="save the frame you mean as an image")
    _guard(image.load, name)
    return _guard(lambda: _turn(_flatten(image), _orientation_of(image)), name)


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{name} is {width}×{height}: {width * height / 1e6:.0f} megapixels, "
            f"at most {max_pixels / 1e6:.0f} expected",
            hint="downscale it",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name} is {width}×{height}: every side must have at least {MIN_SIDE} pixels")


def _flatten(image: Image.Image) -> Image.Image:
    """Convert a loaded image to RGB, strip by strip: a conversion of the whole needs several copies of it."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    width, height = image.size
    rows = max(1, STRIP // width)
    flat = Image.new("RGB", image.size)
    for top in range(0, height, rows):
        flat.paste(_convert(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return flat


def _convert(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; convert("RGB") would clip all above 255 to white
        image = image.convert("I").point(lambda value: value / 257).convert("L")
        if "transparency" in image.info:
            image.info["transparency"] //= 257
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _orientation_of(image: Image.Image) -> int:
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    if isinstance(exif, bytes):
        return read_orientation(exif, xmp if isinstance(xmp, bytes) else b"")
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))  # of TIFF, or set by the caller
    except Exception:  # the metadata is unreadable, the picture is not
        return 1


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _guard(step: Callable[[], T], name: str) -> T:
    try:
        return step()
    except LesionError:
        raise
    except Exception as error:  # a damaged stream surfaces as OSError, ValueError, SyntaxError, zlib.error …
        raise ImageError(f"{name} is damaged or truncated: {error}", hint="fetch or export the image again") from error
