"""Decode JPEG within a bound on the work, and refuse one of which data are lost.

The markers are walked here before libjpeg sees the file. The walk finds what the decoder would have to do, drops the
metadata, and stops at the end of the first picture.
"""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from PIL import Image, JpegImagePlugin

from lesion.errors import ImageError
from lesion.exif import read_orientation

MAGIC = b"\xff\xd8\xff"
MAX_SEGMENTS = 5_000  # an ICC profile takes up to 255, extended XMP some hundred, each scan up to 6
MAX_SCANS = 500  # libjpeg-turbo's own limit against hostile files; ordinary progressive files have about 10

# Nanoseconds per 8×8 block, measured with libjpeg-turbo 3 on blocks that hardly take bytes: end-of-band runs. What
# takes bytes is bounded by the size of the file. A refinement visits every coefficient, even in an empty scan.
NS_SEQUENTIAL, NS_DC, NS_AC, NS_AC_REFINEMENT, NS_LOSSLESS = 60, 34, 11, 90, 400
NS_RESTART = 30  # per restart interval
# Per pixel of the largest image allowed. libjpeg's progressive script takes 9 (4:4:4) or 16 (CMYK).
NS_PER_PIXEL = 24
SMALL = 1_000_000  # pixels; the rounding to blocks and a few more scans never matter below

SOI, EOI, SOS, DHT, DQT, DRI, APP0, APP1, APP14 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE
SEQUENTIAL, EXTENDED, PROGRESSIVE, LOSSLESS = 0xC0, 0xC1, 0xC2, 0xC3
FRAMES = {*range(0xC0, 0xD0)} - {DHT, 0xC8, 0xCC}
SKIPPED = {0xCC, 0xDC, *range(0xE0, 0xF0), 0xFE}  # arithmetic conditioning, number of lines, APPn, comments
# Codes after 0xFF that are no marker segment: stuffed zero, fill byte, restart, and TEM, which the decoder passes over.
TRANSPARENT = np.zeros(256, dtype=np.bool_)
TRANSPARENT[[0x00, 0x01, 0xFF, *range(0xD0, 0xD8)]] = True
MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
NEAR = 2**17  # bytes that are searched at once: at most 3 ms in which no other thread runs
CHUNK = 2**20  # bytes that are searched at a time: numpy lets other threads run meanwhile

PADDING = 32  # zero bytes before the end marker that are an encoder's; a lost sector has 512
EXTRA_AT_END = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
UNKNOWN_SAMPLING = "subsampling level"
COLOURS = {1: ("GRAY", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK")}


@dataclass(frozen=True, slots=True)
class Component:
    """One colour plane of the frame."""

    across: int
    """Horizontal sampling factor, 1 to 4."""
    down: int
    """Vertical sampling factor, 1 to 4."""


@dataclass(slots=True)
class JpegFile:
    """The first picture of a JPEG file, walked and not yet decoded."""

    name: str
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels, as stored."""
    process: int = 0
    """Marker of the frame: sequential, progressive or lossless."""
    components: dict[int, Component] = field(default_factory=dict)
    """By their identifier."""
    scans: int = 0
    work_ns: float = 0
    """Estimate of the time that the scans take at least to decode."""
    exif: bytearray = field(default_factory=bytearray)
    xmp: bytes = b""
    parts: list[memoryview | bytes] = field(default_factory=list)
    """What the decoder needs, in order, from the start to the end marker."""

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 to 8."""
        return read_orientation(bytes(self.exif), self.xmp)

    def check(self, max_pixels: int) -> None:
        """Raise ImageError when the scans take more work than any ordinary image of `max_pixels`."""
        budget = NS_PER_PIXEL * max(max_pixels, SMALL)
        if self.work_ns > budget:
            raise ImageError(
                f"{self.name} has {self.scans} scans that take {self.work_ns / budget:.3g} times the work allowed",
                hint="save it again as a baseline JPEG or as PNG",
            )

    def decode(self) -> Image.Image:
        """Decode the pixels as stored, in mode L, RGB or CMYK.

        Raises:
            ValueError, OSError: data are lost or damaged.
        """
        stream = b"".join(self.parts)
        if self.process == LOSSLESS:
            return _decode_with_pillow(stream)
        colour, mode = COLOURS[len(self.components)]
        pixels = np.empty((self.size[1], self.size[0], len(self.components)), dtype=np.uint8)
        try:
            simplejpeg.decode_jpeg(stream, colour, buffer=pixels, strict=True)
        except ValueError as error:
            if UNKNOWN_SAMPLING in str(error):  # a rare layout that TurboJPEG has no name for
                return _decode_with_pillow(stream)
            if self.process == PROGRESSIVE or not _is_padding(str(error), stream):
                raise
        if mode == "CMYK":
            np.invert(pixels, out=pixels)  # Adobe stores it inverted, and nobody else stores CMYK in JPEG
        return Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode)


def _is_padding(message: str, stream: bytes) -> bool:
    # libjpeg reports its first warning alone, and reads the end marker last: nothing else was wrong. Some encoders pad
    # the last bytes. More than that is the rest of data that were decoded wrongly, or zeros in the place of lost data.
    match = EXTRA_AT_END.fullmatch(message)
    if match is None:
        return False
    extra = int(match[1])
    return extra <= 2 or (extra <= PADDING and not any(stream[-2 - extra : -2]))


def _decode_with_pillow(stream: bytes) -> Image.Image:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(stream))
    image.load()
    return image


