"""Groups of parameters, and the schedule."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lesion.config.schema import TIERS, ModelConfig, OptimConfig
from lesion.engine.optim import make_optimizer, make_schedule
from lesion.models import Classifier, build

CONFIG = OptimConfig(lr=1e-3, weight_decay=0.05, layer_decay=0.5)
tiers = pytest.mark.parametrize("tier", TIERS)


def make(tier: str, config: OptimConfig = CONFIG, steps: int = 100) -> tuple[Classifier, torch.optim.AdamW]:
    with torch.device("meta"):
        net = build(ModelConfig(tier=tier), 7)
    made = make_optimizer(net, config, steps)["optimizer"]
    assert isinstance(made, torch.optim.AdamW)
    return net, made


@tiers
def test_each_parameter_is_in_exactly_one_group(tier: str) -> None:
    net, optimizer = make(tier)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in net.parameters()}


@tiers
def test_normalisations_and_biases_do_not_decay(tier: str) -> None:
    net, optimizer = make(tier)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    spared = set()
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias" or isinstance(module, nn.BatchNorm2d):
                spared.add(id(parameter))
    assert {key for key, value in decay.items() if value == 0} == spared
    assert {value for key, value in decay.items() if key not in spared} == {0.05}


@tiers
def test_each_stage_learns_half_as_fast_as_the_next(tier: str) -> None:
    net, optimizer = make(tier)
    rate = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    stages = net.stages()
    for depth, stage in enumerate(reversed(stages)):
        assert {rate[id(p)] for p in stage.parameters()} == {1e-3 * 0.5**depth}
    assert len(stages) > 5


@tiers
def test_without_layer_decay_all_learn_alike(tier: str) -> None:
    _, optimizer = make(tier, OptimConfig(lr=1e-3))
    assert {group["initial_lr"] for group in optimizer.param_groups} == {1e-3}


@pytest.mark.parametrize("fused", [True, False])
def test_the_kernel_is_fused_when_told(fused: bool) -> None:
    net = Classifier(nn.Sequential(nn.Linear(2, 2)))
    made = make_optimizer(net, CONFIG, 10, fused)["optimizer"]
    assert bool(made.defaults["fused"]) is fused
    # Lightning refuses to clip gradients in mixed precision for an optimiser with this mark.
    assert getattr(made, "_step_supports_amp_scaling", False) is fused


@given(steps=st.integers(1, 3000), warmup=st.floats(0, 0.9))
def test_the_rate_rises_linearly_and_falls_to_zero(steps: int, warmup: float) -> None:
    scale = make_schedule(steps, warmup)
    rates = [scale(step) for step in range(steps + 1)]
    rising = max(1, round(warmup * steps))
    assert rates[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    assert max(rates) == rates[rising - 1] == 1
    falling = rates[rising:]
    assert all(after <= before for before, after in itertools.pairwise(falling))
    assert min(rates[:-1]) > 0
    assert scale(steps + 7) == pytest.approx(0, abs=1e-12)
    if rising < steps:
        assert rates[steps] == pytest.approx(0, abs=1e-12)


def test_the_fall_is_a_cosine() -> None:
    scale = make_schedule(110, 10 / 110)
    assert [scale(10), scale(60), scale(110)] == pytest.approx([1, 0.5, 0])
    assert scale(35) == pytest.approx((1 + 0.5**0.5) / 2)


def test_the_schedule_moves_every_group_by_its_own_peak() -> None:
    net = build(ModelConfig(tier="baseline"), 7)
    made = make_optimizer(net, CONFIG, 10)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert max(group["lr"] for group in optimizer.param_groups) == pytest.approx(0, abs=1e-12)
