"""Losses and weights that are no numbers end a training before they are written, and name what they came from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lesion.config.schema import Config
from lesion.engine import guard, train
from lesion.engine.checkpoint import list_checkpoints, read_checkpoint
from lesion.engine.guard import Guard
from lesion.engine.module import LesionModule
from lesion.errors import NonFiniteError
from lesion.run import Run

pytestmark = pytest.mark.slow
STEP = 2
Batch = dict[str, torch.Tensor]


@pytest.fixture
def quick(quick: Config) -> Config:
    return replace(quick, trainer=replace(quick.trainer, precision="32-true"))


def the_run(config: Config) -> Run:
    (path,) = (path for path in Path(config.runs).iterdir() if path.is_dir())
    return Run(path)


def poison(monkeypatch: pytest.MonkeyPatch, value: float) -> list[str]:
    """Make the loss `value` at one step of the second epoch; returns a list that will hold its images."""
    healthy, images = LesionModule.training_step, []

    def step(self: LesionModule, batch: Batch, index: int) -> torch.Tensor:
        loss = healthy(self, batch, index)
        if (self.current_epoch, index) != (1, STEP):
            return loss
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        size = data.config.trainer.batch_size
        images.extend(data.train.rows[i].image_id for i in data.train.order[index * size : (index + 1) * size])
        return loss * value

    monkeypatch.setattr(LesionModule, "training_step", step)
    return images


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("device", ["cpu", "one that is asked rarely"])
def test_a_loss_that_is_no_number_names_epoch_step_and_images(
    value: float, device: str, quick: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = poison(monkeypatch, value)
    if device != "cpu":
        look = Guard.on_train_batch_end

        def seldom(self: Guard, trainer: object, module: LesionModule, *rest: object) -> None:
            class Far:
                device = torch.device("meta")

            look(self, trainer, Far(), *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(Guard, "on_train_batch_end", seldom)
        monkeypatch.setattr(guard, "EVERY", 10_000)  # so that only the end of the epoch looks
    with pytest.raises(NonFiniteError) as caught:
        train.train(quick)
    run = the_run(quick)
    assert caught.value.exit_code == 70
    assert f"the loss is {value} at step {STEP + 1} of epoch 2" in caught.value.message
    assert images[0] in caught.value.message
    state = run.read_state()
    assert state["non_finite"] == {"epoch": 2, "step": STEP + 1, "images": images}
    assert (state["status"], state["reason"]) == ("failed", caught.value.message)
    (kept,) = list_checkpoints(run)
    assert all(bool(value.isfinite().all()) for value in read_checkpoint(kept)["state_dict"].values())
    assert f"lesion train --resume {run.path}" in caught.value.hint


def test_weights_that_are_no_numbers_are_not_written(quick: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    end = Guard.on_train_epoch_end

    def spoil(self: Guard, trainer: object, module: LesionModule) -> None:
        if module.current_epoch == 1:
            with torch.no_grad():
                next(module.parameters()).fill_(float("inf"))
        end(self, trainer, module)  # type: ignore[arg-type]

    monkeypatch.setattr(Guard, "on_train_epoch_end", spoil)
    with pytest.raises(NonFiniteError, match=r"1 of \d+ weights and optimiser states .* after epoch 2"):
        train.train(quick)
    assert len(list_checkpoints(the_run(quick))) == 1


def test_a_healthy_epoch_reports_the_loss_of_each_step(quick: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, losses = [], {}
    healthy = LesionModule.training_step

    def step(self: LesionModule, batch: Batch, index: int) -> torch.Tensor:
        loss = healthy(self, batch, index)
        seen.append(float(loss.detach()))
        return loss

    def make(self: Guard, run: Run, data: object, _: object) -> None:
        original(self, run, data, lambda *reported: losses.update({reported[-1]: reported}))  # type: ignore[arg-type]

    original = Guard.__init__
    monkeypatch.setattr(Guard, "__init__", make)
    monkeypatch.setattr(LesionModule, "training_step", step)
    train.train(replace(quick, trainer=replace(quick.trainer, epochs=2, accumulate=2)))
    assert list(losses) == [0, 1]
    assert losses[0][0] == "train_loss_step"
    n = len(seen) // 2
    expected = [np.mean(seen[start + i : min(start + i + 2, start + n)]) for start in (0, n) for i in range(0, n, 2)]
    steps, values = (np.concatenate([losses[epoch][part] for epoch in (0, 1)]) for part in (1, 2))
    assert (steps == np.arange(len(steps))).all()
    assert values.dtype == np.float32
    assert values == pytest.approx(expected, rel=1e-6)
