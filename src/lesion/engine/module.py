"""The one LightningModule: any tier, its loss, its optimiser, and the figures of a validation."""

import math
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lesion.config.schema import Config
from lesion.engine.loss import Loss
from lesion.engine.optim import make_optimizer
from lesion.errors import NonFiniteError
from lesion.metrics import measure
from lesion.models import Classifier
from lesion.taxonomy import Taxonomy

Batch = dict[str, Tensor]
# What a validation logs, by the names of lesion.metrics.
FIGURES = ("accuracy", "balanced_accuracy", "f1", "precision", "sensitivity", "auroc", "average_precision")


class LesionModule(L.LightningModule):
    """Trains `classifier`; its checkpoints hold tensors and plain numbers only, so `weights_only` loads them."""

    def __init__(self, classifier: Classifier, taxonomy: Taxonomy, config: Config, counts: Tensor) -> None:
        """`counts` are the training images of each class, (classes,)."""
        super().__init__()
        self.classifier = classifier
        self.config = config
        self.loss = Loss(config.loss, counts)
        self._malignant = list(taxonomy.malignant_outputs)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        """In the first `optim.freeze` epochs only the head learns."""
        learns = self.current_epoch >= self.config.optim.freeze
        for stage in self.classifier.stages()[:-1]:
            # DDP waits for a gradient of every weight that it has seen to learn.
            stage.requires_grad_(learns or self.trainer.world_size > 1).train(learns)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss: Tensor = self.loss(self.classifier(batch["pixels"]), batch["target"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["target"]), sync_dist=True)
        return loss

    def on_after_backward(self) -> None:
        """Without a gradient AdamW leaves a weight as it is, decay included."""
        if self.current_epoch < self.config.optim.freeze:
            for stage in self.classifier.stages()[:-1]:
                stage.zero_grad()

    def on_validation_epoch_start(self) -> None:
        """Nothing seen yet."""
        self._seen = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits where they are, so that no batch waits for the device."""
        self._seen.append((self.classifier(batch["pixels"]).float(), batch["target"]))

    def on_validation_epoch_end(self) -> None:
        """Loss and figures of the whole split, as if one process had seen it; the decision is at probability 0.5."""
        logits, target = (torch.cat(part).cpu() for part in zip(*self._seen, strict=True))
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, (logits, target))
            logits, target = (torch.cat(part) for part in zip(*parts, strict=True))
        loss = float(self.loss(logits.to(self.device), target.to(self.device)))
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the validation loss is {loss} after epoch {self.current_epoch + 1}",
                hint="start a new run with a lower optim.lr, or with trainer.precision=32-true",
            )
        malignant = logits.double().softmax(1)[:, self._malignant].sum(1).numpy()
        seen = measure(malignant, np.isin(target.numpy(), self._malignant), 0.5)
        figures = {f"val_{name}": float(seen[name][0]) for name in FIGURES}
        # Undefined ones are left out: the AUROC of one class, the precision where nothing is called malignant.
        self.log_dict({"val_loss": loss, **{name: value for name, value in figures.items() if not math.isnan(value)}})

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule, stepped with it."""
        steps = int(self.trainer.estimated_stepping_batches)
        fused = "mixed" not in self.trainer.precision  # there Lightning refuses to clip the gradients of a fused one
        return make_optimizer(self.classifier, self.config.optim, steps, fused)
