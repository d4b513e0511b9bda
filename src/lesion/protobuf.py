"""The part of protobuf's wire format that an ONNX file needs to be checked, and extended, without a schema compiler."""

from collections.abc import Iterator, Mapping

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types. Groups (3 and 4) are refused: ONNX has none."""
_FIXED = {FIXED64: 8, FIXED32: 4}
_LARGEST_TAG = 2**32 - 1  # C++ readers cut a larger one off, and then see another field

Value = int | memoryview
Schema = Mapping[str, Mapping[int, str | None]]
"""Message type → field number → type of the message that the field holds; None for a field that `walk` yields."""


def write_bytes(number: int, content: bytes) -> bytes:
    """Return a field that holds bytes, text or a message, in canonical encoding."""
    return _write_varint(number << 3 | BYTES) + _write_varint(len(content)) + content


def read_fields(content: memoryview, most: int = 10_000) -> Iterator[tuple[int, int, Value]]:
    """Yield the fields of a message in order as (offset, number, value), values not decoded further.

    Raises ValueError when the message has more than `most` fields, when it is cut off, and for what readers of protobuf
    do not agree on: field numbers outside [1, 2**29), a tag of more than five bytes, another number of more than ten,
    groups.
    """
    at, end = 0, len(content)
    while at < end:
        most -= 1
        if most < 0:
            raise ValueError("too many fields")
        start = at
        tag, at = _read_tag(content, at)
        kind = tag & 7
        if kind == VARINT:
            number, at = _read_varint(content, at)
            yield start, tag >> 3, number
            continue
        length, at = _read_varint(content, at) if kind == BYTES else (_FIXED[kind], at)
        if length > end - at:
            raise ValueError("runs past the end")
        yield start, tag >> 3, content[at : at + length]
        at += length


def walk(
    content: bytes, kind: str, schema: Schema, most: int = 1_000_000, depth: int = 100
) -> Iterator[tuple[str, int, Value]]:
    """Yield (message type, number, value) of the fields without a type in `schema`, in a message and all within it.

    Args:
        content: a message.
        kind: its type.
        schema: what to look for, and where; other fields are skipped unread.
        most: fields at most, skipped ones included; it bounds the time that hostile content takes.
        depth: levels of nested messages at most; 100 is what readers of protobuf accept.

    A field that occurs several times is yielded several times, where a reader would merge or replace values. Raises
    ValueError for what `read_fields` refuses.
    """
    # Offsets instead of slices, and numbers of one byte read in place: a real model has tens of thousands of fields.
    frames = [(kind, 0, len(content))]  # what remains of each message that is being read
    while frames:
        kind, at, end = frames.pop()
        wanted = schema[kind]
        while at < end:
            most -= 1
            if most < 0:
                raise ValueError("too many fields")
            tag = content[at]
            at += 1
            if not 8 <= tag < 0x80 or tag & 7 not in (VARINT, BYTES):
                tag, at = _read_tag(content, at - 1)
            number, wire = tag >> 3, tag & 7
            if wire == VARINT:
                value, at = _read_varint(content, at)
                if number in wanted and wanted[number] is None:
                    yield kind, number, value
                continue
            if wire in _FIXED:
                length = _FIXED[wire]
            elif at < end and content[at] < 0x80:
                length = content[at]
                at += 1
            else:
                length, at = _read_varint(content, at)
            stop = at + length
            if number in wanted and stop <= end:
                inner = wanted[number]
                if inner is None:
                    yield kind, number, memoryview(content)[at:stop]
                elif wire == BYTES:
                    if len(frames) == depth:
                        raise ValueError("messages are nested too deep")
                    frames.append((kind, stop, end))
                    kind, end, wanted = inner, stop, schema[inner]
                    continue
            at = stop
        if at > end:
            raise ValueError("runs past the end")


def _write_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _read_tag(content: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return a field's number and wire type, and the offset behind them."""
    tag, at = _read_varint(content, at, longest=5)
    if not 8 <= tag <= _LARGEST_TAG:
        raise ValueError(f"wrong field number {tag >> 3}")
    if tag & 7 not in (VARINT, BYTES, *_FIXED):
        raise ValueError(f"unexpected wire type {tag & 7}")
    return tag, at


def _read_varint(content: bytes | memoryview, at: int, longest: int = 10) -> tuple[int, int]:
    """Return the number at `at` and the offset behind it."""
    number = 0
    for shift in range(0, 7 * longest, 7):
        if at >= len(content):
            raise ValueError("ends within a number")
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("a number is too long")
