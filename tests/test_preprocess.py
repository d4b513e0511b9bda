"""The one crop and resize: geometry, the same bits everywhere, and specs from hostile manifests."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lesion.images import decode_image
from lesion.inference.predictor import draw_test_image
from lesion.inference.stopwatch import draw_photo
from lesion.preprocess import FILTERS, PreprocessSpec


def draw_stripes() -> Image.Image:
    """61×83, drawn by a formula in integers, with hard edges."""
    y, x = np.mgrid[0:83, 0:61]
    channels = [(x * a + y * b) // 7 % 2 * 200 + (x + y) % 50 for a, b in ((1, 2), (3, 1), (2, 5))]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 200), st.integers(16, 200), st.integers(1, 80), st.sampled_from(sorted(FILTERS)))
def test_any_size_becomes_a_square_of_bytes(width: int, height: int, size: int, name: str) -> None:
    pixels = PreprocessSpec(size, name).apply(Image.new("RGB", (width, height), (10, 20, 30)))
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("width", "height", "left", "top"),
    [(60, 30, 15, 0), (61, 30, 15, 0), (30, 60, 0, 15), (30, 75, 0, 22), (30, 30, 0, 0)],
    ids=lambda value: str(value),
)
def test_the_largest_centred_square_is_cut_out(width: int, height: int, left: int, top: int) -> None:
    scene = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for name in FILTERS:
        pixels = PreprocessSpec(30, name).apply(Image.fromarray(scene))
        assert np.array_equal(pixels, scene[top : top + 30, left : left + 30])


def test_what_is_in_the_centre_stays_in_the_centre() -> None:
    scene = np.zeros((90, 150, 3), np.uint8)
    scene[40:50, 70:80] = 255
    pixels = PreprocessSpec(45, "bilinear").apply(Image.fromarray(scene))
    y, x = np.nonzero(pixels[..., 0])
    assert (y.mean(), x.mean()) == (22, 22)
    assert pixels[22, 22].tolist() == [255, 255, 255]


def test_what_lies_beyond_the_square_and_its_filter_has_no_influence() -> None:
    scene = np.full((30, 60, 3), 100, np.uint8)
    scene[:, :10] = scene[:, 50:] = 255  # the square begins at 15; lanczos looks 3 pixels of 1.5 around itself
    assert (PreprocessSpec(20, "lanczos").apply(Image.fromarray(scene)) == 100).all()


@pytest.mark.parametrize("name", FILTERS)
def test_shrinking_averages_instead_of_skipping(name: str) -> None:
    y, x = np.mgrid[0:256, 0:256]
    board = np.stack([(x + y) % 2 * 255] * 3, axis=2).astype(np.uint8)
    pixels = PreprocessSpec(32, name).apply(Image.fromarray(board)).astype(int)
    assert np.abs(pixels[4:-4, 4:-4] - 127.5).max() < 5


GOLDEN = {
    ("disc", 32, "bilinear"): "9f0e2a6b6fc1830c",
    ("disc", 64, "bilinear"): "fc511397eb90749a",
    ("disc", 224, "bilinear"): "83866aac38633670",
    ("disc", 32, "bicubic"): "a688ce0d7c2c2138",
    ("disc", 32, "lanczos"): "55251f898d2d4338",
    ("stripes", 32, "bilinear"): "abebd5b998bb8b75",
    ("stripes", 100, "bicubic"): "8a2665d38a1fad30",
    ("stripes", 50, "lanczos"): "1dbaf57aa24fefe2",
}


@pytest.mark.parametrize(("scene", "size", "name"), GOLDEN, ids=str)
def test_the_pixels_are_the_same_to_the_bit_on_every_machine(scene: str, size: int, name: str) -> None:
    image = {"disc": draw_test_image, "stripes": draw_stripes}[scene]()
    assert image.width != image.height
    pixels = PreprocessSpec(size, name).apply(image)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == GOLDEN[scene, size, name]


REDUCED = {
    ("disc", 32, "bilinear"): "7e9304b025bbf139",
    ("stripes", 20, "bicubic"): "3a4fb29e6e508048",
}


@pytest.mark.parametrize(("scene", "size", "name"), REDUCED, ids=str)
def test_reduced_pixels_are_the_same_to_the_bit_on_every_machine(scene: str, size: int, name: str) -> None:
    image = {"disc": draw_test_image, "stripes": draw_stripes}[scene]()
    pixels = PreprocessSpec(size, name, reduce=True).apply(image)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == REDUCED[scene, size, name]


def test_an_image_of_less_than_twice_the_size_is_not_reduced() -> None:
    image = draw_stripes()
    for size in (31, 61, 100):
        both = [PreprocessSpec(size, "bilinear", reduce).apply(image) for reduce in (False, True)]
        assert np.array_equal(*both)


def test_reducing_changes_a_photograph_by_little() -> None:
    photo = decode_image(draw_photo())
    for size in (64, 128, 224):
        full, reduced = (PreprocessSpec(size, "bilinear", reduce).apply(photo).astype(int) for reduce in (False, True))
        assert 0 < np.abs(full - reduced).mean() < 1
        assert np.abs(full - reduced).max() < 24


def test_the_image_itself_stays_as_it_is() -> None:
    image = draw_stripes()
    PreprocessSpec(20, "bilinear").apply(image)
    assert image == draw_stripes()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, KeyError),
        ({"size": 32}, KeyError),
        ({"filter": "bilinear"}, KeyError),
        ({"size": "32", "filter": "bilinear"}, ValueError),
        ({"size": 32.0, "filter": "bilinear"}, ValueError),
        ({"size": None, "filter": "bilinear"}, ValueError),
        ({"size": True, "filter": "bilinear"}, ValueError),
        ({"size": 0, "filter": "bilinear"}, ValueError),
        ({"size": -32, "filter": "bilinear"}, ValueError),
        ({"size": 4097, "filter": "bilinear"}, ValueError),
        ({"size": 10**30, "filter": "bilinear"}, ValueError),
        ({"size": 32, "filter": "nearest"}, ValueError),
        ({"size": 32, "filter": None}, ValueError),
        ({"size": 32, "filter": 2}, ValueError),
        ({"size": 32, "filter": []}, TypeError),
        ({"size": 32, "filter": {}}, TypeError),
        ({"size": 32, "filter": "bilinear", "reduce": 1}, ValueError),
        ({"size": 32, "filter": "bilinear", "reduce": None}, ValueError),
        ([32, "bilinear"], TypeError),
        ("bilinear", TypeError),
        (None, TypeError),
    ],
    ids=repr,
)
def test_what_is_no_geometry_is_refused(data: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        PreprocessSpec.of(data)


def test_the_refusal_quotes_the_geometry() -> None:
    with pytest.raises(ValueError, match=r"no such geometry: .*'size': 0"):
        PreprocessSpec.of({"size": 0, "filter": "bilinear"})


@settings(deadline=None)
@given(st.integers(1, 4096), st.sampled_from(sorted(FILTERS)))
def test_a_geometry_survives_the_manifest(size: int, name: str) -> None:
    spec = PreprocessSpec(size, name)
    assert PreprocessSpec.of(json.loads(json.dumps(asdict(spec)))) == spec
