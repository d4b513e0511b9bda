"""What a training asks of the machine, and what its data look like: a few figures per epoch, for every logger."""

import logging
import statistics
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any

import lightning as L
import psutil
import torch
from PIL import Image

from lesion.data.contact_sheet import GAP, PAPER, encode
from lesion.data.datamodule import LesionData
from lesion.errors import OutputError
from lesion.files import write_atomic

log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # NVML's own window is between a sixth of a second and one
PREVIEW = "augmentation.png"
COLUMNS, PAIRS, SIDE = 8, 16, 112


class SystemMetrics(L.Callback):
    """Logs per epoch, validation included, and never waits for the device.

    epoch_seconds; images_per_second: training images of all devices; cpu_percent: of this process, 100 is one core;
    memory_mb: its most resident memory, MiB; on a GPU gpu_percent: the mean time a kernel ran, and gpu_memory_mb: the
    most that torch has allocated so far, MiB.
    """

    def __init__(self) -> None:
        self._sampler: Sampler | None = None
        self._images = 0
        self._started = perf_counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start to sample."""
        self._sampler = Sampler(pl_module.device)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from here."""
        self._images = 0
        self._started = perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; its length is known without waiting for it."""
        self._images += len(batch["target"]) * trainer.world_size

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch."""
        seconds = perf_counter() - self._started
        sampled = self._sampler.take() if self._sampler else {}
        figures = {"epoch_seconds": seconds, "images_per_second": self._images / seconds, **sampled}
        pl_module.log_dict(figures, rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop to sample."""
        if self._sampler:
            self._sampler.stop()
            self._sampler = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop to sample: the training does not get to its end."""
        self.on_train_end(trainer, pl_module)


class DataMetrics(L.Callback):
    """Logs per epoch batch_size, images per step and device, and augmented_share: of the epoch's first batch.

    Once per run it draws that batch before and after augmentation into augmentation.png.
    """

    def __init__(self, folder: Path, data: LesionData) -> None:
        """The picture goes into the run's `folder`."""
        self._picture = folder / PREVIEW
        self._data = data
        self._batch_size = 0
        self._share = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Augment the first batch as the data module will: that draws nothing, so the training stays the same."""
        self._batch_size = min(self._data.config.trainer.batch_size, len(self._data.train))
        batch = self._data.train.__getitems__(list(range(self._batch_size)))
        before = batch["pixels"].clone()
        after = self._data.on_after_batch_transfer(batch, 0)["pixels"]
        self._share = float((before != after).flatten(1).any(1).float().mean())
        if trainer.is_global_zero and not self._picture.exists():
            try:
                write_atomic(self._picture, encode(draw_pairs(before, after), "PNG"))
            except OutputError as error:
                log.warning("%s", error.message)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch."""
        figures = {"batch_size": float(self._batch_size), "augmented_share": self._share}
        pl_module.log_dict(figures, rank_zero_only=True)


class Sampler:
    """Looks at this process and its GPU once a second, in a thread of its own."""

    def __init__(self, device: torch.device) -> None:
        """Start; on another `device` than CUDA there is no GPU to look at."""
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first answer is 0: later ones are since the one before
        self._device = device if device.type == "cuda" else None
        self._counts_use = self._device is not None
        self._memory: list[int] = []  # bytes; take() may come between two entries of the thread, and loses none
        self._use: list[int] = []
        self._stopped = Event()
        self._thread = Thread(target=self._watch, name="system metrics", daemon=True)
        self._thread.start()

    def take(self) -> dict[str, float]:
        """The figures since the last time."""
        self._look()
        memory, self._memory = self._memory, []
        use, self._use = self._use, []
        found = {"cpu_percent": self._process.cpu_percent(), "memory_mb": max(memory) / 2**20}
        if use:
            found["gpu_percent"] = statistics.fmean(use)
        if self._device is not None:
            found["gpu_memory_mb"] = torch.cuda.max_memory_allocated(self._device) / 2**20
        return found

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        self._memory.append(self._process.memory_info().rss)
        if self._counts_use:
            try:
                self._use.append(torch.cuda.utilization(self._device))
            except Exception as error:  # no NVML, no permission, a slice of a GPU: each in its library's own words
                self._counts_use = False
                log.info("gpu_percent is not measured: %s", error)


def draw_pairs(before: torch.Tensor, after: torch.Tensor) -> Image.Image:
    """The first 16 images, each above its augmented self, eight pairs in a row.

    Args:
        before: uint8 (b, s, s, 3).
        after: the same, augmented.

    Returns:
        Mode RGB, as wide as the pairs of one row.
    """
    count = min(len(before), PAIRS)
    columns, rows = min(count, COLUMNS), -(-count // COLUMNS)
    step, band = SIDE + GAP, 2 * SIDE + 2 * GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * band + GAP), PAPER)
    for i in range(count):
        left, top = GAP + i % COLUMNS * step, GAP + i // COLUMNS * band
        for offset, pixels in ((0, before[i]), (SIDE + 2, after[i])):
            sheet.paste(Image.fromarray(pixels.numpy()).resize((SIDE, SIDE)), (left, top + offset))
    return sheet
