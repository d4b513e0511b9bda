"""The picture of a heat map."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from lesion.errors import CheckFailed
from lesion.serve.overlay import AGAINST, FOR, explain


def draw(heat: np.ndarray) -> np.ndarray:
    data = explain(heat.astype(np.float32), 64).overlay.partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image)


def test_colours_say_for_what_and_opacity_how_much() -> None:
    heat = np.zeros((4, 4))
    heat[0, 0], heat[3, 3] = 1.0, -0.5
    pixels = draw(heat)
    assert pixels.shape == (64, 64, 4)
    assert tuple(pixels[2, 2, :3]) == FOR
    assert tuple(pixels[-3, -3, :3]) == AGAINST
    assert pixels[2, 2, 3] > pixels[-3, -3, 3] > 30
    assert pixels[32, 8, 3] < 30


def test_a_map_of_nothing_shows_nothing() -> None:
    assert draw(np.zeros((7, 7)))[..., 3].max() == 0


def test_a_map_of_one_position_is_one_colour() -> None:
    assert (draw(np.ones((1, 1)))[..., :3] == FOR).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_is_no_map(value: float) -> None:
    with pytest.raises(CheckFailed, match="no heat map"):
        draw(np.array([[1.0, value]]))
