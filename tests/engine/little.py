"""A network that trains in no time, and its training through the Trainer of this project."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import nn

from lesion.config.schema import Config
from lesion.data.datamodule import LesionData
from lesion.engine.module import LesionModule
from lesion.engine.trainer import make_trainer, quiet
from lesion.models import Classifier
from lesion.taxonomy import Taxonomy

State = dict[str, torch.Tensor]


def build_little() -> Classifier:
    """Two stages with batch normalisation, and a head with dropout; always the same weights."""
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Conv2d(narrow, wide, 3, stride=4), nn.BatchNorm2d(wide), nn.ReLU())
        for narrow, wide in ((3, 4), (4, 8))
    ]
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 7))
    parts = {"features": nn.Sequential(*stages), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "head": head}
    return Classifier(nn.Sequential(OrderedDict(parts)))


def build_plain(*_: object) -> Classifier:
    """Nothing that depends on the other images of a batch, or on chance."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU())
    parts = {"features": nn.Sequential(stem), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    return Classifier(nn.Sequential(OrderedDict({**parts, "head": nn.Linear(8, 7)})))


def make_module(config: Config, data: LesionData) -> LesionModule:
    return LesionModule(build_little(), Taxonomy.of("diagnosis"), config, data.train.counts)


def fit(
    config: Config, data: LesionData, folder: Path, callbacks: Sequence[L.Callback] = (), **more: Any
) -> tuple[L.Trainer, LesionModule]:
    """Train, or go on after the checkpoint `after`."""
    after = more.pop("after", None)
    keeps = any(isinstance(callback, Checkpoint) for callback in callbacks)
    module = make_module(config, data)
    with quiet():
        trainer = make_trainer(config, folder, callbacks, [], enable_checkpointing=keeps, **more)
        trainer.fit(module, datamodule=data, ckpt_path=after, weights_only=True if after else None)
    return trainer, module


def copy_state(module: nn.Module) -> State:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: State, two: State) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Spy(L.Callback):
    """Copies the weights after each step and at the end of each epoch, and the figures of each validation."""

    def __init__(self) -> None:
        self.steps: list[State] = []
        self.epochs: list[State] = []
        self.figures: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.steps.append(copy_state(pl_module))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.figures.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs.append(copy_state(pl_module))
