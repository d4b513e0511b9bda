"""Which checkpoints of a run stay: the best three, and the last two to go on from."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from lesion.engine.checkpoint import Content, list_checkpoints
from lesion.errors import OutputError
from lesion.run import Run

BEST = 3
LAST = 2  # the one before the last is there for the day on which the last is damaged
COPIES = 4  # of the weights in a checkpoint: themselves, AdamW's two moments, and their moving average


class Keeper(Checkpoint):
    """Writes a checkpoint after each finished epoch, then removes those that are no longer worth keeping.

    One epoch is one file, `epoch=07-val_loss=0.4321.ckpt` (counted from 0); of equal losses the earlier is better.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.losses: dict[int, float] = {}
        """Epoch → validation loss, of what is kept."""

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest validation loss, counted from 0; None before the first is finished."""
        return min(self.losses, key=lambda epoch: (self.losses[epoch], epoch), default=None)

    def name(self, epoch: int) -> str:
        """The file of a kept epoch, below the folder of the run."""
        return f"checkpoints/epoch={epoch:02d}-val_loss={self.losses[epoch]:.4f}.ckpt"

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write first, remove later; an epoch that the time limit cut short has no validation loss and is dropped."""
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        before, epoch = self.losses, trainer.current_epoch
        self.losses = _worth_keeping({**before, epoch: float(trainer.callback_metrics["val_loss"])})
        try:
            trainer.save_checkpoint(self.run.path / self.name(epoch))
        except BaseException:
            self.losses = before
            raise
        if trainer.is_global_zero:
            self._note()
            self._tidy()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: Content) -> None:
        """Say which run the checkpoint belongs to."""
        checkpoint["run"] = self.run.read_state().get("created")

    def state_dict(self) -> dict[str, Any]:
        """The losses of what is kept."""
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them over."""
        self.losses = dict(state_dict["losses"])

    def _note(self) -> None:
        """Let run.json name the best checkpoint, so that it can be exported whatever happens to this process."""
        best = self.best_epoch
        assert best is not None
        self.run.write_state(
            epochs=max(self.losses) + 1, best_checkpoint=self.name(best), best_val_loss=self.losses[best]
        )

    def _tidy(self) -> None:
        kept = {self.run.path / self.name(epoch) for epoch in self.losses}
        remains = self.run.checkpoints.glob(".*.ckpt.*")  # of a process that was killed while it wrote
        for path in (*remains, *list_checkpoints(self.run)):
            if path not in kept:
                path.unlink(missing_ok=True)


def _worth_keeping(losses: dict[int, float]) -> dict[int, float]:
    best = sorted(losses, key=lambda epoch: (losses[epoch], epoch))[:BEST]
    last = sorted(losses)[-LAST:]
    return {epoch: loss for epoch, loss in losses.items() if epoch in best or epoch in last}


def checkpoint_bytes(weights: Iterable[torch.Tensor]) -> int:
    """About the size of one checkpoint of a module with these `weights`."""
    return COPIES * sum(tensor.nbytes for tensor in weights)


def require_space(folder: Path, weights: Iterable[torch.Tensor], present: int = 0) -> None:
    """OutputError unless the disk of `folder` has room for what is kept and the one that is written next.

    `present` bytes of checkpoints lie there already.
    """
    needed, free = (BEST + LAST + 1) * checkpoint_bytes(weights) - present, shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"the checkpoints of this network need {needed / 1e6:.0f} MB in {folder}, {free / 1e6:.0f} MB are free",
            hint="free some space, or name a folder on another disk with runs=FOLDER",
        )
