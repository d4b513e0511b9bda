"""Measures of an image, against NumPy and against pictures that are wrong in a known way."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageFilter

from lesion.data.drawing import draw_photo
from lesion.models.checks import FLAGS, NAMES, SHRINKAGE, Checks, describe

Floats = npt.NDArray[np.float64]


def draw(seed: int) -> Image.Image:
    """A lesion of 64×64 pixels, made of 96×96."""
    photo = draw_photo("nv", *(np.random.default_rng((seed, i)) for i in (0, 1)), 96, 96)
    return photo.resize((64, 64), Image.Resampling.BILINEAR)


def stack(images: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


LESIONS = [draw(seed) for seed in range(80)]
PICTURE = LESIONS[0]
CHECKS = Checks(stack(LESIONS))


def measure(*images: Image.Image) -> Floats:
    with torch.inference_mode():
        return np.asarray(CHECKS(stack([*images])), float)


def lower(image: Image.Image) -> Floats:
    """Grey, red-green and yellow-blue at an eighth of the resolution, (8, 8, 3)."""
    red, green, blue = (np.asarray(image, float) / 255).reshape(8, 8, 8, 8, 3).mean((1, 3)).transpose(2, 0, 1)
    return np.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue], axis=2)


def test_every_measure_has_its_flags() -> None:
    assert tuple(FLAGS) == NAMES
    flags = [flag for pair in FLAGS.values() for flag in pair if flag]
    assert len(flags) == len(set(flags))


def test_an_image_is_described_by_light_colours_and_texture() -> None:
    numbers, plain = (each.numpy()[0] for each in describe(stack([PICTURE])))
    eighth = lower(PICTURE)
    means, spreads = eighth.mean((0, 1)), eighth.std((0, 1))
    assert numbers[:3] == pytest.approx(means, abs=1e-5)
    assert numbers[3:6] == pytest.approx(eighth[2:-2, 2:-2].mean((0, 1)) - means, abs=1e-5)
    assert np.exp(numbers[6:9]) == pytest.approx(spreads, abs=3e-4)
    correlations = np.corrcoef(eighth.reshape(64, 3).T)[[0, 0, 1], [1, 2, 2]]
    assert numbers[18:21] == pytest.approx(correlations, abs=0.02)
    assert plain[1:] == pytest.approx([means[0], spreads[0]], abs=1e-5)


@pytest.mark.parametrize(("level", "side"), [(0, 1), (1, 2), (2, 4)])
def test_detail_is_what_neighbours_differ_by_across_both_axes(level: int, side: int) -> None:
    grey = (np.asarray(PICTURE, float) / 255).mean(2).reshape(64 // side, side, 64 // side, side).mean((1, 3))
    detail = (grey[::2, ::2] - grey[::2, 1::2] - grey[1::2, ::2] + grey[1::2, 1::2]) / 4
    numbers, plain = describe(stack([PICTURE]))
    assert float(numbers[0, 9 + 3 * level].exp()) == pytest.approx(np.abs(detail).mean() + 1e-4, rel=1e-3)
    if level == 1:
        assert float(plain[0, 0]) == pytest.approx(np.abs(detail).mean(), rel=1e-3)


def test_slopes_are_those_in_the_directions_of_least_and_most_change_of_each_window() -> None:
    grey = (np.asarray(PICTURE, float) / 255).mean(2)
    down, right = grey[1:] - grey[:-1], grey[:, 1:] - grey[:, :-1]
    slopes = np.stack([right[1:] + right[:-1], down[:, 1:] + down[:, :-1]], axis=2)
    windows = slopes[1:, 1:].reshape(31, 2, 31, 2, 2).transpose(0, 2, 1, 3, 4).reshape(31 * 31, 4, 2)
    squares = [np.linalg.eigvalsh(each.T @ each / 4) for each in windows]
    expected = np.log(1e4 * np.maximum(squares, 0) + 1e-4).mean(0) / 2
    assert describe(stack([PICTURE]))[0].numpy()[0, 21:] == pytest.approx(expected, abs=0.01)


def shake(image: Image.Image, way: int) -> Image.Image:
    """Moved to the right by so many pixels while it was taken."""
    return Image.fromarray(np.mean([np.roll(np.asarray(image), i, 1) for i in range(way)], axis=0).astype(np.uint8))


def test_a_picture_that_was_shaken_is_steep_in_one_direction_only() -> None:
    still, shaken = describe(stack([PICTURE, shake(PICTURE, 12)]))[0].numpy()[:, 21:]
    least, most = still - shaken
    assert least > 1.5 * most > 0


def test_the_outlier_measure_is_the_mahalanobis_distance() -> None:
    # A correlation that is shrunk towards none; the training images come with noise, which is drawn from a seed.
    whitening, mean = (CHECKS.get_buffer(name).double().numpy() for name in ("whitening", "mean"))
    away = describe(stack(LESIONS))[0].double().numpy() - mean
    inverse = whitening @ whitening.T
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, inverse, away) / 23)
    assert measure(*LESIONS)[:, 0] == pytest.approx(expected, rel=1e-3)
    covariance = np.linalg.inv(inverse)
    spread = np.sqrt(np.diag(covariance))
    shrunk = covariance / np.outer(spread, spread)
    assert np.abs(shrunk - np.eye(23)).max() <= 1 - SHRINKAGE
    assert np.abs(shrunk - np.eye(23)).max() > 0.5


def test_it_is_about_one_at_home() -> None:
    assert measure(*LESIONS)[:, 0].mean() == pytest.approx(1, abs=0.2)
    assert measure(*(draw(seed) for seed in range(1000, 1040)))[:, 0].mean() == pytest.approx(1, abs=0.4)


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
STRANGERS = {
    "noise": Image.fromarray(NOISE),
    "black": Image.new("RGB", (64, 64)),
    "white": Image.new("RGB", (64, 64), "white"),
    "skin": Image.new("RGB", (64, 64), (225, 170, 150)),
    "stripes": Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[None, :, None] % 8 * 32, (64, 1, 3))),
    "blue": Image.merge("RGB", PICTURE.split()[::-1]),
    "blurred": PICTURE.filter(ImageFilter.GaussianBlur(6)),
    "shaken": shake(PICTURE, 16),
    "dark": PICTURE.point(lambda value: value // 10),
    "inverted": PICTURE.point(lambda value: 255 - value),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_lesion_is_further_out_than_any_lesion(name: str) -> None:
    assert measure(STRANGERS[name])[0, 0] > measure(*LESIONS)[:, 0].max()


def test_a_sharper_or_noisier_camera_makes_no_stranger() -> None:
    sharper = PICTURE.filter(ImageFilter.UnsharpMask(1, 30, 0))
    noisier = Image.fromarray((np.asarray(PICTURE, float) + np.random.default_rng(1).normal(0, 4, (64, 64, 3)))
                              .clip(0, 255).astype(np.uint8))  # fmt: skip
    assert measure(sharper, noisier)[:, 0].max() < 2


def test_a_grey_picture_has_its_brightness_and_nothing_else() -> None:
    _, sharpness, brightness, contrast = measure(Image.new("RGB", (64, 64), (51, 51, 51)))[0]
    assert brightness == pytest.approx(0.2)
    assert (sharpness, contrast) == pytest.approx((0, 0), abs=1e-6)


def test_blur_lowers_sharpness_and_noise_raises_it() -> None:
    noisy = (np.asarray(PICTURE, float) + np.random.default_rng(2).normal(0, 40, (64, 64, 3))).clip(0, 255)
    blurred, sharp, noise = measure(
        PICTURE.filter(ImageFilter.GaussianBlur(3)), PICTURE, Image.fromarray(noisy.astype(np.uint8))
    )[:, 1]
    assert blurred < 0.5 * sharp < 0.25 * noise


def test_measures_do_not_depend_on_the_side_that_is_up() -> None:
    turns = (Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT)
    upright, *turned = measure(PICTURE, *(PICTURE.transpose(turn) for turn in turns))
    for each in turned:
        assert each[1:] == pytest.approx(upright[1:], rel=1e-3)
        assert each[0] == pytest.approx(upright[0], rel=0.03)  # the windows of its slopes begin at the upper left


@pytest.mark.parametrize("size", [32, 33, 127])
def test_any_size_has_finite_measures(size: int) -> None:
    images = [image.resize((size, size)) for image in (*LESIONS[:30], *STRANGERS.values())]
    with torch.inference_mode():
        assert Checks(stack(images))(stack(images)).isfinite().all()


def test_fitting_twice_gives_the_same() -> None:
    again = Checks(stack(LESIONS))
    assert torch.equal(again.get_buffer("whitening"), CHECKS.get_buffer("whitening"))


@pytest.mark.parametrize("count", [1, 2])
def test_hardly_any_training_images_give_finite_measures(count: int) -> None:
    with torch.inference_mode():
        assert Checks(stack(LESIONS[:1] * count))(stack(LESIONS)).isfinite().all()
