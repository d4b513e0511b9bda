"""Augmentation: a pure function of its draws, the eight symmetries, gentle light."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lesion.data.augment import DRAWS, augment, draw_augmentation  # noqa: E402

NEUTRAL = 0.5  # of every draw but the first: no change of light


def batch(n: int = 4, size: int = 8) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def draws(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def symmetries(image: np.ndarray) -> set[bytes]:
    """The eight of the square, made another way: transposition and mirrors."""
    changed = []
    for transposed, up, left in itertools.product((False, True), repeat=3):
        x = image.swapaxes(0, 1) if transposed else image
        changed.append(x[:: -1 if up else 1, :: -1 if left else 1].tobytes())
    return set(changed)


def test_draws_depend_on_seed_epoch_and_index_only() -> None:
    drawn = draw_augmentation(50, 3, 7)
    assert (drawn.shape, drawn.dtype) == ((50, DRAWS), np.float32)
    np.testing.assert_array_equal(drawn, draw_augmentation(50, 3, 7))
    np.testing.assert_array_equal(drawn[:20], draw_augmentation(20, 3, 7))


@pytest.mark.parametrize(("seed", "epoch"), [(4, 7), (3, 8), (7, 3)])
def test_another_seed_or_epoch_gives_other_draws(seed: int, epoch: int) -> None:
    assert not np.isclose(draw_augmentation(50, seed, epoch), draw_augmentation(50, 3, 7)).all(axis=1).any()


def test_draws_are_uniform_in_0_to_1_and_differ_between_images() -> None:
    drawn = draw_augmentation(20_000, 0, 0)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    np.testing.assert_allclose(drawn.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(DRAWS), atol=0.03)
    assert len(np.unique(drawn, axis=0)) == len(drawn)


def test_every_symmetry_is_drawn_equally_often() -> None:
    counts = np.bincount((draw_augmentation(16_000, 0, 0)[:, 0] * 8).astype(int), minlength=8)
    assert len(counts) == 8
    np.testing.assert_allclose(counts / 16_000, 1 / 8, atol=0.01)


def test_the_same_draws_give_the_same_pixels_and_leave_the_input_alone() -> None:
    pixels, drawn = batch(), torch.from_numpy(draw_augmentation(4, 0, 0))
    before = pixels.clone(), drawn.clone()
    one, two = augment(pixels, drawn), augment(pixels, drawn)
    assert torch.equal(one, two)
    assert torch.equal(pixels, before[0])
    assert torch.equal(drawn, before[1])


def test_an_image_does_not_depend_on_its_batch() -> None:
    pixels, drawn = batch(16), torch.from_numpy(draw_augmentation(16, 1, 2))
    together = augment(pixels, drawn)
    for i in range(16):
        assert torch.equal(augment(pixels[i : i + 1], drawn[i : i + 1])[0], together[i])


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("size", [1, 32, 33])
def test_shape_and_type_are_kept(n: int, size: int) -> None:
    changed = augment(batch(n, size), torch.from_numpy(draw_augmentation(n, 0, 0)))
    assert (changed.shape, changed.dtype) == ((n, size, size, 3), torch.uint8)


def test_neutral_draws_change_nothing() -> None:
    pixels = batch()
    assert torch.equal(augment(pixels, draws(*[(0.0, *[NEUTRAL] * 5)] * 4)), pixels)


def test_all_eight_symmetries_occur_and_nothing_else() -> None:
    image = batch(1)
    seen = [augment(image, draws((k / 64, *[NEUTRAL] * 5)))[0].numpy().tobytes() for k in range(64)]  # eight draws each
    assert len(set(seen)) == 8
    assert set(seen) == symmetries(image[0].numpy())


def test_the_largest_draws_keep_an_image() -> None:
    largest = float(np.nextafter(np.float32(1), np.float32(0)))
    flat = torch.full((1, 8, 8, 3), 100, dtype=torch.uint8)
    assert augment(flat, draws((largest, *[NEUTRAL] * 5))).eq(100).all()
    assert augment(batch(1), draws((largest, *[NEUTRAL] * 5)))[0].numpy().tobytes() in symmetries(batch(1)[0].numpy())


@pytest.mark.parametrize(
    ("light", "wanted"),
    [
        ((0.0, 0.5, 0.5, 0.5, 0.5), (85, 85, 85)),
        ((1.0, 0.5, 0.5, 0.5, 0.5), (115, 115, 115)),
        ((0.5, 0.0, 0.5, 0.5, 0.5), (100, 100, 100)),
        ((0.5, 1.0, 0.5, 0.5, 0.5), (100, 100, 100)),
        ((0.5, 0.5, 0.0, 0.5, 1.0), (95, 100, 105)),
        ((0.5, 0.5, 0.5, 1.0, 0.5), (100, 105, 100)),
    ],
    ids=["darker", "brighter", "less contrast", "more contrast", "bluer", "greener"],
)
def test_light_changes_a_flat_grey_by_the_stated_share(light: tuple[float, ...], wanted: tuple[int, ...]) -> None:
    grey = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    assert torch.equal(augment(grey, draws((0.0, *light))), torch.tensor(wanted, dtype=torch.uint8).expand(1, 4, 4, 3))


def test_contrast_moves_pixels_away_from_the_mean() -> None:
    pixels = torch.tensor([60, 140], dtype=torch.uint8).repeat_interleave(6).reshape(1, 2, 2, 3)
    changed = augment(pixels, draws((0.0, 0.5, 1.0, 0.5, 0.5, 0.5)))
    assert changed.unique().tolist() == [54, 146]


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_extremes_are_clipped_and_never_wrap_around(value: int) -> None:
    flat = torch.full((64, 2, 2, 3), value, dtype=torch.uint8)
    corners = draws(*((0.0, *corner) for corner in itertools.product((0.0, 0.999), repeat=5)))
    changed = augment(flat, torch.cat([corners, corners])).float()
    assert (changed - value).abs().max() <= value * (1.15 * 1.05 - 1) + 1


def test_the_mean_colour_does_not_drift() -> None:
    grey = torch.randint(60, 160, (2000, 6, 6, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    changed = augment(grey, torch.from_numpy(draw_augmentation(2000, 0, 0)))
    drift = changed.float().mean((0, 1, 2)) - grey.float().mean((0, 1, 2))
    assert drift.abs().max() < 1


def test_every_image_is_changed_but_stays_recognisable() -> None:
    pixels = batch(200, 16) // 2 + 64
    light = torch.from_numpy(draw_augmentation(200, 0, 0))
    light[:, 0] = 0  # upright
    change = (augment(pixels, light).float() - pixels.float()).abs().mean((1, 2, 3))
    assert (change > 0).all()
    assert change.max() < 0.25 * 128
