"""Measures of an image that say whether a model should be asked about it at all, computed within its graph."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

NAMES = ("outlier", "sharpness", "brightness", "contrast")
FLAGS = {
    "outlier": ("", "unlike_training"),
    "sharpness": ("blurred", "noisy"),
    "brightness": ("too_dark", "too_bright"),
    "contrast": ("low_contrast", "high_contrast"),
}
"""What an image below and above the usual range is flagged; "" where that side is not limited."""
SHRINKAGE = 0.1


class Checks(nn.Module):
    """uint8 pixels (n, s, s, 3) and pooled features (n, d) to the measures of NAMES, float32 (n, 4).

    `outlier` is the Mahalanobis distance of the features from those of the training images (Lee et al. 2018,
    arXiv:1807.03888); the others are of the brightness, in [0, 1], at half the resolution.
    """

    def __init__(self, pooled: Tensor) -> None:
        """Fit to the pooled features (n, d) of training images."""
        super().__init__()
        mean = pooled.double().mean(0)
        covariance = torch.cov((pooled.double() - mean).T)
        ridge = SHRINKAGE * covariance.diagonal().mean() * torch.eye(len(mean), dtype=torch.double)
        factor = torch.linalg.inv(torch.linalg.cholesky((1 - SHRINKAGE) * covariance + ridge))
        self.register_buffer("mean", mean.float())
        self.register_buffer("whitening", factor.T.float().contiguous())

    def forward(self, pixels: Tensor, pooled: Tensor) -> Tensor:
        """The measures."""
        outlier = ((pooled - self.get_buffer("mean")) @ self.get_buffer("whitening")).square().mean(1).sqrt()
        grey = avg_pool2d(pixels.float().mean(3, keepdim=True).permute(0, 3, 1, 2), 2) / 255
        middle = grey[:, :, 1:-1, 1:-1]
        sides = grey[:, :, :-2, 1:-1] + grey[:, :, 2:, 1:-1] + grey[:, :, 1:-1, :-2] + grey[:, :, 1:-1, 2:]
        sharpness = (4 * middle - sides).abs().mean((1, 2, 3))
        brightness = grey.mean((1, 2, 3))
        contrast = (grey - brightness[:, None, None, None]).square().mean((1, 2, 3)).sqrt()
        return torch.stack([outlier, sharpness, brightness, contrast], dim=1)
