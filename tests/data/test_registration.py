"""Registration: the map that was applied is found again, and only the same details agree."""

import numpy as np
import numpy.typing as npt
import pytest

from lesion.data.candidates import TURNS
from lesion.data.descriptor import SYMMETRIES
from lesion.data.registration import Array, Template, Tiles, normalize, shrink

IDENTITY = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
ONE = np.zeros(1, np.int64)


def draw(maps: npt.NDArray[np.float64], seed: int = 0, side: int = 64) -> Array:
    """Smooth random texture looked at through a map, (1, side, side)."""
    place = (np.arange(side) + 0.5) / (side / 2) - 1
    y, x = np.meshgrid(place, place, indexing="ij")
    u, v = np.einsum("ij,jrc->irc", maps, np.stack([x, y, np.ones_like(x)]))
    rng = np.random.default_rng(seed)
    waves = zip(rng.normal(0, 9, (60, 2)), rng.uniform(0, 2 * np.pi, 60), strict=True)
    image = sum(np.sin(a * u + b * v + phase) for (a, b), phase in waves)
    return np.asarray(0.5 + image / 60, np.float32)[None]


MAP = np.array([[1.04, 0.03, -0.06], [-0.02, 0.97, 0.04]])


@pytest.mark.parametrize("stride", [1, 2])
def test_the_map_is_found(stride: int) -> None:
    first, second = (normalize(draw(map_), 1, 5) for map_ in (MAP, IDENTITY[0]))
    template = Template.of(first, stride)
    found = template.align(ONE, second, ONE, IDENTITY, 20)
    assert np.allclose(found[0], MAP, atol=0.01)
    correlations = [template.correlate(ONE, second, ONE, maps)[0] for maps in (found, IDENTITY)]
    assert correlations[0] > 0.95 > correlations[1]


@pytest.mark.parametrize("symmetry", range(len(SYMMETRIES)))
def test_a_turned_image_agrees_under_its_turn(symmetry: int) -> None:
    quarters, mirrored = SYMMETRIES[symmetry]
    image = normalize(draw(IDENTITY[0]), 0.5, 2)
    turned = np.rot90(image, quarters, axes=(1, 2))
    turned = np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)
    maps = np.concatenate([TURNS[symmetry], np.zeros((2, 1), np.float32)], 1)[None]
    assert Tiles.of(turned).agree(ONE, image, ONE, maps)[0] > 0.95
    assert Template.of(turned).correlate(ONE, image, ONE, maps)[0] > 0.95


def test_other_details_do_not_agree() -> None:
    first, second = (normalize(draw(IDENTITY[0], seed), 0.5, 2) for seed in (0, 1))
    assert abs(Tiles.of(first).agree(ONE, second, ONE, IDENTITY)[0]) < 0.2


@pytest.mark.parametrize("maps", [[[5, 0, 0], [0, 5, 0]], [[1, 0, 1.9], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]])
def test_a_map_far_from_an_image_is_not_believed(maps: list[list[float]]) -> None:
    image = normalize(draw(IDENTITY[0]), 0.5, 2)
    wrong = np.array([maps], np.float32)
    assert Tiles.of(image).agree(ONE, image, ONE, wrong)[0] == -1
    assert Template.of(image).correlate(ONE, image, ONE, wrong)[0] == -1


def test_empty_images_stay_where_they_are() -> None:
    empty = normalize(np.zeros((1, 64, 64), np.float32), 1, 5)
    template = Template.of(empty)
    assert np.allclose(template.align(ONE, empty, ONE, IDENTITY, 5), IDENTITY)
    assert template.correlate(ONE, empty, ONE, IDENTITY)[0] == 0
    assert Tiles.of(empty).agree(ONE, empty, ONE, IDENTITY)[0] == 0


def test_no_pairs_are_no_special_case() -> None:
    image, none = normalize(draw(IDENTITY[0]), 1, 5), np.empty(0, np.int64)
    maps = Template.of(image).align(none, image, none, IDENTITY[:0], 5)
    assert maps.shape == (0, 2, 3)
    assert Tiles.of(image).agree(none, image, none, maps).shape == (0,)


def test_shrinking_takes_means() -> None:
    assert np.array_equal(shrink(np.arange(16, dtype=np.float32).reshape(1, 4, 4)), [[[2.5, 4.5], [10.5, 12.5]]])
