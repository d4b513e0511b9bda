"""Read the one entry of an image's metadata that matters, the orientation, without parsing anything else."""

import re
import struct
import zlib

MAX_ENTRIES = 1_000  # of the first directory; cameras write 10 to 50
MAX_TEXT = 2**20  # bytes that a compressed text is unpacked to
ORIENTATION = 0x0112
# By the first bytes of the TIFF header. Some programs write the 42 in the other byte order.
BYTE_ORDERS = {b"II*\0": "<", b"II\0*": "<", b"MM\0*": ">", b"MM*\0": ">"}
INTEGERS = {3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}  # TIFF type → format of `struct`
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def read_orientation(exif: bytes, xmp: bytes = b"") -> int:
    """Return the EXIF orientation, or that of the XMP packet when the EXIF data say none.

    Args:
        exif: a TIFF structure, with or without "Exif" and two zero bytes before it.
        xmp: an XMP packet.

    Returns:
        1 to 8; 1, which is upright, when the metadata say nothing that can be understood. Never raises.
    """
    found = _find_in_exif(exif)
    if found is None:
        match = XMP_ORIENTATION.search(xmp)
        found = int(match[1]) if match else 1
    return found if 1 <= found <= 8 else 1


def _find_in_exif(exif: bytes) -> int | None:
    for _ in range(2):  # some programs write the prefix twice
        exif = exif.removeprefix(b"Exif\0\0")
    order = BYTE_ORDERS.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (start,) = struct.unpack_from(order + "L", exif, 4)
    if start + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(order + "H", exif, start)
    count = min(count, MAX_ENTRIES, (len(exif) - start - 2) // 12)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHL", exif, at)
        if tag != ORIENTATION or kind not in INTEGERS or not length:
            continue
        form = order + INTEGERS[kind]
        place = at + 8
        if length * struct.calcsize(form) > 4:  # the entry then holds where the values are
            (place,) = struct.unpack_from(order + "L", exif, place)
        if place + struct.calcsize(form) <= len(exif):
            return int(struct.unpack_from(form, exif, place)[0])
    return None


def unpack_text(packed: bytes) -> bytes:
    """Return the first MiB of a zlib stream; what is damaged counts as empty. Never raises."""
    try:
        return zlib.decompressobj().decompress(packed, MAX_TEXT)
    except zlib.error:
        return b""


def from_raw_profile(text: bytes) -> bytes:
    """Return the EXIF data out of ImageMagick's hexadecimal text ("Raw profile type exif"), empty if it is not one."""
    try:
        return bytes.fromhex(text[:MAX_TEXT].decode("ascii").split("\n", 3)[3])  # after name, length
    except (ValueError, IndexError):
        return b""
