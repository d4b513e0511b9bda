"""Measures of an image, against NumPy and against pictures that are wrong in a known way."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageFilter

from lesion.inference.predictor import draw_test_image
from lesion.models.checks import FLAGS, NAMES, SHRINKAGE, Checks

RNG = np.random.default_rng(0)
POOLED = torch.from_numpy(RNG.normal(size=(500, 6)) @ RNG.normal(size=(6, 6)) + 3).float()
PICTURE = draw_test_image().resize((64, 64), Image.Resampling.BICUBIC)


def measure(image: Image.Image) -> dict[str, float]:
    with torch.inference_mode():
        pixels = torch.from_numpy(np.asarray(image)[None].copy())
        values = Checks(POOLED)(pixels, POOLED[:1])[0]
    return dict(zip(NAMES, values.tolist(), strict=True))


def outliers(pooled: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        blank = torch.zeros(len(pooled), 16, 16, 3, dtype=torch.uint8)
        return np.asarray(Checks(POOLED)(blank, torch.from_numpy(pooled))[:, 0])


def test_every_measure_has_its_flags() -> None:
    assert tuple(FLAGS) == NAMES
    flags = [flag for pair in FLAGS.values() for flag in pair if flag]
    assert len(flags) == len(set(flags))


def test_the_outlier_measure_is_the_mahalanobis_distance() -> None:
    x, probe = POOLED.numpy().astype(float), RNG.normal(0, 5, (20, 6)).astype(np.float32)
    covariance = np.cov(x.T)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(covariance).mean() * np.eye(6)
    away = probe - x.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(shrunk), away) / 6)
    assert outliers(probe) == pytest.approx(expected, rel=1e-4)


def test_it_is_about_one_at_home_and_large_elsewhere() -> None:
    home = outliers(POOLED.numpy())
    assert home.mean() == pytest.approx(0.9, abs=0.15)
    assert outliers(POOLED.numpy() + 30).min() > 3 * home.max()


def test_features_that_never_vary_are_no_obstacle() -> None:
    dead = torch.cat([POOLED, torch.zeros(500, 2)], dim=1)
    with torch.inference_mode():
        assert Checks(dead)(torch.zeros(1, 16, 16, 3, dtype=torch.uint8), dead[:1]).isfinite().all()


def test_a_grey_picture_has_its_brightness_and_nothing_else() -> None:
    values = measure(Image.new("RGB", (64, 64), (51, 51, 51)))
    assert values["brightness"] == pytest.approx(0.2)
    assert values["contrast"] == pytest.approx(0, abs=1e-6)
    assert values["sharpness"] == pytest.approx(0, abs=1e-6)


def test_brightness_and_contrast_are_mean_and_spread() -> None:
    grey = np.asarray(PICTURE, float).mean(2).reshape(32, 2, 32, 2).mean((1, 3)) / 255
    values = measure(PICTURE)
    assert values["brightness"] == pytest.approx(grey.mean(), rel=1e-5)
    assert values["contrast"] == pytest.approx(grey.std(), rel=1e-5)


def test_blur_lowers_sharpness_and_noise_raises_it() -> None:
    noisy = np.asarray(PICTURE, float) + RNG.normal(0, 40, (64, 64, 3))
    blurred = measure(PICTURE.filter(ImageFilter.GaussianBlur(3)))["sharpness"]
    sharp = measure(PICTURE)["sharpness"]
    noise = measure(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))["sharpness"]
    assert blurred < 0.7 * sharp
    assert noise > 1.5 * sharp


def test_measures_do_not_depend_on_the_side_that_is_up() -> None:
    upright = measure(PICTURE)
    for turn in (Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT):
        assert measure(PICTURE.transpose(turn)) == pytest.approx(upright, rel=1e-5)
