"""Decode PNG without its metadata: chunks are walked here, and only those of the picture reach Pillow.

Colour profiles, texts and unknown chunks therefore cost nothing, and never make a valid picture unreadable.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image, PngImagePlugin

from lesion.errors import ImageError
from lesion.exif import from_raw_profile, read_orientation, unpack_text

MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 50_000  # an encoder that writes a chunk per row of the highest image usual stays below
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
TRANSPARENCY_BYTES = {0: 2, 2: 6}  # by colour type: one grey level, or one colour, of 16 bits each
PALETTE = 3


@dataclass(slots=True)
class PngFile:
    """A PNG file, walked and not yet decoded."""

    name: str
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels, as stored."""
    colour: int = 0
    """Colour type of the header."""
    frames: int = 1
    """More than 1 in an animation."""
    exif: bytes = b""
    profile: tuple[bytes, bytes] = (b"", b"")
    """Kind and body of the last text chunk with EXIF data in hexadecimal."""
    xmp: bytes = b""
    """Body of the last text chunk with an XMP packet."""
    head: list[bytes] = field(default_factory=list)
    """Chunks before the pixels, whole."""
    pixels: list[memoryview] = field(default_factory=list)
    """The zlib stream, in parts."""

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 to 8."""
        exif = self.exif or from_raw_profile(_read_text(*self.profile))
        return read_orientation(exif, _read_text(b"iTXt", self.xmp))

    def check(self, max_pixels: int) -> None:
        """Raise ImageError for an animation. The work of the rest follows from the pixels and the size of the file."""
        if self.frames > 1:
            raise ImageError(
                f"{self.name} has {self.frames} frames, one expected", hint="save the frame you mean as an image"
            )

    def decode(self) -> Image.Image:
        """Decode the pixels as stored, in the mode that Pillow gives them.

        Raises:
            ValueError, OSError, SyntaxError: data are lost or damaged.
        """
        # One chunk, as Pillow takes a step in Python for each.
        whole = b"".join((MAGIC, *self.head, *_chunk(b"IDAT", b"".join(self.pixels)), *_chunk(b"IEND", b"")))
        image = PngImagePlugin.PngImageFile(io.BytesIO(whole))
        image.load()
        return image


def parse(content: bytes, name: str = "image") -> PngFile:
    """Walk the chunks of a PNG file; nothing is unpacked.

    Takes at most `MAX_CHUNKS` steps, whatever the file holds. Checksums are verified for the chunks that are kept.

    Raises:
        ValueError: the structure is damaged or cut off.
        ImageError: more chunks than allowed.
    """
    file = PngFile(name)
    ended = False  # whether the pixels are
    controls = 0  # fcTL chunks before the pixels: the first picture then is the first frame
    for kind, body in _chunks(content, name):
        if not file.size[0] and kind != b"IHDR":
            raise ValueError("it does not begin with its header")
        ended = ended or (bool(file.pixels) and kind != b"IDAT")
        match kind:
            case b"IHDR":
                _take_header(file, body)
            case b"PLTE" if not file.pixels and file.colour == PALETTE:
                if len(body) > 768 or len(body) % 3 or not body:
                    raise ValueError("the palette has a wrong length")
                file.head += _chunk(kind, bytes(body))
            case b"tRNS" if not file.pixels:
                _take_transparency(file, body)
            case b"IDAT" if not ended:
                file.pixels.append(body)
            case b"acTL" if not file.pixels and file.frames == 1:
                if len(body) < 8:
                    raise ValueError("the animation control is cut off")
                file.frames = max(1, int.from_bytes(body[:4]))
            case b"fcTL" if not file.pixels:
                controls += 1
            case b"eXIf":
                file.exif = bytes(body)
            case b"tEXt" | b"zTXt" if bytes(body[:22]) == b"Raw profile type exif\0":
                file.profile = (bytes(kind), bytes(body[22:]))
            case b"iTXt" if bytes(body[:18]) == b"XML:com.adobe.xmp\0":
                file.xmp = bytes(body[18:])
            case b"IEND":
                break
    if not file.pixels:
        raise ValueError("it has no pixels")
    if file.frames > 1 and not controls:
        file.frames += 1  # the default image is none of the animation's
    return file


def _chunks(content: bytes, name: str) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and body of each chunk, the end included; stop where the file does, if pixels came before."""
    view, at, pixels = memoryview(content), len(MAGIC), False
    for _ in range(MAX_CHUNKS):
        length, kind = int.from_bytes(view[at : at + 4]), content[at + 4 : at + 8]
        start, end = at + 8, at + 8 + length
        if end + 4 > len(content) or not kind.isalpha():
            if pixels and kind != b"IDAT":
                return  # what follows the pixels may be missing
            raise ValueError("a chunk is cut off" if len(content) < end + 4 else f"there is no chunk {kind!r}")
        body = view[start:end]
        kept = kind in CRITICAL or kind == b"tRNS"
        if kept and zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(view[end : end + 4]):
            raise ValueError(f"the checksum of {kind.decode()} is wrong")
        yield kind, body
        if kind == b"IEND":
            return
        pixels = pixels or kind == b"IDAT"
        at = end + 4
    raise ImageError(f"{name} has more than {MAX_CHUNKS:,} PNG chunks", hint="save it again, without its metadata")


def _take_header(file: PngFile, body: memoryview) -> None:
    if file.size[0] or len(body) != 13:
        raise ValueError("the header is wrong")
    width, height = struct.unpack_from(">II", body)
    if not width or not height:
        raise ValueError("the header names no size")
    file.size, file.colour = (width, height), body[9]
    file.head += _chunk(b"IHDR", bytes(body))


def _take_transparency(file: PngFile, body: memoryview) -> None:
    if file.colour == PALETTE:
        if len(body) > 256:
            raise ValueError("the transparency has more entries than a palette")
    elif file.colour in TRANSPARENCY_BYTES:
        if len(body) < TRANSPARENCY_BYTES[file.colour]:
            raise ValueError("the transparency is cut off")
        body = body[: TRANSPARENCY_BYTES[file.colour]]
    else:
        return  # the others have an alpha channel
    file.head += _chunk(b"tRNS", bytes(body))


def _chunk(kind: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
    return struct.pack(">I", len(body)) + kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _read_text(kind: bytes, body: bytes) -> bytes:
    """Return the text of a tEXt, zTXt or iTXt chunk from behind its keyword, at most 1 MiB of a compressed one."""
    match kind:
        case b"zTXt":
            return unpack_text(body[1:])
        case b"iTXt" if len(body) > 2:
            compressed, rest = body[0], body[2:].split(b"\0", 2)[-1]  # behind language and translated keyword
            return unpack_text(rest) if compressed else rest
        case _:
            return body
