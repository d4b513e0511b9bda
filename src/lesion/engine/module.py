"""The one LightningModule: any tier, cross-entropy, AdamW with warm-up and cosine decay."""

import math
from typing import Any

import lightning as L
import torch
from torch.nn.functional import cross_entropy
from torchmetrics.classification import BinaryAUROC

from lesion.config.schema import OptimConfig
from lesion.errors import NonFiniteError
from lesion.models import Classifier
from lesion.taxonomy import Taxonomy

Batch = dict[str, torch.Tensor]


class LesionModule(L.LightningModule):
    """Trains `classifier`; its checkpoints hold tensors and plain numbers only, so `weights_only` loads them."""

    def __init__(self, classifier: Classifier, taxonomy: Taxonomy, optim: OptimConfig) -> None:
        super().__init__()
        self.classifier = classifier
        self.optim = optim
        self._malignant = list(taxonomy.malignant_outputs)
        # Only to watch the training; figures that are reported come from lesion.metrics on the exported file.
        self.val_auroc = BinaryAUROC()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Mean cross-entropy of a batch."""
        loss = cross_entropy(self.classifier(batch["pixels"]), batch["target"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["target"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Cross-entropy, accuracy and AUROC of "malignant"."""
        logits, target = self.classifier(batch["pixels"]), batch["target"]
        malignant = logits.float().softmax(1)[:, self._malignant].sum(1)
        truth = torch.isin(target, torch.tensor(self._malignant, device=target.device))
        self.val_auroc.update(malignant, truth)
        figures = {
            "val_loss": cross_entropy(logits, target),
            "val_accuracy": (logits.argmax(1) == target).float().mean(),
        }
        self.log_dict(figures, batch_size=len(target), sync_dist=True)
        self.log("val_auroc", self.val_auroc, batch_size=len(target))

    def on_validation_epoch_end(self) -> None:
        """Stop at a loss that is no number, before a checkpoint of it is written."""
        loss = self.trainer.callback_metrics.get("val_loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise NonFiniteError(
                f"the validation loss is {float(loss)} after epoch {self.current_epoch}",
                hint="lower optim.lr, or use trainer.precision=32-true; the best checkpoint so far is kept",
            )

    def configure_optimizers(self) -> Any:
        """AdamW; the learning rate rises linearly, then falls along a cosine to zero, step by step."""
        optimizer = torch.optim.AdamW(self.parameters(), self.optim.lr, weight_decay=self.optim.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        rising = max(1, round(self.optim.warmup * steps))

        def scale(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
