"""A learning rate and a batch size from Lightning's Tuner, whose checkpoints only hold plain data here, too."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lesion.config.schema import Config
from lesion.data.datamodule import LesionData
from lesion.data.split import open_dataset
from lesion.engine.train import Material
from lesion.engine.trainer import quiet
from lesion.engine.tune import HIGHEST, LOWEST, STEPS, find_batch_size, find_lr, find_steepest, tune
from lesion.errors import ConfigError
from lesion.progress import Silent
from tests.conftest import Cli
from tests.engine.conftest import QUICK
from tests.engine.little import copy_state, make_module, same

pytestmark = pytest.mark.slow


@pytest.fixture
def material(quick: Config) -> Material:
    quick.optim.ema = 0.0
    dataset = open_dataset(quick.data)
    data = LesionData(quick, dataset)
    return Material(dataset, data, make_module(quick, data))


class Count(Silent):
    """How far a bar came."""

    def __init__(self) -> None:
        self.steps = 0
        self.open = False

    def begin(self, label: str, total: int, unit: str = "") -> None:
        self.open = True

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.steps += steps

    def end(self) -> None:
        self.open = False


def test_a_learning_rate_is_found_and_the_weights_come_back(
    material: Material, quick: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    before, counts = copy_state(material.module), Count()
    with quiet():
        found = find_lr(quick, material, counts)
    assert LOWEST < found < HIGHEST
    assert 1 < counts.steps <= STEPS
    assert not counts.open
    assert capsys.readouterr() == ("", "")  # Lightning has a bar of its own
    assert same(copy_state(material.module), before)
    assert not Path(quick.runs).exists()


def test_the_steepest_fall_is_over_the_logarithm_of_the_rate() -> None:
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    losses = 2 - 1 / (1 + (1e-3 / rates) ** 2)  # falls around 1e-3
    losses -= 1e-3 * np.sin(np.arange(STEPS))  # noise, which is steepest over the rate where rates are small
    assert np.exp(np.abs(np.log(find_steepest(rates.tolist(), losses.tolist()) / 1e-3))) < 1.5
    assert find_steepest(rates.tolist(), np.arange(STEPS).tolist()) is None
    assert find_steepest(rates.tolist(), [math.nan] * STEPS) is None


@pytest.mark.parametrize(("fits", "found"), [(20, 16), (999, 64)])
def test_the_largest_batch_that_fits_is_found(
    fits: int, found: int, material: Material, quick: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 64 <= len(material.data.train) < 128
    from lesion.engine.module import LesionModule

    healthy, tried = LesionModule.training_step, []

    def step(self: LesionModule, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        tried.append(len(batch["target"]))
        if len(batch["target"]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return healthy(self, batch, index)

    monkeypatch.setattr(LesionModule, "training_step", step)
    before = copy_state(material.module)
    with quiet():
        assert find_batch_size(quick, material, Silent()) == found
    assert max(tried) == max(32, found)
    assert same(copy_state(material.module), before)


def test_on_a_cpu_no_batch_size_is_looked_for(quick: Config) -> None:
    with pytest.raises(ConfigError, match="a CPU has no memory of its own"):
        tune(quick, "batch-size")


def test_another_question_is_refused(quick: Config) -> None:
    with pytest.raises(ConfigError, match="one of lr, batch-size expected, got 'beer'"):
        tune(quick, "beer")


def test_the_command_prints_what_to_type(ham_root: Path, tmp_path: Path, cli: Cli) -> None:
    words = ("train", "--tune", "lr", f"data.root={ham_root}", f"runs={tmp_path / 'runs'}", *QUICK)
    outcome = cli(*words, "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["override"] == f"optim.lr={report['value']:.2g}"
    assert not (tmp_path / "runs").exists()
    assert cli(*words, "--dry-run").code == 2
