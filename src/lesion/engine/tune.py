"""A learning rate and a batch size to try, by Lightning's Tuner; no run folder is made."""

import copy
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from lightning.pytorch.tuner.tuning import Tuner

from lesion.config.schema import Config
from lesion.engine.custody import Custody
from lesion.engine.module import LesionModule
from lesion.engine.train import Material, prepare
from lesion.engine.trainer import make_trainer, quiet
from lesion.errors import ConfigError
from lesion.progress import Progress, Silent
from lesion.taxonomy import Taxonomy

STEPS = 100  # of a rate that rises from LOWEST to HIGHEST
LOWEST, HIGHEST = 1e-7, 1.0
LARGEST = 4096  # images a step
QUESTIONS = ("lr", "batch-size")


@dataclass(frozen=True, slots=True)
class TuneReport:
    """A value to try, from a few steps on one device."""

    question: str
    """lr or batch-size."""
    key: str
    """Of the configuration."""
    value: float
    override: str
    """What to type after `lesion train`."""


def tune(config: Config, question: str, progress: Progress | None = None) -> TuneReport:
    """Suggest "lr" or "batch-size" for one device; the weights are thrown away.

    lr: the rate at which the loss fell most steeply as the rate rose (Smith 2017, arXiv:1506.01186). batch-size: the
    largest power of two with which three steps fit into the memory of the accelerator.

    Raises ConfigError for another question, for a batch size on a CPU, or when the loss never fell; further errors as
    in `train` before its first epoch.
    """
    if question not in QUESTIONS:
        raise ConfigError(f"--tune: one of {', '.join(QUESTIONS)} expected, got {question!r}")
    config = copy.deepcopy(config)
    config.trainer.devices, config.optim.ema = "1", 0.0
    with Custody(config), quiet():
        if question == "batch-size":
            _require_accelerator(config)
        material = prepare(config, progress or Silent())
        value = find_lr(config, material) if question == "lr" else find_batch_size(config, material)
    key = "optim.lr" if question == "lr" else "trainer.batch_size"
    return TuneReport(question=question, key=key, value=value, override=f"{key}={value:.2g}" if question == "lr"
                      else f"{key}={value}")  # fmt: skip


def find_lr(config: Config, material: Material) -> float:
    """A learning rate; the schedule is off while it is looked for."""
    with tempfile.TemporaryDirectory() as folder:
        found = _make_tuner(config, folder).lr_find(
            _Tunable.of(material), datamodule=material.data, min_lr=LOWEST, max_lr=HIGHEST, num_training=STEPS,
            update_attr=False,
        )  # fmt: skip
    value = found.suggestion() if found else None
    if value is None:
        raise ConfigError("no learning rate was found: the loss did not fall", hint="try a larger trainer.batch_size")
    return float(value)


def find_batch_size(config: Config, material: Material) -> int:
    """A number of images per step; at most as many as there are."""
    with tempfile.TemporaryDirectory() as folder:
        found = _make_tuner(config, folder).scale_batch_size(
            _Tunable.of(material), datamodule=material.data, max_val=min(LARGEST, len(material.data.train))
        )
    return int(found or config.trainer.batch_size)


def _require_accelerator(config: Config) -> None:
    trainer = make_trainer(config, Path(), [], [], enable_checkpointing=False)
    if trainer.strategy.root_device.type == "cpu":
        raise ConfigError(
            "--tune batch-size: a CPU has no memory of its own that a batch could fill",
            hint="choose trainer.batch_size by the time that `lesion train --dry-run` shows",
        )


class _Tunable(LesionModule):
    """With the batch size as the attribute that Lightning's Tuner looks for."""

    @classmethod
    def of(cls, material: Material) -> "_Tunable":
        config, data = material.module.config, material.data
        taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
        return cls(material.module.classifier, taxonomy, config, data.train.counts)

    @property
    def batch_size(self) -> int:
        """Images per step, for module and data alike: they share one configuration."""
        return self.config.trainer.batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        self.config.trainer.batch_size = value


def _make_tuner(config: Config, folder: str) -> Tuner:
    trainer = make_trainer(
        replace(config, trainer=replace(config.trainer, accumulate=1)), Path(folder), [], [],
        enable_checkpointing=False, max_epochs=-1, max_steps=STEPS,
        check_val_every_n_epoch=None, val_check_interval=10 * STEPS,  # never: a diverged loss is no error here
    )  # fmt: skip
    return Tuner(trainer)
