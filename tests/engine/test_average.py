"""The moving average: what it is, where it is used, and that a resumed run goes on with it."""

from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lesion.config.schema import Config, OptimConfig
from lesion.data.datamodule import LesionData
from lesion.data.split import open_dataset
from lesion.engine.average import EVERY, FIRST, MovingAverage
from lesion.engine.checkpoint import find_last, read_checkpoint
from lesion.engine.keeper import Keeper
from lesion.run import Run
from tests.engine.little import Spy, State, build_little, copy_state, fit, make_module, same

DECAY = 0.9


@pytest.fixture
def config(quick: Config) -> Config:
    # Not the whole of QUICK's rate: weights that hardly move would make any average right.
    trainer = replace(quick.trainer, epochs=2, batch_size=3, precision="32-true")
    return replace(quick, optim=OptimConfig(lr=0.05, ema=DECAY), trainer=trainer)


@pytest.fixture
def data(config: Config) -> LesionData:
    return LesionData(config, open_dataset(config.data))


def updating(states: list[State]) -> list[State]:
    return [state for step, state in enumerate(states) if step < FIRST or step % EVERY == 0]


def average(states: list[State], decay: float) -> State:
    """The recursion, written out."""
    mean = states[0]
    for count, state in enumerate(updating(states)[1:], start=1):
        kept = min((1 + count) / (10 + count), decay**EVERY)
        mean = {
            name: kept * mean[name] + (1 - kept) * value if value.is_floating_point() else value
            for name, value in state.items()
        }
    return mean


class Stop(L.Callback):
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True


@pytest.mark.parametrize("decay", [0.5, DECAY, 0.9999])
def test_it_is_the_recursion_and_the_module_ends_with_it(
    decay: float, config: Config, data: LesionData, tmp_path: Path
) -> None:
    config = replace(config, optim=replace(config.optim, ema=decay))
    spy = Spy()
    _, module = fit(config, data, tmp_path, [spy])
    assert len(spy.steps) > FIRST + EVERY
    wanted = average(spy.steps, decay)
    assert not torch.allclose(spy.steps[-1]["classifier.net.head.1.weight"], wanted["classifier.net.head.1.weight"])
    torch.testing.assert_close(copy_state(module), wanted)


def test_statistics_of_normalisations_are_averaged_and_counts_are_not(
    config: Config, data: LesionData, tmp_path: Path
) -> None:
    spy = Spy()
    _, module = fit(config, data, tmp_path, [spy])
    last = updating(spy.steps)[-1]
    state, name = module.state_dict(), "classifier.net.features.0.1"
    assert torch.equal(state[f"{name}.num_batches_tracked"], last[f"{name}.num_batches_tracked"])
    assert not torch.equal(state[f"{name}.running_mean"], last[f"{name}.running_mean"])


def test_it_is_what_is_validated_and_kept(config: Config, data: LesionData, tmp_path: Path) -> None:
    run, spy = Run.create(tmp_path / "runs", "tiny"), Spy()
    fit(config, data, tmp_path, [spy, Keeper(run)])
    last = find_last(run, make_module(config, data).state_dict())
    assert last is not None
    kept = read_checkpoint(last)
    torch.testing.assert_close(dict(kept["state_dict"]), average(spy.steps, DECAY))
    assert same(dict(kept["current_model_state"]), spy.steps[-1])
    net = build_little().eval()
    net.load_state_dict({name.removeprefix("classifier."): value for name, value in kept["state_dict"].items()})
    with torch.inference_mode():
        logits = net(torch.from_numpy(np.asarray(data.val.pixels[data.val.index])))
    assert spy.figures[-1]["val_loss"] == pytest.approx(float(cross_entropy(logits, data.val.targets)), rel=1e-5)


@pytest.mark.parametrize("freeze", [0, 1])
def test_a_resumed_run_goes_on_with_it_to_the_bit(
    freeze: int, config: Config, data: LesionData, tmp_path: Path
) -> None:
    config = replace(config, optim=replace(config.optim, freeze=freeze))
    whole, parts = (Run.create(tmp_path / "runs", name) for name in ("whole", "parts"))
    _, one = fit(config, data, tmp_path, [Keeper(whole)])
    fit(config, data, tmp_path, [Keeper(parts), Stop()])
    first = find_last(parts, one.state_dict())
    assert first is not None
    assert first.name.startswith("epoch=00")
    spy = Spy()
    _, two = fit(config, data, tmp_path, [spy, Keeper(parts)], after=first)
    assert len(spy.epochs) == 1
    assert same(copy_state(one), copy_state(two))
    contents = [read_checkpoint(path) for run in (whole, parts) if (path := find_last(run, one.state_dict()))]
    assert len(contents) == 2
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert same(dict(contents[0][key]), dict(contents[1][key])), key


def test_without_it_the_last_weights_are_kept(config: Config, data: LesionData, tmp_path: Path) -> None:
    spy = Spy()
    trainer, module = fit(replace(config, optim=replace(config.optim, ema=0)), data, tmp_path, [spy])
    assert not any(isinstance(callback, MovingAverage) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    assert same(copy_state(module), spy.steps[-1])
