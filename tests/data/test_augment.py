"""Augmentation: a pure function of its draws; what moves, what covers, what light changes, what is mixed."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lesion.config.schema import AugmentConfig  # noqa: E402
from lesion.data import augment as module  # noqa: E402
from lesion.data.augment import (  # noqa: E402
    ANGLE,
    BLUE,
    BRIGHTNESS,
    CONSTANCY,
    CONTRAST,
    CORNER,
    DRAWS,
    GREEN,
    HAIR,
    MIX,
    RED,
    RULER,
    SCALE,
    SHARE,
    SYMMETRY,
    WHICH_HAIR,
    augment,
    draw_augmentation,
    mix,
)
from lesion.data.overlays import draw_hairs, draw_rulers  # noqa: E402

CPU = torch.device("cpu")
LARGEST = float(np.nextafter(np.float32(1), np.float32(0)))
LIGHT = (BRIGHTNESS, CONTRAST, RED, GREEN, BLUE)
LIT = AugmentConfig(rotate=0, scale=0, brightness=0.15, contrast=0.15, colour=0.05)  # symmetries and light
STILL = AugmentConfig(rotate=0, scale=0, brightness=0, contrast=0, colour=0)  # symmetries only
EVERYTHING = AugmentConfig(rotate=90, scale=0.3, constancy=0.5, hair=0.5, ruler=0.5, corner=0.5)
MIXED = AugmentConfig(mixup=0.4, cutmix=0.4)


def batch(n: int = 4, size: int = 8) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def drawn(n: int, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return torch.from_numpy(draw_augmentation(n, seed, epoch))


def draws(n: int = 1, **columns: float) -> torch.Tensor:
    """Upright, in the middle of every range, and nothing chosen but what `columns` name."""
    made = torch.full((n, DRAWS), 0.5)
    made[:, SYMMETRY] = 0
    made[:, [CONSTANCY, HAIR, RULER, CORNER, MIX]] = LARGEST
    for name, value in columns.items():
        made[:, getattr(module, name)] = value
    return made


def rings(size: int) -> torch.Tensor:
    """An image that no rotation about its centre changes."""
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    radius = torch.hypot(line[:, None], line)
    return (128 + 100 * torch.cos(4 * radius)).to(torch.uint8)[None, :, :, None].expand(1, size, size, 3)


def symmetries(image: np.ndarray) -> set[bytes]:
    """The eight of the square, made another way: transposition and mirrors."""
    changed = []
    for transposed, up, left in itertools.product((False, True), repeat=3):
        x = image.swapaxes(0, 1) if transposed else image
        changed.append(x[:: -1 if up else 1, :: -1 if left else 1].tobytes())
    return set(changed)


def test_draws_depend_on_seed_epoch_and_index_only() -> None:
    made = draw_augmentation(50, 3, 7)
    assert (made.shape, made.dtype) == ((50, DRAWS), np.float32)
    np.testing.assert_array_equal(made, draw_augmentation(50, 3, 7))
    np.testing.assert_array_equal(made[:20], draw_augmentation(20, 3, 7))


@pytest.mark.parametrize(("seed", "epoch"), [(4, 7), (3, 8), (7, 3)])
def test_another_seed_or_epoch_gives_other_draws(seed: int, epoch: int) -> None:
    assert not np.isclose(draw_augmentation(50, seed, epoch), draw_augmentation(50, 3, 7)).all(axis=1).any()


def test_draws_are_uniform_in_0_to_1_and_differ_between_images() -> None:
    made = draw_augmentation(20_000, 0, 0)
    assert made.min() >= 0
    assert made.max() < 1
    np.testing.assert_allclose(made.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(made.T), np.eye(DRAWS), atol=0.03)
    assert len(np.unique(made, axis=0)) == len(made)


def test_every_symmetry_is_drawn_equally_often() -> None:
    counts = np.bincount((draw_augmentation(16_000, 0, 0)[:, SYMMETRY] * 8).astype(int), minlength=8)
    assert len(counts) == 8
    np.testing.assert_allclose(counts / 16_000, 1 / 8, atol=0.01)


@pytest.mark.parametrize("config", [LIT, EVERYTHING], ids=["default", "everything"])
class TestAnyAugmentation:
    def test_the_same_draws_give_the_same_pixels_and_leave_the_input_alone(self, config: AugmentConfig) -> None:
        pixels, made = batch(8, 16), drawn(8)
        before = pixels.clone(), made.clone()
        assert torch.equal(augment(pixels, made, config), augment(pixels, made, config))
        assert torch.equal(pixels, before[0])
        assert torch.equal(made, before[1])

    def test_an_image_does_not_depend_on_its_batch(self, config: AugmentConfig) -> None:
        pixels, made = batch(16, 16), drawn(16, 1, 2)
        together = augment(pixels, made, config)
        for i in range(16):
            assert torch.equal(augment(pixels[i : i + 1], made[i : i + 1], config)[0], together[i])

    @pytest.mark.parametrize("n", [1, 5])
    @pytest.mark.parametrize("size", [1, 32, 33])
    def test_shape_type_and_layout_are_kept(self, n: int, size: int, config: AugmentConfig) -> None:
        changed = augment(batch(n, size), drawn(n), config)
        assert (changed.shape, changed.dtype) == ((n, size, size, 3), torch.uint8)
        assert changed.is_contiguous()

    def test_pixels_in_another_layout_are_taken_too(self, config: AugmentConfig) -> None:
        pixels, made = batch(8, 16), drawn(8)
        other = pixels.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        assert not other.is_contiguous()
        assert torch.equal(augment(other, made, config), augment(pixels, made, config))

    def test_neutral_draws_change_nothing(self, config: AugmentConfig) -> None:
        assert torch.equal(augment(batch(4, 33), draws(4), config), batch(4, 33))


def test_all_eight_symmetries_occur_and_nothing_else() -> None:
    image = batch(1)
    seen = [augment(image, draws(SYMMETRY=k / 64), LIT)[0].numpy().tobytes() for k in range(64)]  # eight draws each
    assert len(set(seen)) == 8
    assert set(seen) == symmetries(image[0].numpy())


def test_the_largest_draws_keep_an_image() -> None:
    turned = augment(batch(1), draws(SYMMETRY=LARGEST), LIT)
    assert turned[0].numpy().tobytes() in symmetries(batch(1)[0].numpy())
    covered = AugmentConfig(hair=1, ruler=1, corner=1, rotate=180, scale=1, constancy=1, mixup=0.5, cutmix=0.5)
    largest = torch.full((1, DRAWS), LARGEST)
    assert augment(batch(1, 32), largest, covered).shape == (1, 32, 32, 3)
    assert mix(batch(1, 32), torch.eye(7)[:1], largest, covered)[1].sum() == pytest.approx(1)


@pytest.mark.parametrize("size", [8, 33, 128])
def test_a_warp_by_nothing_is_the_identity(size: int) -> None:
    for config in (
        AugmentConfig(rotate=30, scale=0),
        AugmentConfig(scale=0.5, rotate=0),
        AugmentConfig(rotate=180, scale=1),
    ):
        assert torch.equal(augment(batch(2, size), draws(2), config), batch(2, size))
    free = replace_all(draws(2), drawn(2), [ANGLE, SCALE])
    assert torch.equal(augment(batch(2, size), free, AugmentConfig(rotate=0, scale=0)), batch(2, size))


def replace_all(base: torch.Tensor, other: torch.Tensor, columns: list[int]) -> torch.Tensor:
    base[:, columns] = other[:, columns]
    return base


@pytest.mark.parametrize("angle", [0.0, 0.2, 0.37, 0.75, LARGEST])
def test_rotation_about_the_centre_keeps_what_is_round(angle: float) -> None:
    image = rings(64)
    change = (augment(image, draws(ANGLE=angle), AugmentConfig(rotate=180, scale=0)).int() - image.int()).abs()
    line = (torch.arange(64) + 0.5) / 64 * 2 - 1
    disc = torch.hypot(line[:, None], line) < 0.95
    assert change[:, disc].max() <= 2


def test_rotation_by_a_right_angle_is_one_of_the_symmetries() -> None:
    for angle in (0.0, 0.25, 0.75):  # of -180° … 180°
        turned = augment(batch(1, 16), draws(ANGLE=angle), AugmentConfig(rotate=180, scale=0))
        assert turned[0].numpy().tobytes() in symmetries(batch(1, 16)[0].numpy())


@pytest.mark.parametrize(("draw", "wanted"), [(0.0, 1.25), (LARGEST, 1 / 1.25)])
def test_zoom_changes_a_lesion_by_the_stated_share(draw: float, wanted: float) -> None:
    line = (torch.arange(128) + 0.5) / 128 * 2 - 1
    disc = torch.where(torch.hypot(line[:, None], line) < 0.5, 0, 200).to(torch.uint8)[None, :, :, None]
    image = disc.expand(1, 128, 128, 3)
    area = (augment(image, draws(SCALE=draw), AugmentConfig(scale=0.25, rotate=0)) < 100).sum() / (image < 100).sum()
    assert float(area) ** 0.5 == pytest.approx(wanted, rel=0.01)


def test_what_a_warp_brings_in_is_mirrored_never_from_the_other_side() -> None:
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    image[:, :, :16] = 250  # a bright left margin
    for angle in np.linspace(0, LARGEST, 9):
        warped = augment(image, draws(ANGLE=angle, SCALE=LARGEST), AugmentConfig(rotate=20, scale=0.2))
        assert warped[0, 24:40, -12:].max() == 0


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_a_warp_of_one_colour_is_that_colour(value: int) -> None:
    flat = torch.full((64, 16, 16, 3), value, dtype=torch.uint8)
    moved = replace_all(draws(64), drawn(64), [ANGLE, SCALE])
    assert augment(flat, moved, AugmentConfig(rotate=180, scale=1)).eq(value).all()


@pytest.mark.parametrize(("name", "chance"), [("hair", HAIR), ("ruler", RULER), ("corner", CORNER)])
def test_covers_darken_the_chosen_share_and_nothing_else(name: str, chance: int) -> None:
    pixels, made = batch(400, 32), drawn(400)
    made[:, SYMMETRY] = 0
    config = replace(STILL, **{name: 0.3})
    changed, chosen = augment(pixels, made, config), made[:, chance] < 0.3
    assert 0.24 < chosen.float().mean() < 0.36
    assert torch.equal(changed[~chosen], pixels[~chosen])
    assert (changed <= pixels).all()
    darker = (changed[chosen] < pixels[chosen]).any(3).float().mean((1, 2))
    assert (darker > 0).float().mean() > (0.5 if name == "corner" else 0.99)  # the largest circle covers the square
    assert darker.mean() < 0.5
    assert changed.shape == pixels.shape


def test_dark_corners_are_dark_and_leave_the_middle() -> None:
    white = torch.full((1, 64, 64, 3), 200, dtype=torch.uint8)
    changed = augment(white, draws(CORNER=0, RADIUS=0), replace(LIT, corner=1))[0]
    assert changed[0, 0].max() < 20
    assert changed[8:56, 20:44].min() == 200


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_an_accelerator_covers_the_same_pixels_as_a_cpu(share: float) -> None:
    pixels, made = batch(32, 32), drawn(32)
    hairs = draw_hairs(32, CPU)
    lights: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda draw: hairs[(draw * len(hairs)).long()],
        lambda draw: module._light(32, draw),
    ]
    for light in lights:
        arguments = (pixels, made[:, HAIR] < share, made[:, WHICH_HAIR], light)
        before = pixels.clone()
        assert torch.equal(module._darken_chosen(*arguments), module._darken_all(*arguments))
        assert torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("light", "wanted"),
    [
        ({"BRIGHTNESS": 0.0}, (85, 85, 85)),
        ({"BRIGHTNESS": 1.0}, (115, 115, 115)),
        ({"CONTRAST": 0.0}, (100, 100, 100)),
        ({"CONTRAST": 1.0}, (100, 100, 100)),
        ({"RED": 0.0, "BLUE": 1.0}, (95, 100, 105)),
        ({"GREEN": 1.0}, (100, 105, 100)),
    ],
    ids=["darker", "brighter", "less contrast", "more contrast", "bluer", "greener"],
)
def test_light_changes_a_flat_grey_by_the_stated_share(light: dict[str, float], wanted: tuple[int, ...]) -> None:
    grey = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    changed = augment(grey, draws(**light), LIT)
    assert torch.equal(changed, torch.tensor(wanted, dtype=torch.uint8).expand(1, 4, 4, 3))


def test_contrast_moves_pixels_away_from_the_mean() -> None:
    pixels = torch.tensor([60, 140], dtype=torch.uint8).repeat_interleave(6).reshape(1, 2, 2, 3)
    assert augment(pixels, draws(CONTRAST=1.0), LIT).unique().tolist() == [54, 146]


def test_light_is_the_stated_formula() -> None:
    pixels, made = batch(16, 16), replace_all(draws(16), drawn(16), list(LIGHT))
    brightness, contrast = (1 + 0.15 * (2 * made[:, k, None, None, None].double() - 1) for k in (BRIGHTNESS, CONTRAST))
    tint = 1 + 0.05 * (2 * made[:, None, None, RED : BLUE + 1].double() - 1)
    exact = pixels.double()
    mean = exact.mean((1, 2, 3), keepdim=True)
    exact = (((exact - mean) * contrast + mean * brightness) * tint).clamp(0, 255)
    assert (augment(pixels, made, LIT).double() - exact).abs().max() < 0.501


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_extremes_are_clipped_and_never_wrap_around(value: int) -> None:
    flat = torch.full((32, 2, 2, 3), value, dtype=torch.uint8)
    made = draws(32)
    made[:, list(LIGHT)] = torch.tensor(list(itertools.product((0.0, 0.999), repeat=5)))
    change = augment(flat, made, LIT).float() - value
    assert change.abs().max() <= value * (1.15 * 1.05 - 1) + 1


def test_the_mean_colour_does_not_drift() -> None:
    grey = torch.randint(60, 160, (2000, 6, 6, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    drift = augment(grey, drawn(2000), LIT).float().mean((0, 1, 2)) - grey.float().mean((0, 1, 2))
    assert drift.abs().max() < 1


def test_every_image_is_changed_but_stays_recognisable() -> None:
    pixels, light = batch(200, 16) // 2 + 64, drawn(200)
    light[:, SYMMETRY] = 0  # upright
    change = (augment(pixels, light, LIT).float() - pixels.float()).abs().mean((1, 2, 3))
    assert (change > 0).all()
    assert change.max() < 0.25 * 128


def test_constancy_makes_the_light_white_and_keeps_its_strength() -> None:
    grey = torch.randint(40, 160, (1, 32, 32, 1), generator=torch.Generator().manual_seed(0)).expand(1, 32, 32, 3)
    tinted = (grey * torch.tensor([1.3, 1.0, 0.8])).to(torch.uint8)
    config = replace(STILL, constancy=0.5)
    white = augment(tinted, draws(CONSTANCY=0.1), config).float()
    means = white.mean((0, 1, 2))
    assert means.max() - means.min() < 1.5
    light = [image.float()[:, ::4, ::4].pow(6).mean((0, 1, 2)).pow(1 / 6).norm() for image in (tinted, white)]
    assert float(light[1]) == pytest.approx(float(light[0]), rel=0.02)
    assert torch.equal(augment(tinted, draws(CONSTANCY=0.9), config), tinted)
    grey8 = grey.to(torch.uint8)
    assert torch.equal(augment(grey8, draws(CONSTANCY=0.1), config), grey8)


def test_constancy_survives_black_images() -> None:
    black = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    assert augment(black, draws(2, CONSTANCY=0), replace(LIT, constancy=1)).eq(0).all()


class TestMix:
    goals = torch.eye(7)[torch.arange(64) % 7]

    def test_without_shares_nothing_is_mixed(self) -> None:
        pixels = batch(64)
        mixed, goal = mix(pixels, self.goals, drawn(64), LIT)
        assert torch.equal(mixed, pixels)
        assert torch.equal(goal, self.goals)

    def test_the_stated_shares_are_mixed_and_the_rest_is_untouched(self) -> None:
        n = 2000
        pixels, made, goals = batch(n), drawn(n), torch.eye(7)[torch.arange(n) % 7]
        mixed, goal = mix(pixels, goals, made, AugmentConfig(mixup=0.2, cutmix=0.3))
        alone = made[:, MIX] >= 0.5
        assert torch.equal(mixed[alone], pixels[alone])
        assert torch.equal(goal[alone], goals[alone])
        assert (goal[made[:, MIX] < 0.2].max(1).values < 1).all()
        assert 0.47 < alone.float().mean() < 0.53

    @pytest.mark.parametrize("config", [AugmentConfig(mixup=1), AugmentConfig(cutmix=1), MIXED])
    def test_targets_are_the_shares_of_the_pixels(self, config: AugmentConfig) -> None:
        flat = torch.zeros(64, 32, 32, 3, dtype=torch.uint8)
        flat[::2] = 250  # each image and its partner differ
        mixed, goal = mix(flat, torch.eye(2)[torch.arange(64) % 2], drawn(64), config)
        torch.testing.assert_close(goal[:, 0], mixed.float().mean((1, 2, 3)) / 250, atol=0.5 / 250, rtol=0)
        torch.testing.assert_close(goal.sum(1), torch.ones(64))
        assert goal.min() >= 0

    def test_cutmix_takes_one_rectangle_of_the_partner(self) -> None:
        pixels, made = batch(16, 32), drawn(16)
        mixed, goal = mix(pixels, self.goals[:16], made, AugmentConfig(cutmix=1))
        partner = pixels.roll(1, 0)
        for i in range(16):
            patch = (mixed[i] == partner[i]).all(2)
            assert ((mixed[i] == pixels[i]).all(2) | patch).all()
            rows, columns = patch.any(1), patch.any(0)
            assert float(patch.float().mean()) == pytest.approx(float(rows.sum() * columns.sum()) / 32**2)
            assert float(patch.float().mean()) == pytest.approx(1 - float(goal[i, i % 7]), abs=1e-6)

    def test_mixup_is_the_weighted_mean(self) -> None:
        pixels, made = batch(16), drawn(16)
        mixed, goal = mix(pixels, self.goals[:16], made, AugmentConfig(mixup=1))
        kept = made[:, SHARE, None, None, None].double()
        exact = pixels * kept + pixels.roll(1, 0) * (1 - kept)
        assert (mixed.double() - exact).abs().max() <= 0.501
        torch.testing.assert_close(goal.gather(1, torch.arange(16)[:, None] % 7)[:, 0], made[:, SHARE])

    def test_an_image_depends_on_its_partner_only(self) -> None:
        pixels, made = batch(8, 16), drawn(8)
        mixed, goal = mix(pixels, self.goals[:8], made, MIXED)
        for i in range(1, 8):
            pair = slice(i - 1, i + 1)
            one, its_goal = mix(pixels[pair], self.goals[pair], made[pair], MIXED)
            assert torch.equal(one[1], mixed[i])
            assert torch.equal(its_goal[1], goal[i])

    def test_inputs_are_left_alone_and_a_batch_of_one_mixes_with_itself(self) -> None:
        pixels, goals, made = batch(4), self.goals[:4].clone(), drawn(4)
        before = pixels.clone(), goals.clone(), made.clone()
        mix(pixels, goals, made, MIXED)
        assert all(torch.equal(now, was) for now, was in zip((pixels, goals, made), before, strict=True))
        alone, goal = mix(pixels[:1], goals[:1], draws(MIX=0, LEFT=0.1, TOP=0.9), AugmentConfig(mixup=1))
        assert torch.equal(alone, pixels[:1])
        torch.testing.assert_close(goal, goals[:1])

    def test_type_shape_and_layout_are_kept(self) -> None:
        mixed, goal = mix(batch(5, 33), self.goals[:5], drawn(5), MIXED)
        assert (mixed.dtype, mixed.shape, goal.dtype) == (torch.uint8, (5, 33, 33, 3), torch.float32)
        assert mixed.is_contiguous()


def test_rulers_and_hairs_are_of_one_bank_for_one_device() -> None:
    assert draw_hairs(32, CPU) is draw_hairs(32, torch.device("cpu"))
    assert not torch.equal(draw_hairs(32, CPU), draw_rulers(32, CPU))
