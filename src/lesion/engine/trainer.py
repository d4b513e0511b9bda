"""Lightning's Trainer as this project uses it."""

import logging
import random
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import Logger

from lesion.config.schema import Config
from lesion.engine.average import MovingAverage
from lesion.engine.checkpoint import CheckpointFiles
from lesion.engine.launch import find_place
from lesion.engine.ranks import SharedStatistics
from lesion.errors import ConfigError, brief


def make_trainer(
    config: Config, folder: Path, callbacks: Sequence[L.Callback], loggers: Sequence[Logger], **more: Any
) -> L.Trainer:
    """A Trainer for `config` that writes below `folder`; `more` goes to Lightning as it is.

    ConfigError when this machine has not the devices, or Lightning not the strategy, that `config.trainer` names.
    """
    knobs = config.trainer
    _require_accelerator(knobs.accelerator)
    minutes = knobs.max_minutes
    place = find_place(_devices(knobs.devices))
    settings: dict[str, Any] = {
        "accelerator": knobs.accelerator,
        "devices": place["devices"],
        "num_nodes": place["num_nodes"],
        "strategy": knobs.strategy,
        "sync_batchnorm": _on_gpu(config),  # torch has none for CPUs; on one device it changes nothing
        "precision": choose_precision(config),
        "max_epochs": knobs.epochs,
        "max_time": {"seconds": round(minutes * 60)} if minutes else None,
        "accumulate_grad_batches": knobs.accumulate,
        "gradient_clip_val": knobs.gradient_clip or None,
        "callbacks": [Reseed(config.seed), *_average(config.optim.ema), SharedStatistics(), *callbacks],
        "plugins": [CheckpointFiles(), *place["plugins"]],
        "logger": list(loggers) or False,
        "default_root_dir": folder,
        "use_distributed_sampler": False,  # LesionData deals out the rows itself
        "reload_dataloaders_every_n_epochs": 1,  # order and augmentation are functions of (seed, epoch, index)
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    try:
        return L.Trainer(**{**settings, **more})
    except (MisconfigurationException, ImportError, RuntimeError, TypeError, ValueError) as error:
        asked = f"trainer.accelerator={knobs.accelerator}, devices={knobs.devices}, strategy={knobs.strategy}"
        raise ConfigError(
            f"{asked}, precision={knobs.precision} cannot be used together on this machine: {brief(error)}",
            hint="leave them out, or set each to auto: it takes what there is",
        ) from error


class Reseed(L.Callback):
    """Makes all that is drawn in an epoch a function of (seed, epoch, rank), so that a resumed one draws the same."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """At the first batch: what comes before it in an epoch draws more often when it is not the first of a fit."""
        if batch_idx == 0:
            words = (self.seed, trainer.current_epoch, trainer.global_rank, 2)  # 0 and 1: order and augmentation
            drawn = int(np.random.SeedSequence(words).generate_state(1)[0])
            random.seed(drawn)
            np.random.seed(drawn)  # noqa: NPY002 - what libraries draw from
            torch.manual_seed(drawn)


class Patience(EarlyStopping):
    """Lightning's early stopping, which a resumed run remembers to have happened."""

    def __init__(self, epochs: int) -> None:
        # Not strict: an epoch that the time limit cut short has no validation loss.
        super().__init__("val_loss", patience=epochs, mode="min", strict=False, verbose=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Train no further epoch when the last one ended the training."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def _require_accelerator(kind: str) -> None:
    """ConfigError when this machine has no device of the `kind` that `trainer.accelerator` names."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"gpu": cuda or mps, "cuda": cuda, "mps": mps, "tpu": find_spec("torch_xla") is not None}
    if not there.get(kind, True):
        found = "cuda" if cuda else "mps" if mps else "cpu"
        why = (
            f": torch {torch.__version__} is built without CUDA"
            if kind in ("gpu", "cuda") and not torch.version.cuda
            else ""
        )
        raise ConfigError(
            f"trainer.accelerator: torch finds no device of the kind {kind!r} on this machine{why}",
            hint=f"trainer.accelerator=auto takes what there is: {found}",
        )


def _devices(text: str) -> str | int | list[int]:
    """What Lightning takes as devices: "auto", how many (-1: all), or their numbers, as in "0,1" or "[0, 1]"."""
    if text == "auto":
        return text
    if re.fullmatch(r"-1|[1-9]\d{0,3}", text):
        return int(text)
    if re.fullmatch(r"\[\s*\d{1,4}\s*\]|\[?(\s*\d{1,4}\s*,)+\s*(\d{1,4})?\s*\]?", text):
        return [int(part) for part in re.findall(r"\d+", text)]
    raise ConfigError(
        f"trainer.devices: auto, a number from 1, -1 for all, or a list expected, got {text!r}",
        hint="for example trainer.devices=2, or trainer.devices=0,1 for the first two GPUs",
    )


def choose_precision(config: Config) -> Any:
    """`trainer.precision`, or for "auto" the fastest that trains as well; docs/training.md has the measurement.

    bf16 where the hardware multiplies it: recent GPUs, and CPUs with AVX-512 BF16 or AMX. On a CPU EfficientNet stays
    in fp32, since depthwise convolutions are slower in bf16. Older GPUs take fp16.
    """
    knobs = config.trainer
    if knobs.precision != "auto":
        return knobs.precision
    if _on_gpu(config):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    on_cpu = knobs.accelerator == "cpu" or not torch.backends.mps.is_available()
    fast = any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bf16-mixed" if on_cpu and fast and config.model.tier != "efficientnet" else "32-true"


def _on_gpu(config: Config) -> bool:
    return torch.cuda.is_available() and config.trainer.accelerator in ("auto", "gpu", "cuda")


def _average(decay: float) -> list[L.Callback]:
    return [MovingAverage(decay)] if decay else []


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's banners and advice go; its errors, and everything of lesion's, stay."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        for category in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(lightning|torch|torchmetrics)\b")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
