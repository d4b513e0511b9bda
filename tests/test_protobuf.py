import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.protobuf import Schema, read_fields, walk, write_bytes

TREE: Schema = {"Tree": {1: "Tree", 2: None}}


def read(content: bytes) -> list[tuple[int, int, int | bytes]]:
    return [
        (start, number, value if isinstance(value, int) else bytes(value))
        for start, number, value in read_fields(memoryview(content))
    ]


def find(content: bytes, **limits: int) -> list[Any]:
    return [value if isinstance(value, int) else bytes(value) for _, _, value in walk(content, "Tree", TREE, **limits)]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 300, 20_000])
@pytest.mark.parametrize("number", [1, 14, 5000])
def test_what_is_written_is_read(number: int, length: int) -> None:
    text = bytes(length)
    content = write_bytes(1, b"before") + write_bytes(number, text)
    assert read(content) == [(0, 1, b"before"), (8, number, text)]


def test_numbers_are_read() -> None:
    assert read(b"\x08\x0a\x18\xac\x02") == [(0, 1, 10), (2, 3, 300)]


def test_numbers_of_fixed_length_are_read() -> None:
    assert read(b"\x0d\1\2\3\4\x11\1\2\3\4\5\6\7\x08") == [(0, 1, b"\1\2\3\4"), (5, 2, b"\1\2\3\4\5\6\7\x08")]


LONGER = [b"\x92\x80\x00\x01a", b"\x12\x81\x80\x00a", b"\x92\x80\x80\x80\x00\x81\x00a"]


@pytest.mark.parametrize("content", LONGER, ids=["tag", "length", "both"])
def test_numbers_that_are_longer_than_need_be_are_read(content: bytes) -> None:
    assert read(content) == [(0, 2, b"a")]
    assert find(content) == [b"a"]
    assert find(write_bytes(1, content)) == [b"a"]


BROKEN = {
    "cut off": (b"\x08", "ends within a number"),
    "too short": (b"\x72\x05abc", "past the end"),
    "a short float": (b"\x0d\0\0\0", "past the end"),
    "endless": (b"\x08" + b"\xff" * 10, "too long"),
    "endless tag": (b"\x88\x80\x80\x80\x80\x00\x00", "too long"),
    "endless length": (b"\x0a" + b"\xff" * 10, "too long"),
    "field 0": (b"\x00\x00", "wrong field number 0"),
    "field 0, longer": (b"\x82\x00\x00", "wrong field number 0"),
    # Read as field 1 by whoever keeps 32 bits.
    "field 2**29 + 1": (b"\x8a\x80\x80\x80\x10\x00", "wrong field number"),
    "group": (b"\x0b\x0c", "unexpected wire type 3"),
    "end of a group": (b"\x0c", "unexpected wire type 4"),
    "wire type 6": (b"\x0e\x00", "unexpected wire type 6"),
}


@pytest.mark.parametrize(("content", "why"), BROKEN.values(), ids=list(BROKEN))
def test_what_does_not_fit_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(content)
    with pytest.raises(ValueError, match=why):
        find(content)


def test_fields_of_interest_are_found_at_any_depth_and_others_skipped() -> None:
    inner = write_bytes(9, b"\xff") + write_bytes(2, b"inner") + b"\x10\x07" + b"\x1d\1\2\3\4"
    content = write_bytes(1, b"") + write_bytes(1, write_bytes(1, inner)) + write_bytes(2, b"outer") + b"\x08\x01"
    assert find(content) == [b"inner", 7, b"outer"]


def test_a_message_within_another_ends_where_that_says() -> None:
    # The inner message is cut off; what it lacks stands behind it.
    with pytest.raises(ValueError, match="past the end"):
        find(write_bytes(1, b"\x12\x05ab") + b"cde" + bytes(10))
    with pytest.raises(ValueError, match="past the end"):
        find(b"\x0a\x01\x12\x00")


def test_depth_and_number_of_fields_are_limited() -> None:
    nested = write_bytes(2, b"x")
    for _ in range(100):
        nested = write_bytes(1, nested)
    assert find(nested) == [b"x"]
    with pytest.raises(ValueError, match="nested too deep"):
        find(write_bytes(1, nested))
    assert find(b"\x08\x01" * 10, most=10) == []
    with pytest.raises(ValueError, match="too many fields"):
        find(b"\x08\x01" * 11, most=10)
    assert len(list(read_fields(memoryview(b"\x08\x01" * 10), most=10))) == 10
    with pytest.raises(ValueError, match="too many fields"):
        list(read_fields(memoryview(b"\x08\x01" * 11), most=10))


@pytest.mark.parametrize(
    "content",
    [bytes(2**24), b"\x08\0" * 2**23, b"\x72\0" * 2**23, write_bytes(1, b"\x0a\0" * 2**23)],
    ids=["zeros", "numbers", "empty texts", "empty messages"],
)
def test_megabytes_of_nothing_cost_little(content: bytes) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=r"too many fields|wrong field number"):
        find(content)
    # All of it would take far longer than the limit of the fields allows, on any machine.
    assert time.process_time() - start < 20


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_read_or_refused_alike_by_both(content: bytes) -> None:
    def attempt(work: Any) -> Any:
        try:
            return work()
        except ValueError:
            return None

    everything: Schema = {"Any": {}}
    flat = attempt(lambda: list(read_fields(memoryview(content))))
    assert (flat is None) == (attempt(lambda: list(walk(content, "Any", everything))) is None)
