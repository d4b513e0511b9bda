"""Image files that are small and ask for much work: each function returns the bytes of one."""

import io
import struct
import zlib

from PIL import Image

MAX_BYTES = 16 * 2**20
START, END = b"\xff\xd8", b"\xff\xd9"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def plain_jpeg(width: int = 160, height: int = 120, **options: object) -> bytes:
    """An ordinary JPEG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 150, 140)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def plain_png(width: int = 160, height: int = 120) -> bytes:
    """An ordinary PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 150, 140)).save(buffer, "PNG")
    return buffer.getvalue()


# JPEG: scans


def _pack(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")


def _end_of_band_runs(blocks: int) -> bytes:
    """Runs that say of `blocks` blocks that they bring nothing, with the table of `_head`."""
    bits = ""
    while blocks > 0:
        size = min(14, blocks.bit_length() - 1)
        run = min(blocks, 2 ** (size + 1) - 1)
        bits += f"{size:04b}" + (f"{run - 2**size:0{size}b}" if size else "")
        blocks -= run
    return _pack(bits)


def _head(side: int, frame: int = 0xC2, restart: int = 0) -> bytes:
    header = struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])
    dc = segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\0")  # "0" is a difference of zero
    ac = segment(0xC4, b"\x10" + bytes([0, 0, 0, 15] + [0] * 12) + bytes(size << 4 for size in range(15)))
    interval = segment(0xDD, struct.pack(">H", restart)) if restart else b""
    return START + segment(0xDB, b"\0" + bytes([1] * 64)) + segment(frame, header) + dc + ac + interval


def scan(first: int, last: int, high: int, low: int, data: bytes) -> bytes:
    """A scan of the single component of a bomb."""
    return segment(0xDA, bytes([1, 1, 0, first, last, high << 4 | low])) + data


