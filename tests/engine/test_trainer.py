"""Lightning's Trainer as this project sets it up."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from lesion.config.load import to_yaml
from lesion.config.schema import Config, ModelConfig, OptimConfig, TrainerConfig
from lesion.data.datamodule import LesionData
from lesion.data.split import open_dataset
from lesion.engine.average import MovingAverage
from lesion.engine.trainer import _devices, choose_precision, make_trainer
from lesion.errors import ConfigError
from tests.conftest import PATIENCE_S

REPO = Path(__file__).parents[2]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One without any hardware that multiplies in 16 bits."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(f"torch.cpu.{name}", lambda: False, raising=False)
    return monkeypatch


def choose(accelerator: str = "auto", tier: str = "baseline", precision: str = "auto") -> str:
    chosen = choose_precision(
        Config(trainer=TrainerConfig(accelerator=accelerator, precision=precision), model=ModelConfig(tier=tier))
    )
    assert isinstance(chosen, str)
    return chosen


@pytest.mark.usefixtures("machine")
def test_without_fast_bf16_precision_is_full() -> None:
    assert choose() == choose("cpu") == choose("cpu", "efficientnet") == "32-true"


@pytest.mark.parametrize("name", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_cpu_with_fast_bf16_uses_it_where_that_is_faster(name: str, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(f"torch.cpu.{name}", lambda: True, raising=False)
    assert choose() == choose("cpu") == choose("cpu", "resnet") == "bf16-mixed"
    assert choose("cpu", "efficientnet") == "32-true"


def make(**knobs: str) -> Trainer:
    return make_trainer(Config(trainer=TrainerConfig(**knobs)), Path(), [], [], enable_checkpointing=False)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps", "tpu"])
def test_a_device_that_is_not_there_is_refused_with_one_that_is(accelerator: str) -> None:
    with pytest.raises(ConfigError, match="torch finds no device of the kind") as caught:
        make(accelerator=accelerator)
    assert caught.value.hint == "trainer.accelerator=auto takes what there is: cpu"
    assert make(accelerator="auto").strategy.root_device.type == "cpu"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "knobs",
    [{"devices": devices} for devices in ("abc", "0", "-2", "1.5", "", ",", "9" * 5000, "0,1", "[0]", "-1")]
    + [{"strategy": strategy} for strategy in ("foo", "fsdp", "deepspeed", "")],
    ids=str,
)
def test_devices_and_strategies_that_cannot_be_used_are_one_clear_error(knobs: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.(devices|accelerator)") as caught:
        make(**knobs)
    assert caught.value.hint


def test_devices_are_how_many_or_which() -> None:
    named = {"auto": "auto", "2": 2, "-1": -1, "0,1": [0, 1], "[0, 1]": [0, 1], "1,": [1], "[3]": [3]}
    assert {text: _devices(text) for text in named} == named


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
@pytest.mark.parametrize(("supported", "wanted"), [(True, "bf16-mixed"), (False, "16-mixed")])
@pytest.mark.parametrize("tier", ["baseline", "efficientnet"])
def test_a_gpu_trains_in_16_bits(
    accelerator: str, supported: bool, wanted: str, tier: str, machine: pytest.MonkeyPatch
) -> None:
    machine.setattr("torch.cuda.is_available", lambda: True)
    machine.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: supported or including_emulation)
    assert choose(accelerator, tier) == wanted
    assert choose("cpu", tier) == "32-true"


def test_a_mac_trains_in_full_precision(machine: pytest.MonkeyPatch) -> None:
    machine.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose("auto") == choose("mps") == choose("gpu") == "32-true"


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_a_chosen_precision_is_taken(precision: str, machine: pytest.MonkeyPatch) -> None:
    machine.setattr("torch.cuda.is_available", lambda: True)
    assert choose(precision=precision) == precision


@pytest.mark.parametrize(("ema", "wanted"), [(0.0, 0), (0.99, 1)])
def test_the_average_is_there_when_asked_for(ema: float, wanted: int, quick: Config, tmp_path: Path) -> None:
    trainer = make_trainer(replace(quick, optim=OptimConfig(ema=ema)), tmp_path, [], [])
    averages = [callback for callback in trainer.callbacks if isinstance(callback, MovingAverage)]  # type: ignore[attr-defined]
    assert len(averages) == wanted


SCRIPT = """
import sys, torch
from pathlib import Path
from lesion.config.load import load_config
from lesion.data.datamodule import LesionData
from lesion.data.split import open_dataset
from tests.engine.little import Spy, fit

torch.set_num_threads(1)
config, out, images = load_config([Path(sys.argv[1])]), Path(sys.argv[2]), []
data = LesionData(config, open_dataset(config.data))

class Count(Spy):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        images.append(len(batch["target"]))
    def on_validation_epoch_end(self, trainer, pl_module):
        self.validated = sum(len(target) for _, target in pl_module._seen)

spy = Count()
trainer, _ = fit(config, data, out, [spy])
torch.save({"steps": images, "validated": spy.validated, "epochs": spy.epochs, "figures": spy.figures},
           out / f"{trainer.global_rank}.pt")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torch's gloo backend finds no network device on some Windows")
def test_two_processes_share_the_work(quick: Config, tmp_path: Path) -> None:
    optim = OptimConfig(lr=0.01, freeze=1, ema=0.9)
    trainer = replace(quick.trainer, devices="2", strategy="ddp", batch_size=8, epochs=2, precision="32-true")
    config = replace(quick, optim=optim, trainer=trainer)
    data = LesionData(config, open_dataset(config.data))  # fills the cache
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    (tmp_path / "train.py").write_text(SCRIPT)
    words = [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "config.yaml"), str(tmp_path)]
    path = {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE_S, env={**os.environ, **path}, check=False
    )
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert sum(one["steps"]) == sum(two["steps"]) == 2 * (len(data.train) // 2)  # of two epochs
    assert one["steps"] == two["steps"]
    assert one["validated"] + two["validated"] == len(data.val)
    assert one["figures"] == two["figures"]
    for mine, theirs in zip(one["epochs"], two["epochs"], strict=True):
        for name, value in mine.items():
            # Statistics of normalisations are each process's own until the next step.
            if "running" not in name:
                assert torch.equal(value, theirs[name]), name
    first, last = one["epochs"][0], one["epochs"][-1]
    body = "classifier.net.features.0.0.weight"
    assert not torch.equal(first[body], last[body])
