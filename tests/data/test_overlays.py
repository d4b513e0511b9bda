"""The masks that are laid over images: they let light through, and are the same at each call."""

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from lesion.data.overlays import BANK, draw_hairs, draw_rulers  # noqa: E402

CPU = torch.device("cpu")
both = pytest.mark.parametrize("draw", [draw_hairs, draw_rulers], ids=["hairs", "rulers"])
Draw = Callable[..., torch.Tensor]


@both
@pytest.mark.parametrize("size", [1, 32, 65])
def test_masks_have_the_stated_shape_type_and_range(draw: Draw, size: int) -> None:
    masks = draw(size, CPU)
    assert (masks.shape, masks.dtype) == ((BANK, size, size, 1), torch.float32)
    assert masks.min() >= 0.1
    assert masks.max() <= 1


@both
def test_most_of_a_picture_stays_in_the_light(draw: Draw) -> None:
    covered = (draw(64, CPU) < 1).float().mean((1, 2, 3))
    assert (covered > 0.005).all()
    assert (covered < 0.5).all()
    assert (draw(64, CPU).amin((1, 2, 3)) < 0.85).all()


@both
def test_masks_are_drawn_once_and_are_the_same_in_every_process(draw: Draw) -> None:
    masks = draw(48, CPU)
    assert draw(48, CPU) is masks
    draw.cache_clear()  # type: ignore[attr-defined]
    assert torch.equal(draw(48, CPU), masks)


@both
def test_no_two_masks_are_alike(draw: Draw) -> None:
    assert len({mask.numpy().tobytes() for mask in draw(64, CPU)}) == BANK


def test_the_ticks_of_a_ruler_lie_along_the_upper_edge() -> None:
    masks = draw_rulers(96, CPU)
    assert (masks[:, 30:] == 1).all()
    assert ((masks[:, :30] < 1).any(1).sum((1, 2)) > 15).all()  # columns with a tick


def test_a_mask_shrinks_with_the_picture() -> None:
    large, small = (draw_hairs(size, CPU)[..., 0] for size in (128, 64))
    halved = torch.nn.functional.avg_pool2d(large[:, None], 2)[:, 0]
    assert (halved - small).abs().mean() < 0.03
