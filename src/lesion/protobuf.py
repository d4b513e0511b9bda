"""The little of protobuf's wire format that appending to an ONNX file, and reading its head, takes."""

from collections.abc import Iterator

VARINT, TEXT = 0, 2  # wire types; ONNX uses no other at its top level


def write_text(number: int, text: bytes) -> bytes:
    """A field that holds bytes, or another message."""
    return _varint(number << 3 | TEXT) + _varint(len(text)) + text


def read_fields(content: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """The fields of a message as (offset, number, value), unpacked no further; ValueError when they do not fit in."""
    at = 0
    while at < len(content):
        start, (tag, at) = at, _read_varint(content, at)
        if tag & 7 == VARINT:
            number, at = _read_varint(content, at)
            yield start, tag >> 3, number
        elif tag & 7 == TEXT:
            length, at = _read_varint(content, at)
            if at + length > len(content):
                raise ValueError("runs past the end")
            yield start, tag >> 3, content[at : at + length]
            at += length
        else:
            raise ValueError(f"unexpected wire type {tag & 7}")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _read_varint(content: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 64:
        if at == len(content):
            raise ValueError("ends within a number")
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("a number is too long")