def parse(content: bytes, name: str = "image") -> JpegFile:
    """Walk the markers of a JPEG file; nothing is decoded.

    Takes at most `MAX_SEGMENTS` steps, whatever the file holds. Bytes between segments and what follows the first
    picture are left out.

    Raises:
        ValueError: the structure is damaged or cut off.
        ImageError: a kind of JPEG that is not supported, or more scans or segments than allowed.
    """
    walk = _Walk(JpegFile(name), memoryview(content))
    for marker, start, end in _segments(content, name):
        if marker == EOI:
            return walk.finish()
        walk.take(marker, start, end)
    raise ValueError("it has no end marker")


def _segments(content: bytes, name: str) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment's body; that of a scan includes the entropy-coded data."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        at = _find_marker(content, at)
        marker, start = content[at + 1], at + 4
        if marker == EOI:
            yield marker, at, at
            return
        if marker not in FRAMES and marker not in SKIPPED and marker not in (SOS, DHT, DQT, DRI):
            raise ValueError(f"unexpected marker 0x{marker:02x}")
        length = int.from_bytes(content[at + 2 : start])
        at += 2 + length
        if length < 2 or at > len(content):
            raise ValueError(f"the segment of marker 0x{marker:02x} is cut off")
        if marker == SOS:
            at = _find_marker(content, at)
        yield marker, start, at
    raise ImageError(f"{name} has more than {MAX_SEGMENTS:,} JPEG segments", hint="save it again, without its metadata")


def _find_marker(content: bytes, at: int) -> int:
    """Return where the next marker begins, at or after `at`; ValueError when there is none."""
    if content[at : at + 1] == b"\xff" and at + 1 < len(content) and not TRANSPARENT[content[at + 1]]:
        return at
    # Each numpy operation lets other threads take the interpreter, which costs more than it gains on an ordinary file.
    found_near = MARKER.search(content, at, at + NEAR)
    if found_near:
        return found_near.start()
    codes, at, span = np.frombuffer(content, dtype=np.uint8), at + NEAR - 1, 2**14
    while at + 1 < len(codes):
        part = codes[at : at + span + 1]
        (found,) = np.nonzero(part[:-1] == 0xFF)
        found = found[~TRANSPARENT[part[found + 1]]]
        if len(found):
            return at + int(found[0])
        at += span
        span = min(span * 4, CHUNK)
    raise ValueError("it has no end marker")