def _blocks(side: int) -> int:
    return (-(-side // 8)) ** 2


def _first_dc(side: int, low: int = 0) -> bytes:
    return scan(0, 0, 0, low, bytes(-(-_blocks(side) // 8)))


def scan_bomb(side: int = 4992, scans: int = 100) -> bytes:
    """A progressive JPEG whose scans code the same band again and again, each as empty; 50 bytes a scan."""
    return _head(side) + _first_dc(side) + scan(1, 63, 0, 0, _end_of_band_runs(_blocks(side))) * scans + END


def band_bomb(side: int = 4992, passes: int = 13) -> bytes:
    """A progressive JPEG after the rules: each coefficient has a scan for each of its bits."""
    runs = _end_of_band_runs(_blocks(side))
    out = _head(side) + _first_dc(side)
    for low in range(passes, -1, -1):
        high = 0 if low == passes else low + 1
        out += b"".join(scan(k, k, high, low, runs) for k in range(1, 64))
    return out + END


def refinement_bomb(side: int = 4992, scans: int = 100) -> bytes:
    """A progressive JPEG whose scans refine all coefficients: each visits them all, although it is empty."""
    runs = _end_of_band_runs(_blocks(side))
    return _head(side) + _first_dc(side) + scan(1, 63, 0, 1, runs) + scan(1, 63, 1, 0, runs) * scans + END


def missing_data_bomb(side: int = 4992, scans: int = 100) -> bytes:
    """A progressive JPEG whose scans have no data at all."""
    return _head(side) + scan(0, 0, 0, 0, b"") * scans + END


def restart_bomb(side: int = 4992, scans: int = 100) -> bytes:
    """A progressive JPEG with a restart interval of one block, and no restart markers."""
    return _head(side, restart=1) + scan(0, 0, 0, 0, b"") * scans + END


def sequential_bomb(side: int = 4992, scans: int = 100) -> bytes:
    """A sequential JPEG whose only component is coded again and again."""
    return _head(side, frame=0xC1) + scan(0, 63, 0, 0, bytes(_blocks(side))) * scans + END


# JPEG: what stands between


def _after_start(filling: bytes, base: bytes | None = None) -> bytes:
    base = base or plain_jpeg()
    return base[:2] + filling + base[2:]


def fill_bytes(size: int = MAX_BYTES - 4096) -> bytes:
    """An ordinary JPEG with `size` fill bytes before its first segment."""
    return _after_start(b"\xff" * size)


def junk_bytes(size: int = MAX_BYTES - 4096, unit: bytes = b"\xff\0") -> bytes:
    """An ordinary JPEG with `size` bytes of no meaning after its first segment, which repeat `unit`."""
    base = plain_jpeg()
    return base[:20] + unit * (size // len(unit)) + base[20:]


def stuffed_scan(size: int = MAX_BYTES - 4096) -> bytes:
    """An ordinary JPEG whose scan runs on with stuffed bytes."""
    base = plain_jpeg()
    return base[:-2] + b"\xff\0" * (size // 2) + END


def empty_segments(marker: int = 0xE1, count: int = MAX_BYTES // 4 - 4096, body: bytes = b"") -> bytes:
    """An ordinary JPEG with `count` segments of that marker; 0xFE are comments, 0xC4 and 0xDB tables."""
    return _after_start(segment(marker, body) * count)


def table_flood(size: int = MAX_BYTES - 4096) -> bytes:
    """An ordinary JPEG with segments full of Huffman tables and of quantization tables of 16 bits."""
    huffman = segment(0xC4, (b"\x00" + bytes([1] + [0] * 15) + b"\0") * 3_600)
    quantization = segment(0xDB, (b"\x10" + b"\0\1" * 64) * 500)
    return _after_start((huffman + quantization) * (size // (len(huffman) + len(quantization))))


def repeated_frames(count: int = 2) -> bytes:
    """A JPEG with its frame header more than once."""
    base = plain_jpeg()
    at = base.index(b"\xff\xc0")
    return base[:at] + base[at : at + 19] * (count - 1) + base[at:]


def nested_start() -> bytes:
    """A JPEG with a second start of image."""
    return _after_start(START)


def later_height() -> bytes:
    """A JPEG whose height is named behind the scan (DNL)."""
    base = bytearray(plain_jpeg())
    at = base.index(b"\xff\xc0")
    base[at + 5 : at + 7] = bytes(2)
    return bytes(base[:-2]) + segment(0xDC, struct.pack(">H", 120)) + END


# Metadata


def exif_entries(count: int, kind: int = 1, size: int = 150_000) -> bytes:
    """A TIFF structure whose first directory has `count` entries, each with more data than there are."""
    directory = b"".join(struct.pack("<HHLL", number, kind, size, 8) for number in range(count))
    return struct.pack("<2sHLH", b"II", 42, 8, count) + directory + bytes(4)


def jpeg_with_exif(exif: bytes) -> bytes:
    """An ordinary JPEG with that TIFF structure, in as many segments as it takes."""
    parts = [exif[at : at + 65_000] for at in range(0, len(exif), 65_000)]
    return _after_start(b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts))


def png_with(*chunks: bytes) -> bytes:
    """An ordinary PNG with these chunks after its header."""
    base = plain_png()
    return base[:33] + b"".join(chunks) + base[33:]


# PNG


def empty_chunks(kind: bytes = b"abCd", count: int = MAX_BYTES // 12 - 100) -> bytes:
    """An ordinary PNG with `count` empty chunks of that kind after its header."""
    return png_with(chunk(kind) * count)


def text_bomb(kind: bytes = b"zTXt", keyword: bytes = b"Comment", size: int = 32 * 2**20) -> bytes:
    """An ordinary PNG with a compressed text (zTXt, iTXt) or colour profile (iCCP) of `size` bytes."""
    between = b"\0\x01\0\0\0" if kind == b"iTXt" else b"\0\0"
    return png_with(chunk(kind, keyword + between + zlib.compress(bytes(size), 9)))


def overlong_pixels(size: int = 256 * 2**20) -> bytes:
    """A PNG whose stream unpacks to `size` bytes, far more than the picture takes."""
    packer = zlib.compressobj(9)
    stream = b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND")


def empty_blocks(side: int = 5000, size: int = MAX_BYTES - 2**18) -> bytes:
    """A PNG whose stream begins with empty deflate blocks."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9, wbits=-15)
    row = bytes(1 + 3 * side)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    check = 1
    for _ in range(side):
        check = zlib.adler32(row, check)
    stream = b"\x78\xda" + b"\0\0\0\xff\xff" * (size // 5) + rows + struct.pack(">I", check)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND")
