import pytest

from lesion.protobuf import read_fields, write_text


def read(content: bytes) -> list[tuple[int, int, int | bytes]]:
    return [
        (start, number, value if isinstance(value, int) else bytes(value))
        for start, number, value in read_fields(memoryview(content))
    ]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 300, 20_000])
@pytest.mark.parametrize("number", [1, 14, 5000])
def test_what_is_written_is_read(number: int, length: int) -> None:
    text = bytes(length)
    content = write_text(1, b"before") + write_text(number, text)
    assert read(content) == [(0, 1, b"before"), (8, number, text)]


def test_numbers_are_read() -> None:
    assert read(b"\x08\x0a\x18\xac\x02") == [(0, 1, 10), (2, 3, 300)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x08", "ends within a number"),
        (b"\x72\x05abc", "past the end"),
        (b"\x0d\0\0\0\0", "wire type 5"),
        (b"\x08" + b"\xff" * 10, "too long"),
    ],
    ids=["cut off", "too short", "a float", "endless"],
)
def test_what_does_not_fit_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(content)
