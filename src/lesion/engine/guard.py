"""No NaN or infinity reaches a checkpoint, and whoever made it is named."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch

from lesion.data.datamodule import LesionData
from lesion.errors import NonFiniteError
from lesion.run import Run

EVERY = 50  # steps between two looks at the losses on an accelerator: each look waits for the device
NAMED = 4  # images in the message; run.json names all of the batch
HINT = "start a new run with a lower optim.lr, or with trainer.precision=32-true"
Report = Callable[[str, npt.NDArray[np.int64], npt.NDArray[np.float32], int], None]


class Guard(L.Callback):
    """Collects the loss of each step, and raises NonFiniteError at a loss or a weight that is no number."""

    def __init__(self, run: Run, data: LesionData, report: Report | None = None) -> None:
        """Call `report` with "train_loss_step", the (n,) global steps of an epoch, their (n,) losses, and the epoch."""
        self.run = run
        self.data = data
        self.report = report
        self.latest = float("nan")
        """The last loss that was looked at."""
        self._losses: list[torch.Tensor] = []
        self._checked = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A new list."""
        self._losses, self._checked = [], 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep the loss where it is; look at it at once only where that costs nothing."""
        self._losses.append(outputs["loss"] * trainer.accumulate_grad_batches)  # Lightning divides by it
        if pl_module.device.type == "cpu" or len(self._losses) % EVERY == 0:
            self._check_losses(trainer.current_epoch)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The rest of the epoch's losses, before a validation is spent on the weights they led to."""
        self._check_losses(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The weights, before the Keeper writes them."""
        self._check_weights(trainer, pl_module)
        if self.report is not None and self._losses:
            losses, together = torch.stack(self._losses).float().cpu(), trainer.accumulate_grad_batches
            values = np.array([float(batches.mean()) for batches in losses.split(together)], np.float32)
            steps = np.arange(trainer.global_step - len(values), trainer.global_step)
            self.report("train_loss_step", steps, values, trainer.current_epoch)

    def _check_losses(self, epoch: int) -> None:
        fresh = self._losses[self._checked :]
        if not fresh:
            return
        values = torch.stack(fresh).float().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            self._refuse(epoch, self._checked + int(bad[0]), float(values[bad[0]]))
        self._checked, self.latest = len(self._losses), float(values[-1])

    def _refuse(self, epoch: int, step: int, value: float) -> None:
        images = list(self._images_of(step))
        self.run.write_state(non_finite={"epoch": epoch + 1, "step": step + 1, "images": images})
        more = f" and {len(images) - NAMED} more, listed in {self.run.path / 'run.json'}" if len(images) > NAMED else ""
        raise NonFiniteError(
            f"the loss is {value} at step {step + 1} of epoch {epoch + 1}, "
            f"for the images {', '.join(images[:NAMED])}{more}",
            hint=HINT,
        )

    def _images_of(self, step: int) -> Iterator[str]:
        size, train = self.data.config.trainer.batch_size, self.data.train
        for index in train.order[step * size : (step + 1) * size]:
            yield train.rows[index].image_id

    def _check_weights(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        states = (
            value for optimizer in trainer.optimizers for state in optimizer.state.values() for value in state.values()
        )
        tensors = [
            tensor
            for tensor in (*module.state_dict().values(), *states)
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
        ]
        finite = torch.stack([tensor.isfinite().all().to(module.device) for tensor in tensors])
        if not bool(finite.all()):
            raise NonFiniteError(
                f"{int((~finite).sum())} of {len(tensors)} weights and optimiser states are no numbers "
                f"after epoch {trainer.current_epoch + 1}",
                hint=HINT,
            )
