"""What a training would do and cost, from its real data and a few of its real steps; no run folder is made."""

import copy
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning as L
import torch

from lesion.config.schema import AugmentConfig, Config
from lesion.engine.checkpoint import epoch_of, find_last
from lesion.engine.custody import Custody
from lesion.engine.keeper import BEST, LAST, checkpoint_bytes
from lesion.engine.resume import require_resumable, require_same_data
from lesion.engine.train import Material, prepare
from lesion.engine.trainer import make_trainer, quiet
from lesion.files import temporary_folder
from lesion.models import count_parameters
from lesion.progress import Progress, Silent
from lesion.records import TrainPlan
from lesion.run import Run

WARM_UP = 2  # steps that are not timed: the first ones allocate memory and choose kernels
TIMED = 4


def plan(config: Config, progress: Progress | None = None, resume: Run | None = None) -> TrainPlan:
    """The plan of `train` with the same arguments. Images are decoded into the cache as they would be.

    Raises what `train` raises before its first epoch, and OutOfMemory.
    """
    with Custody(config) as custody, quiet():
        ranks = custody.gather("--dry-run")
        show = progress if progress and ranks.first else Silent()
        if resume is not None:
            require_resumable(resume, config, ranks.world)
        with ranks.in_turn():
            material = prepare(config, show, fresh=ranks.first)
        training, validation = len(material.data.train), len(material.data.val)
        done = 0 if resume is None else _epochs_done(resume, material)
        pace = _measure(config, material, show)
    batch, data = config.trainer.batch_size, material.data
    steps, checks = (math.ceil(images / ranks.world / batch) for images in (training, validation))
    seconds = steps * pace.per_step + checks * pace.per_check
    weights = list(material.module.state_dict().values())
    folder = Path(config.runs)
    return TrainPlan(
        data=material.dataset.report(),
        training_images=training,
        images_fingerprint=data.fingerprint,
        tier=config.model.tier,
        parameters=count_parameters(material.module.classifier),
        recipe=describe_recipe(config),
        device=pace.device if ranks.world == 1 else f"{pace.device}, {ranks.world} processes",
        precision=pace.precision,
        batch_size=batch,
        steps_per_epoch=steps,
        epochs=config.trainer.epochs - done,
        steps=steps * (config.trainer.epochs - done),
        seconds_per_epoch=seconds,
        seconds=seconds * (config.trainer.epochs - done),
        peak_memory=pace.peak_memory,
        run=str(resume.path if resume else folder / (config.name or f"DATE-TIME-{config.model.tier}")),
        needed=(BEST + LAST + 1) * checkpoint_bytes(weights),
        free=shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free,
    )


def describe_recipe(config: Config) -> list[str]:
    """How the network is trained, in words."""
    model, optim, knobs, loss = config.model, config.optim, config.trainer, config.loss
    start = f"weights of {model.weights}" if model.weights else "ImageNet weights" if model.pretrained else None
    losses = [
        f"classes weighted by their share to the power of -{loss.weighting:g}" if loss.weighting else "",
        f"logits adjusted by {loss.adjustment:g} times the logarithm of the share" if loss.adjustment else "",
        f"focal with exponent {loss.focus:g}" if loss.focus else "",
        f"labels smoothed by {loss.smoothing:g}" if loss.smoothing else "",
    ]
    return [
        f"starts from {start or 'random weights'}, seed {config.seed}"
        + (f", for {optim.freeze} epochs only the head learns" if optim.freeze else ""),
        f"{'seven diagnoses' if model.classes == 'diagnosis' else 'two classes'}, dropout {model.dropout}",
        f"AdamW, learning rate {optim.lr:g} after {optim.warmup:.0%} warm-up, then a cosine to 0, "
        f"weight decay {optim.weight_decay:g}",
        ", ".join(["cross-entropy", *filter(None, losses)]),
        f"augmented: turns by 90°, mirror images{''.join(_describe_augmentation(config.augment))}",
        f"batches of {knobs.batch_size} per device"
        + (f", the gradients of {knobs.accumulate} added" if knobs.accumulate > 1 else "")
        + (f", gradients clipped at {knobs.gradient_clip:g}" if knobs.gradient_clip else "")
        + (
            f", images drawn by their class's share to the power of -{config.data.balance:g}"
            if config.data.balance
            else ""
        ),
        f"a moving average of the weights, decay {optim.ema:g}, is validated and exported"
        if optim.ema
        else "the weights of each epoch's last step are validated and exported",
        f"at most {knobs.epochs} epochs, ended by {knobs.patience} without a better validation loss"
        + (f" or by {knobs.max_minutes:g} minutes" if knobs.max_minutes else ""),
    ]


def _describe_augmentation(config: AugmentConfig) -> Iterator[str]:
    """What is switched on: how far it goes, or of how many images."""
    for name, text in (("rotate", "turns up to {:g}°"), ("scale", "zoom"), ("brightness", "brightness"),
                       ("contrast", "contrast"), ("colour", "colour")):  # fmt: skip
        if value := getattr(config, name):
            yield ", " + (text.format(value) if "{" in text else f"{text} up to {value:.0%}")
    for name, text in (("constancy", "white light"), ("hair", "hairs"), ("ruler", "rulers"),
                       ("corner", "dark corners"), ("mixup", "mixup"), ("cutmix", "cutmix")):  # fmt: skip
        if value := getattr(config, name):
            yield f", {text} on {value:.0%}"


def _epochs_done(run: Run, material: Material) -> int:
    require_same_data(run, material.dataset, material.data)
    last = find_last(run, material.module.state_dict())
    return 0 if last is None else epoch_of(last) + 1


class _Pace(L.Callback):
    """Times steps and validation batches after the first ones."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.device = self.precision = ""
        self.per_step = self.per_check = 0.0
        self.peak_memory: int | None = None
        self._began = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.device, self.precision = _describe(trainer.strategy.root_device), str(trainer.precision)
        self.progress.begin("measure", WARM_UP + TIMED)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.progress.advance()
        if batch_idx <= WARM_UP:
            self._began = _now()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        timed = max(1, int(trainer.num_training_batches) - WARM_UP)
        self.per_step = (_now() - self._began) / timed
        self.peak_memory = _peak_memory(trainer.strategy.root_device)
        self._began = _now()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.per_check = (_now() - self._began) / max(1, int(sum(trainer.num_val_batches)))


def _measure(config: Config, material: Material, progress: Progress) -> _Pace:
    """Train a copy of the network for a few steps, as `train` would."""
    pace = _Pace(progress)
    with temporary_folder() as folder:
        trainer = make_trainer(
            config, folder, [pace], [], enable_checkpointing=False, max_epochs=1,
            limit_train_batches=WARM_UP + TIMED, limit_val_batches=TIMED,
        )  # fmt: skip
        try:
            trainer.fit(copy.deepcopy(material.module), datamodule=material.data)
        finally:  # an error, too: a bar that stays hides the cursor
            progress.end()
    return pace


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def _describe(device: torch.device) -> str:
    return f"{device.type} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def _peak_memory(device: torch.device) -> int | None:
    """Bytes at most in use: of the accelerator, or of this process; None where neither is known."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
