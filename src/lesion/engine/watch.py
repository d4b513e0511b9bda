"""What a training tells a terminal and the log."""

import logging
from time import perf_counter
from typing import Any

import lightning as L

from lesion.engine.guard import Guard
from lesion.progress import Progress

log = logging.getLogger(__name__)


class Watch(L.Callback):
    """One bar over all epochs, one line in the log per epoch."""

    def __init__(self, progress: Progress, guard: Guard, epochs: int, images: int) -> None:
        self.progress = progress
        self.guard = guard
        self.epochs = epochs
        self.images = images
        self.epochs_done = 0
        """In this process."""
        self._started = self._ended = self._epoch_started = perf_counter()
        self._auroc: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Seconds of the fit so far."""
        return self._ended - self._started

    @property
    def images_per_second(self) -> float:
        """Training images per second of the fit, validation included."""
        return self.epochs_done * self.images / max(self.seconds, 1e-9)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock after Lightning's own set-up."""
        self._started = perf_counter()
        batches = int(trainer.num_training_batches)
        self.progress.begin("train", self.epochs * batches)
        if trainer.current_epoch:
            self.progress.advance(trainer.current_epoch * batches)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._epoch_started = perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
        """One step further; the loss is the last one that was looked at, so that nobody waits for the device."""
        seen = (arguments[-1] + 1) * self.images / trainer.num_training_batches
        rate = seen / max(perf_counter() - self._epoch_started, 1e-9)
        figures = {"epoch": trainer.current_epoch + 1, "loss": self.guard.latest, **self._auroc, "images/s": rate}
        self.progress.advance(1, **figures)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One line per epoch."""
        self._ended = perf_counter()
        self.epochs_done += 1
        seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._auroc = {"AUROC": seen.get("val_auroc", float("nan"))}
        log.info(
            "epoch %d/%d  train loss %.4f  val loss %.4f  val AUROC %.3f  %.0f images/s",
            trainer.current_epoch + 1,
            self.epochs,
            seen.get("train_loss", float("nan")),
            seen.get("val_loss", float("nan")),
            seen.get("val_auroc", float("nan")),
            self.images / (self._ended - self._epoch_started),
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The bar goes."""
        self.progress.end()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The bar goes before an error is printed."""
        self.progress.end()
