"""Quarantine: written whole, read back, undone; a damaged file is refused with words."""

from pathlib import Path

import pytest

from lesion.data.quarantine import FILE, add_to_quarantine, ensure_quarantine, read_quarantine, restore
from lesion.errors import DataError


def test_ids_come_back_with_their_reasons_and_can_be_restored(tmp_path: Path) -> None:
    folder = tmp_path / "processed"
    assert read_quarantine(folder) == {}
    assert add_to_quarantine(folder, {"b": 'two, "diagnoses"\nmel', "a": "blurred"}) == 2
    assert add_to_quarantine(folder, {"a": "another reason", "c": "empty"}) == 1
    assert read_quarantine(folder) == {"a": "blurred", "b": 'two, "diagnoses" mel', "c": "empty"}
    assert restore(folder, ["b", "b"]) == ["b"]
    assert list(read_quarantine(folder)) == ["a", "c"]
    assert restore(folder) == ["a", "c"]
    assert read_quarantine(folder) == {}
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_nothing_to_do_writes_nothing(tmp_path: Path) -> None:
    assert add_to_quarantine(tmp_path / "new", {}) == 0
    assert restore(tmp_path / "new") == []
    assert not (tmp_path / "new").exists()


def test_an_unknown_or_empty_id_is_refused(tmp_path: Path) -> None:
    add_to_quarantine(tmp_path, {"a": "blurred"})
    with pytest.raises(DataError, match="'z' is not in quarantine"):
        restore(tmp_path, ["a", "z"])
    with pytest.raises(DataError, match="empty image id"):
        add_to_quarantine(tmp_path, {"": "blurred"})
    assert read_quarantine(tmp_path) == {"a": "blurred"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "columns image_id, reason, date expected"),
        (b"image,why\na,b\n", "columns"),
        (b"\xff\xfe\x00", "cannot read"),
        (b'image_id,reason,date\na,"b', "cannot read"),
        (b"image_id,reason,date\na,b\n", "row 2"),
        (b"image_id,reason,date\na,b,c,d\n", "row 2"),
        (b"image_id,reason,date\n,b,c\n", "row 2"),
        (b"image_id,reason,date\na,b,c\na,b,c\n", "'a' is listed twice"),
        (b"image_id,reason,date\na," + b"x" * 200_000 + b",c\n", "cannot read"),
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_quarantine(tmp_path)
    assert "delete it" in caught.value.hint
    with pytest.raises(DataError):
        add_to_quarantine(tmp_path, {"z": "blurred"})
    with pytest.raises(DataError):
        restore(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xef\xbb\xbfimage_id,reason,date\r\na,blurred,2026-01-02\r\n\r\n")
    assert read_quarantine(tmp_path) == {"a": "blurred"}


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(DataError, match="cannot read"):
        read_quarantine(tmp_path)


def test_a_pipeline_finds_the_file_whatever_was_found(tmp_path: Path) -> None:
    ensure_quarantine(tmp_path / "new")
    assert read_quarantine(tmp_path / "new") == {}
    assert (tmp_path / "new" / "quarantine.csv").is_file()
    add_to_quarantine(tmp_path, {"a": "empty"})
    ensure_quarantine(tmp_path)
    assert read_quarantine(tmp_path) == {"a": "empty"}
