"""Scaling and mean/std as the first layer, so that they are exported with the weights."""

import torch
from torch import nn

# ImageNet's channel statistics on [0, 1], which torchvision's pretrained weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """uint8 (b, h, w, 3) in [0, 255] to standardised float32 (b, 3, h, w).

    The permuted view is laid out channels-last, which is also what convolutions are fastest on.
    """

    def __init__(self) -> None:
        super().__init__()
        # Not persistent: constants, no weights; checkpoints of torchvision do not have them.
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale, shift, and move the channels to the front."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (pixels.permute(0, 3, 1, 2).to(mean.dtype) - mean) / std
