"""The contact sheet: one row per diagnosis, the same each time, whatever the images are."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesion.data.contact_sheet import GAP, SIDE, TITLE, draw_contact_sheet, encode, pick_rows
from lesion.data.index import Row, read_index

BAND = TITLE + SIDE + GAP


def test_a_row_of_images_for_each_diagnosis(ham_root: Path) -> None:
    sheet = draw_contact_sheet(read_index(ham_root))
    assert (sheet.mode, sheet.size) == ("RGB", (6 * (SIDE + GAP) + GAP, 7 * BAND + GAP))
    pixels = np.asarray(sheet).astype(int)
    for line in range(7):
        tile = pixels[line * BAND + TITLE : (line + 1) * BAND - GAP, GAP : GAP + SIDE]
        title = pixels[line * BAND : line * BAND + TITLE]
        assert tile.std() > 3
        assert title.min() < 100  # ink


def test_the_same_rows_give_the_same_sheet(ham_root: Path) -> None:
    rows = read_index(ham_root)
    first, second = (encode(draw_contact_sheet(rows, 2), "PNG") for _ in range(2))
    assert first == second


def test_images_of_different_lesions_are_picked_over_the_whole_dataset() -> None:
    rows = [Row(f"i{i}", f"l{i // 3}", "nv", Path()) for i in range(300)]
    assert [row.image_id for row in pick_rows(rows, 4)] == ["i36", "i111", "i186", "i261"]
    assert [row.image_id for row in pick_rows(rows[:6], 4)] == ["i0", "i3"]


def test_images_that_are_absent_or_damaged_become_empty_frames(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff damaged")
    rows = [Row("a", "a", "mel", Path()), Row("b", "b", "mel", tmp_path / "b.jpg"), Row("c", "c", "odd", Path())]
    sheet = draw_contact_sheet(rows)
    assert sheet.height == BAND + GAP
    assert sheet.getpixel((GAP + 2, TITLE + 2)) == sheet.getpixel((2 * GAP + SIDE + 2, TITLE + 2)) == (221, 218, 213)


def test_no_known_diagnosis_is_said() -> None:
    assert draw_contact_sheet([Row("c", "c", "odd", Path())]).height == BAND + GAP


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_encoded_it_opens_again(kind: str) -> None:
    with Image.open(io.BytesIO(encode(Image.new("RGB", (20, 10)), kind))) as image:
        assert (image.format, image.size) == (kind, (20, 10))
