"""Decoding in parallel: the pixels of the one geometry, in order, or an error that names the file."""

from pathlib import Path
from unittest.mock import Mock, call

import numpy as np
import pytest

from lesion.data.index import Row, read_index
from lesion.data.pixels import decode_row, decode_rows
from lesion.errors import ImageError, NotAnImage, NotFoundError
from lesion.images import read_image
from lesion.preprocess import FILTERS, PreprocessSpec

SPEC = PreprocessSpec(32, "bilinear")


@pytest.fixture(scope="module")
def rows(ham_root: Path) -> list[Row]:
    return read_index(ham_root)[:20]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", [33, 64])
def test_pixels_are_those_of_the_one_geometry_to_the_bit(name: str, size: int, rows: list[Row]) -> None:
    spec = PreprocessSpec(size, name)
    decoded = decode_rows(rows, spec)
    assert (decoded.shape, decoded.dtype) == ((len(rows), size, size, 3), np.uint8)
    for row, pixels in zip(rows, decoded, strict=True):
        np.testing.assert_array_equal(pixels, spec.apply(read_image(row.path)))


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_order_does_not_depend_on_the_workers(workers: int, rows: list[Row]) -> None:
    decoded = decode_rows(rows, SPEC, workers)
    assert len({pixels.tobytes() for pixels in decoded}) == len(rows)
    np.testing.assert_array_equal(decoded, np.stack([decode_row(row, SPEC) for row in rows]))
    np.testing.assert_array_equal(decode_rows(rows[::-1], SPEC, workers), decoded[::-1])


def test_no_rows_give_no_pixels() -> None:
    assert decode_rows([], SPEC).shape == (0, 32, 32, 3)


def test_progress_counts_every_image(rows: list[Row]) -> None:
    progress = Mock()
    decode_rows(rows[:3], SPEC, 4, progress, "decode val")
    assert progress.method_calls == [call.begin("decode val", 3), *[call.advance()] * 3, call.end()]


@pytest.mark.parametrize("workers", [0, 4])
def test_a_truncated_image_is_named(workers: int, ham_copy: Path) -> None:
    rows = read_index(ham_copy)[:12]
    damaged = rows[7].path
    damaged.write_bytes(damaged.read_bytes()[:-200])
    progress = Mock()
    with pytest.raises(ImageError) as caught:
        decode_rows(rows, SPEC, workers, progress)
    assert caught.value.message.startswith(f"{damaged} is damaged or truncated")
    assert (caught.value.exit_code, bool(caught.value.hint)) == (65, True)
    assert progress.method_calls[-1] == call.end()


def test_the_first_of_several_unusable_images_is_named(ham_copy: Path) -> None:
    rows = read_index(ham_copy)[:12]
    for i in (9, 4, 11):
        rows[i].path.write_text("no image")
    with pytest.raises(NotAnImage) as caught:
        decode_rows(rows, SPEC, 4)
    assert str(rows[4].path) in caught.value.message


def test_an_image_that_went_away_is_not_found(ham_copy: Path) -> None:
    rows = read_index(ham_copy)[:3]
    rows[1].path.unlink()
    with pytest.raises(NotFoundError, match=rows[1].image_id):
        decode_rows(rows, SPEC)
