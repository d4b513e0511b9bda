from itertools import pairwise

import numpy as np
import pytest

from lesion.engine.evaluation.skin import measure_angle, to_tone


def picture(rim: tuple[int, int, int], middle: tuple[int, int, int] = (40, 20, 20)) -> np.ndarray:
    pixels = np.full((1, 64, 64, 3), rim, np.uint8)
    pixels[:, 16:48, 16:48] = middle
    return pixels


@pytest.mark.parametrize(
    ("rgb", "lightness", "b"),  # CIELAB of named colours, as colour tables give it
    [((188, 143, 143), 63.61, 6.61), ((160, 82, 45), 43.80, 35.64), ((210, 180, 140), 74.98, 24.43)],
)
def test_the_angle_is_that_of_published_colours(rgb: tuple[int, int, int], lightness: float, b: float) -> None:
    expected = np.degrees(np.arctan((lightness - 50) / b))
    assert measure_angle(picture(rgb))[0] == pytest.approx(expected, abs=0.3)


def test_pale_skin_that_looks_bluish_is_not_dark() -> None:
    angles = [measure_angle(picture((210, 190, blue)))[0] for blue in (185, 190, 195, 200, 205)]
    assert all(a < b for a, b in pairwise(angles))
    assert {to_tone(angle) for angle in angles} == {"very light"}


def test_the_lesion_and_dark_corners_do_not_count() -> None:
    plain = measure_angle(picture((210, 180, 140)))[0]
    assert measure_angle(picture((210, 180, 140), (255, 0, 0)))[0] == plain
    dark = picture((210, 180, 140))
    dark[:, :12, :] = dark[:, -12:, :] = 3
    assert measure_angle(dark)[0] == pytest.approx(plain)


@pytest.mark.parametrize("rgb", [(0, 0, 0), (255, 255, 255), (40, 50, 110)], ids=["black", "white", "blue"])
def test_what_is_no_skin_has_no_angle(rgb: tuple[int, int, int]) -> None:
    (angle,) = measure_angle(picture(rgb))
    assert np.isnan(angle)
    assert to_tone(angle) == "unknown"


@pytest.mark.parametrize(
    ("angle", "tone"),
    [(56, "very light"), (55, "light"), (42, "light"), (41, "intermediate"), (28, "tan"), (10, "brown"), (-30, "dark")],
)
def test_tones_follow_the_published_limits(angle: float, tone: str) -> None:
    assert to_tone(angle) == tone


@pytest.mark.parametrize("side", [1, 7, 32, 224])
def test_any_size_will_do(side: int) -> None:
    assert measure_angle(np.full((2, side, side, 3), (210, 180, 140), np.uint8)).shape == (2,)
