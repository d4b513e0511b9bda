"""Quality flags: raised by blur, darkness and glare, not by an ordinary photograph."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from lesion.data.quality import measure_quality


@pytest.fixture
def photo(ham_root: Path) -> Image.Image:
    return Image.open(min((ham_root / "HAM10000_images").iterdir())).convert("RGB").resize((300, 225))


def test_an_ordinary_photograph_has_no_flaw(photo: Image.Image) -> None:
    assert measure_quality(photo).flaws == []


def test_each_flaw_is_named(photo: Image.Image) -> None:
    half = photo.copy()
    half.paste((0, 0, 0), (0, 0, 300, 60))
    nearly = photo.copy()
    nearly.paste((3, 3, 3), (0, 0, 300, 180))
    glare = photo.copy()
    glare.paste((255, 255, 255), (100, 0, 200, 60))
    assert measure_quality(photo.filter(ImageFilter.GaussianBlur(9))).flaws == ["blurred"]
    assert measure_quality(ImageEnhance.Brightness(photo).enhance(0.25)).flaws[0] == "dark"
    assert measure_quality(half).flaws == ["dark"]
    assert measure_quality(nearly).flaws == ["mostly-black"]
    assert measure_quality(glare).flaws == ["bright"]
    assert "bright" in measure_quality(ImageEnhance.Brightness(photo).enhance(4)).flaws


def test_figures_are_those_of_known_pictures() -> None:
    flat = measure_quality(Image.new("RGB", (200, 150), (100, 100, 100)))
    assert (flat.sharpness, flat.mean, flat.black, flat.white) == (0, 100, 0, 0)
    board = np.indices((128, 128)).sum(0) % 2 * 100
    sharp = measure_quality(Image.fromarray(np.repeat(board[..., None], 3, 2).astype(np.uint8)))
    assert sharp.sharpness == pytest.approx(400**2)


@pytest.mark.parametrize("size", [(16, 16), (16, 4000), (4000, 16)])
def test_any_shape_has_figures(size: tuple[int, int]) -> None:
    assert measure_quality(Image.new("RGB", size)).flaws == ["mostly-black"]
