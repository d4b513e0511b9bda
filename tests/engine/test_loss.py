"""The loss, against torch's own and against what can be worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, one_hot

from lesion.config.schema import LossConfig
from lesion.engine.loss import Loss

COUNTS = torch.tensor([327, 514, 1099, 115, 1113, 6705, 142])  # of HAM10000


def some(n: int = 32, seed: int = 0, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, 7, generator=rng), torch.randint(0, 7, (n,), generator=rng)


def soft(n: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 7, generator=torch.Generator().manual_seed(seed)).softmax(1)


def loss(counts: torch.Tensor = COUNTS, **config: float) -> Loss:
    return Loss(LossConfig(**config), counts)


@given(seed=st.integers(0, 999), n=st.integers(1, 40), scale=st.floats(0.01, 30))
def test_by_default_it_is_cross_entropy(seed: int, n: int, scale: float) -> None:
    logits, target = some(n, seed, scale)
    torch.testing.assert_close(loss()(logits, target), cross_entropy(logits, target))
    hard = one_hot(target, 7).float()
    torch.testing.assert_close(loss()(logits, hard), cross_entropy(logits, target))


def test_wanted_probabilities_are_those_of_cross_entropy() -> None:
    logits, _ = some()
    torch.testing.assert_close(loss()(logits, soft()), cross_entropy(logits, soft()))


@given(seed=st.integers(0, 999), smoothing=st.floats(0, 0.5))
def test_smoothing_is_that_of_torch(seed: int, smoothing: float) -> None:
    logits, target = some(seed=seed)
    wanted = cross_entropy(logits, target, label_smoothing=smoothing)
    torch.testing.assert_close(loss(smoothing=smoothing)(logits, one_hot(target, 7).float()), wanted)
    mixed = cross_entropy(logits, soft(), label_smoothing=smoothing)
    torch.testing.assert_close(loss(smoothing=smoothing)(logits, soft()), mixed)


def test_a_class_as_target_is_that_of_a_validation_and_never_smoothed() -> None:
    logits, target = some()
    torch.testing.assert_close(loss(smoothing=0.3)(logits, target), cross_entropy(logits, target))


@given(seed=st.integers(0, 999), weighting=st.floats(0, 1))
def test_class_weights_are_those_of_torch(seed: int, weighting: float) -> None:
    logits, target = some(seed=seed)
    weight = (COUNTS / COUNTS.sum()) ** -weighting
    wanted = cross_entropy(logits, target, weight)
    torch.testing.assert_close(loss(weighting=weighting)(logits, target), wanted)
    torch.testing.assert_close(loss(weighting=weighting)(logits, one_hot(target, 7).float()), wanted)


def test_full_weights_make_all_classes_count_the_same() -> None:
    target = torch.arange(7).repeat_interleave(COUNTS)
    logits = torch.randn(7, 7, generator=torch.Generator().manual_seed(0))[target]
    by_class = torch.stack([cross_entropy(logits[target == k], target[target == k]) for k in range(7)])
    torch.testing.assert_close(loss(weighting=1.0)(logits, target), by_class.mean())


def test_weights_do_not_depend_on_the_size_of_the_data() -> None:
    logits, target = some()
    one, two = loss(COUNTS, weighting=0.7), loss(COUNTS * 10, weighting=0.7)
    torch.testing.assert_close(one(logits, target), two(logits, target))


@given(seed=st.integers(0, 999), adjustment=st.floats(0, 2))
def test_adjustment_adds_log_priors_to_the_logits(seed: int, adjustment: float) -> None:
    logits, target = some(seed=seed)
    moved = logits + adjustment * (COUNTS / COUNTS.sum()).log()
    torch.testing.assert_close(loss(adjustment=adjustment)(logits, target), cross_entropy(moved, target))


def test_with_adjustment_a_network_that_knows_only_the_priors_has_nothing_to_learn() -> None:
    target = torch.arange(7).repeat_interleave(COUNTS)
    logits = torch.zeros(len(target), 7, requires_grad=True)
    loss(adjustment=1.0)(logits, target).backward()
    assert logits.grad is not None
    assert logits.grad.sum(0).abs().max() < 1e-5


def test_focal_loss_by_hand() -> None:
    # p = (3/4, 1/4): 1/16 of -log 3/4 where the first is right, 9/16 of -log 1/4 where the second is.
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    wanted = (1 / 16 * math.log(4 / 3) + 9 / 16 * math.log(4)) / 2
    even = torch.tensor([5, 5])
    assert float(loss(even, focus=2.0)(logits, torch.tensor([0, 1]))) == pytest.approx(wanted)
    weighted = (1 / 16 * math.log(4 / 3) * 4 + 9 / 16 * math.log(4) * 4 / 3) / (4 + 4 / 3)
    uneven = loss(torch.tensor([1, 3]), focus=2.0, weighting=1.0)
    assert float(uneven(logits, torch.tensor([0, 1]))) == pytest.approx(weighted)


@pytest.mark.parametrize("focus", [0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e4])
def test_the_gradient_stays_finite_where_the_network_is_sure(focus: float, scale: float) -> None:
    logits, target = some()
    logits = (logits * scale).requires_grad_()
    value = loss(focus=focus, weighting=1.0, adjustment=1.0)(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_focus_looks_at_hard_images() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 1.0]], requires_grad=True)  # one right, one wrong
    shares = []
    for focus in (0.0, 2.0):
        (slope,) = torch.autograd.grad(loss(torch.tensor([1, 1]), focus=focus)(logits, torch.tensor([0, 0])), logits)
        shares.append(float(slope[1].norm() / slope.norm(dim=1).sum()))
    assert 0.9 < shares[0] < shares[1]


@pytest.mark.parametrize("config", [{"weighting": 1.0}, {"adjustment": 1.0}, {"weighting": 0.5, "focus": 2.0}])
def test_classes_without_images_stay_finite(config: dict[str, float]) -> None:
    counts = torch.tensor([0, 5, 0, 10, 1, 0, 100])
    logits, target = some()
    made = loss(counts, **config)
    assert all(torch.isfinite(buffer).all() for buffer in made.buffers())
    assert torch.isfinite(made(logits, target))


def test_logits_in_bf16_are_reckoned_in_float32() -> None:
    logits, target = some()
    made = loss(weighting=0.5, adjustment=1.0, focus=2.0)
    half = logits.bfloat16()
    value = made(half, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, made(half.float(), target))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(half, target), value)


def test_it_brings_nothing_into_a_checkpoint() -> None:
    assert loss(weighting=1.0).state_dict() == {}
