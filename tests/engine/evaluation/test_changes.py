import numpy as np
import pytest
from PIL import Image

from lesion.engine.evaluation.changes import BANK, OF_PHOTO, OF_PIXELS, light

PIXELS = np.random.default_rng(0).integers(60, 200, (BANK, 48, 48, 3), np.uint8)


def photo(width: int = 120, height: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("key", OF_PIXELS, ids=" ".join)
@pytest.mark.parametrize("count", [1, 5, BANK])
def test_pixels_stay_pixels_and_are_changed_alike_each_time(key: tuple[str, str], count: int) -> None:
    before = PIXELS[:count].copy()
    changed = OF_PIXELS[key](before)
    assert changed.shape == before.shape
    assert changed.dtype == np.uint8
    assert (before == PIXELS[:count]).all()
    assert (changed == OF_PIXELS[key](before)).all()
    assert all((one != two).any() for one, two in zip(changed, before, strict=True))


@pytest.mark.parametrize("key", OF_PHOTO, ids=" ".join)
@pytest.mark.parametrize("size", [(120, 90), (90, 120), (20, 300)], ids=str)
def test_a_photograph_stays_one(key: tuple[str, str], size: tuple[int, int]) -> None:
    before = photo(*size)
    changed = OF_PHOTO[key](before, 32)
    assert changed.mode == "RGB"
    assert changed.width / changed.height == pytest.approx(size[0] / size[1], rel=0.05)
    assert changed.size != before.size or (np.asarray(changed) != np.asarray(before)).any()


@pytest.mark.parametrize("name", ["hair", "ruler", "ink", "dark corner"])
def test_what_is_drawn_covers_a_part(name: str) -> None:
    (change,) = [change for key, change in OF_PIXELS.items() if key[0] == name]
    covered = (change(PIXELS) != PIXELS).any(3).mean((1, 2))
    assert covered.min() > 0
    assert covered.mean() < 0.5


def test_a_quarter_turn_is_exact() -> None:
    turn = OF_PIXELS["rotation", "90°"]
    assert (turn(turn(turn(turn(PIXELS)))) == PIXELS).all()
    assert (turn(PIXELS)[0, ::-1, :] == PIXELS[0].transpose(1, 0, 2)).all() or (
        turn(PIXELS)[0] == np.rot90(PIXELS[0])
    ).all()


def test_light_multiplies_and_does_not_wrap_around() -> None:
    changed = light(PIXELS, red=1.5, blue=0.5)
    assert (changed[..., 0] == np.minimum(np.round(PIXELS[..., 0] * 1.5), 255)).all()
    assert (changed[..., 1] == PIXELS[..., 1]).all()
    assert (changed[..., 2] == np.round(PIXELS[..., 2] * 0.5)).all()


def test_a_lower_resolution_is_that_of_the_network() -> None:
    assert min(OF_PHOTO["resolution", "a half of the network's"](photo(), 64).size) == 32
    assert min(OF_PHOTO["resolution", "a quarter of the network's"](photo(), 64).size) == 16