class _Walk:
    """Takes the segments one by one into a `JpegFile`."""

    def __init__(self, file: JpegFile, content: memoryview) -> None:
        self.file = file
        self.content = content
        self.interval = 0  # MCUs between restart markers; 0 is none
        self.seen: set[int] = set()  # components of which a scan has brought DC coefficients
        self.jfif = False
        self.adobe: int | None = None  # the colour transform that an Adobe segment names
        file.parts.append(MAGIC[:2])

    def take(self, marker: int, start: int, end: int) -> None:
        body = self.content[start:end]
        match marker:
            case _ if marker in FRAMES:
                self._take_frame(marker, body)
            case 0xDA:
                self._take_scan(body, int.from_bytes(self.content[start - 2 : start]) - 2)
                return
            case 0xDD:
                if len(body) != 2:
                    raise ValueError("the restart interval has a wrong length")
                self.interval = int.from_bytes(body)
            case 0xE0 | 0xE1 | 0xEE:
                self._take_application(marker, body)
                return
            case _ if marker in SKIPPED:
                return
        self._keep(marker, body)

    def finish(self) -> JpegFile:
        if not self.seen or self.seen != set(self.file.components):
            raise ValueError("no scan for one of the colour planes")
        self.file.parts.append(bytes((0xFF, EOI)))
        return self.file

    def _keep(self, marker: int, body: memoryview | bytes, rest: memoryview | bytes = b"") -> None:
        self.file.parts += (struct.pack(">BBH", 0xFF, marker, len(body) + 2), body, rest)

    def _take_application(self, marker: int, body: memoryview) -> None:
        if self.file.scans:
            return
        if marker == APP0 and len(body) >= 14 and bytes(body[:5]) == b"JFIF\0":
            self.jfif = True
        elif marker == APP14 and len(body) >= 12 and bytes(body[:5]) == b"Adobe":
            self.adobe = body[11]
        elif marker == APP1 and bytes(body[:6]) == b"Exif\0\0":
            self.file.exif += body[6:]  # metadata of more than 64 KiB go on in the next segment
        elif marker == APP1 and bytes(body[:29]) == b"http://ns.adobe.com/xap/1.0/\0":
            self.file.xmp = bytes(body[29:])

    def _keep_colour_space(self) -> None:
        # Only what decides the colour space, in a form that the decoder does not warn of: it reports its first warning
        # alone, and a harmless one would hide damage.
        if self.jfif:
            self._keep(APP0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
        if self.adobe is not None:
            usual = 2 if len(self.file.components) == 4 else 1  # libjpeg, too, takes an unknown transform for this one
            self._keep(APP14, b"Adobe\0\x64\0\0\0\0" + bytes([usual if self.adobe else 0]))

    def _take_frame(self, marker: int, body: memoryview) -> None:
        file = self.file
        if marker > LOSSLESS:
            raise ImageError(
                f"{file.name} is an arithmetic-coded or hierarchical JPEG", hint="save it as a baseline JPEG or as PNG"
            )
        if file.components:
            raise ValueError("two frames in one picture")
        if len(body) < 6 or len(body) != 6 + 3 * body[5]:
            raise ValueError("the frame header is wrong")
        bits, height, width, count = struct.unpack_from(">BHHB", body)
        if not height or not width:
            raise ValueError("the frame has no size")
        if bits != 8 or count not in COLOURS:
            raise ImageError(
                f"{file.name} is a JPEG of {count} channels of {bits} bits, 1, 3 or 4 of 8 bits expected",
                hint="save it as a baseline JPEG or as PNG",
            )
        for at in range(6, len(body), 3):
            component = Component(body[at + 1] >> 4, body[at + 1] & 15)
            if not (1 <= component.across <= 4 and 1 <= component.down <= 4) or body[at] in file.components:
                raise ValueError("the frame header is wrong")
            file.components[body[at]] = component
        file.process, file.size = marker, (width, height)

    def _take_scan(self, body: memoryview, header: int) -> None:
        file = self.file
        count = (header - 4) // 2
        names = body[1 : 1 + 2 * count : 2].tolist()
        if header < 6 or header % 2 or body[0] != count or len({*names} & {*file.components}) != count:
            raise ValueError("the header of a scan is wrong")
        if not file.scans:
            self._keep_colour_space()
        file.scans += 1
        if file.scans > MAX_SCANS:
            raise ImageError(
                f"{file.name} has more than {MAX_SCANS} scans", hint="save it again as a baseline JPEG or as PNG"
            )
        first, last, bits = body[header - 3 : header]
        if file.process in (SEQUENTIAL, EXTENDED):  # which has one right value for these; some encoders write others
            first, last, bits = 0, 63, 0
        if first == 0 or file.process == LOSSLESS:
            self.seen.update(names)
        blocks, units = self._count_blocks([file.components[each] for each in names])
        file.work_ns += blocks * self._block_ns(first, bits >> 4)
        if self.interval:
            file.work_ns += units / self.interval * NS_RESTART
        self._keep(SOS, bytes(body[: header - 3]) + bytes((first, last, bits)), body[header:])

    def _block_ns(self, first: int, high: int) -> int:
        match self.file.process:
            case 0xC2 if first == 0:
                return NS_DC
            case 0xC2:
                return NS_AC_REFINEMENT if high else NS_AC
            case 0xC3:
                return NS_LOSSLESS
            case _:
                return NS_SEQUENTIAL

    def _count_blocks(self, components: list[Component]) -> tuple[int, int]:
        """Return the blocks of a scan and its MCUs, the units that restart intervals count."""
        widest = max(each.across for each in self.file.components.values())
        tallest = max(each.down for each in self.file.components.values())
        width, height = self.file.size
        if len(components) == 1:
            (one,) = components
            units = -(-width * one.across // (8 * widest)) * -(-height * one.down // (8 * tallest))
            return units, units
        units = -(-width // (8 * widest)) * -(-height // (8 * tallest))
        return units * sum(each.across * each.down for each in components), units
