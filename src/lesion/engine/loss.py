"""What training minimises: cross-entropy that may know how rare and how hard an image is."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lesion.config.schema import LossConfig


class Loss(nn.Module):
    """Cross-entropy with, as configured, class weights, focus on hard images, and adjusted logits.

    Focal: Lin et al. 2017, arXiv:1708.02002. Logit adjustment: Menon et al. 2021, arXiv:2007.07314.
    """

    def __init__(self, config: LossConfig, counts: Tensor) -> None:
        """Take the number of training images of each class, (classes,)."""
        super().__init__()
        self.config = config
        share = counts.clamp_min(1).double() / counts.clamp_min(1).sum()
        self.register_buffer("weight", share.pow(-config.weighting).float(), persistent=False)
        self.register_buffer("shift", (config.adjustment * share.log()).float(), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The weighted mean over a batch, a scalar.

        Args:
            logits: (b, classes).
            target: the class, int64 (b,); or the wanted probabilities, float32 (b, classes), which are smoothed.
        """
        if target.ndim == 1:
            target = one_hot(target, logits.shape[1]).float()
        else:
            target = target.lerp(torch.full_like(target, 1 / logits.shape[1]), self.config.smoothing)
        log_p = (logits.float() + self.get_buffer("shift")).log_softmax(1)
        weight = target * self.get_buffer("weight")
        # Clamped, since below an exponent of 1 the slope at p = 1 is infinite.
        hardness = (-log_p.expm1()).clamp_min(1e-7) ** self.config.focus if self.config.focus else 1.0
        return -(weight * hardness * log_p).sum() / weight.sum()
