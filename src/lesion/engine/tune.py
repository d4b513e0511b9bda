"""A learning rate and a batch size to try, by Lightning's Tuner; no run folder is made."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.tuner.lr_finder import _LRCallback
from lightning.pytorch.tuner.tuning import Tuner

from lesion.config.schema import Config
from lesion.engine.custody import Custody
from lesion.engine.module import LesionModule
from lesion.engine.train import Material, prepare
from lesion.engine.trainer import make_trainer, quiet
from lesion.errors import ConfigError
from lesion.files import temporary_folder
from lesion.progress import Progress, Silent
from lesion.taxonomy import Taxonomy

STEPS = 100  # of a rate that rises from LOWEST to HIGHEST
LOWEST, HIGHEST = 1e-7, 1.0
LARGEST = 4096  # images a step
SKIPPED = 10  # of these
TRIAL = 3  # steps of a batch size
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

    lr: the rate at which the loss fell most steeply as the rate's logarithm rose (Smith 2017, arXiv:1506.01186).
    batch-size: the largest power of two with which three steps fit into the memory of the accelerator.

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
        show = progress or Silent()
        material = prepare(config, show)
        value = find_lr(config, material, show) if question == "lr" else find_batch_size(config, material, show)
    key = "optim.lr" if question == "lr" else "trainer.batch_size"
    return TuneReport(question=question, key=key, value=value, override=f"{key}={value:.2g}" if question == "lr"
                      else f"{key}={value}")  # fmt: skip


def find_lr(config: Config, material: Material, progress: Progress) -> float:
    """A learning rate; the schedule is off while it is looked for."""
    with _open_tuner(config, material, progress, STEPS) as (tuner, module):
        found = tuner.lr_find(
            module, datamodule=material.data, min_lr=LOWEST, max_lr=HIGHEST, num_training=STEPS, update_attr=False
        )
    value = find_steepest(found.results["lr"], found.results["loss"]) if found else None
    if value is None:
        raise ConfigError("no learning rate was found: the loss did not fall", hint="try a larger trainer.batch_size")
    return value


def find_steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the loss falls most steeply over the logarithm of the rate; None when it never falls.

    Rates rise exponentially. Over the rate itself, as Lightning's suggestion takes it, nearly every fall is steepest
    among the smallest rates, where steps are tiny.
    """
    inner = slice(SKIPPED, -1)  # at first the mean of the losses is of few, and the last may have diverged
    logs, values = np.log(np.asarray(rates, float)[inner]), np.asarray(losses, float)[inner]
    finite = np.isfinite(values)
    if finite.sum() < 2:
        return None
    slopes = np.gradient(values[finite], logs[finite])
    return float(np.exp(logs[finite][slopes.argmin()])) if slopes.min() < 0 else None


def find_batch_size(config: Config, material: Material, progress: Progress) -> int:
    """A number of images per step; at most as many as there are."""
    most = min(LARGEST, len(material.data.train))
    with _open_tuner(config, material, progress, TRIAL * most.bit_length()) as (tuner, module):
        found = tuner.scale_batch_size(module, datamodule=material.data, steps_per_trial=TRIAL, max_val=most + 1)
    found = found or config.trainer.batch_size
    return found // 2 if found > most else found  # at its limit the Tuner answers with what it did not try


def _require_accelerator(config: Config) -> None:
    trainer = make_trainer(config, Path(), [], [], enable_checkpointing=False)
    if trainer.strategy.root_device.type == "cpu":
        raise ConfigError(
            "--tune batch-size: a CPU has no memory of its own that a batch could fill",
            hint="choose trainer.batch_size by the time that `lesion train --dry-run` shows",
        )


class _Tunable(LesionModule):
    """With the batch size as the attribute that Lightning's Tuner looks for, and the project's bar in place of its."""

    def __init__(self, material: Material, progress: Progress) -> None:
        config = material.module.config
        taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
        super().__init__(material.module.classifier, taxonomy, config, material.data.train.counts)
        self._progress = progress

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, _LRCallback):
                callback.progress_bar_refresh_rate = 0

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._progress.advance()

    @property
    def batch_size(self) -> int:
        """Images per step, for module and data alike: they share one configuration."""
        return self.config.trainer.batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        self.config.trainer.batch_size = value


@contextmanager
def _open_tuner(config: Config, material: Material, progress: Progress, steps: int) -> Iterator[tuple[Tuner, _Tunable]]:
    """A Tuner and what it tries, with a bar of `steps`."""
    with temporary_folder() as folder:
        trainer = make_trainer(
            replace(config, trainer=replace(config.trainer, accumulate=1)), folder, [], [],
            enable_checkpointing=False, max_epochs=-1, max_steps=STEPS,
            check_val_every_n_epoch=None, val_check_interval=10 * STEPS,  # never: a diverged loss is no error here
        )  # fmt: skip
        progress.begin("tune", steps)
        try:
            yield Tuner(trainer), _Tunable(material, progress)
        finally:
            progress.end()
