"""Measures of an image that say whether a model should be asked about it at all, computed within its graph."""

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

NAMES = ("outlier", "sharpness", "brightness", "contrast")
FLAGS = {
    "outlier": ("", "unlike_training"),
    "sharpness": ("blurred", "noisy"),
    "brightness": ("too_dark", "too_bright"),
    "contrast": ("low_contrast", "high_contrast"),
}
"""What an image below and above the usual range is flagged; "" where that side is not limited."""
NOISE = 8.0  # grey levels: what sensors and compression add; without it, a sharper camera makes a lesion an outlier
SHRINKAGE = 0.01
FLOOR = 1e-4  # of spreads before their logarithm; half a grey level is 2e-3
BATCH = 64
WINDOWS = 32  # along a side, or some more, in which slopes are looked at

# Grey, red against green, and yellow against blue; from 0 to 255 into [0, 1].
OPPONENT = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1, -1, 0], [0.5, 0.5, -1]]) / 255
# Haar's mean and diagonal difference of 2×2 pixels.
SQUARES = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[1.0, -1.0], [-1.0, 1.0]]]) / 4

# Horizontal and vertical slope over 2×2 pixels.
SLOPES = torch.tensor([[[-1.0, 1.0], [-1.0, 1.0]], [[-1.0, -1.0], [1.0, 1.0]]])

# Of a 3×3 matrix, row by row: its diagonal, and what is above it.
PICK = torch.eye(9)[:, [0, 4, 8, 1, 2, 5]]
# From the logarithms of three spreads to those of 1 / the product of two.
PAIRS = -torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])


class Checks(nn.Module):
    """uint8 pixels (n, s, s, 3) to the measures of NAMES, float32 (n, 4).

    `outlier` is the Mahalanobis distance of an image's `describe` from those of the training images, divided by the
    root of their number: about 1 at home (Lee et al. 2018, arXiv:1807.03888, on features of a network; those do not see
    a blur, and change with quantization). The others are three of these numbers, in units of the full range.
    """

    def __init__(self, pixels: Tensor) -> None:
        """Fit to training images, uint8 (n, s, s, 3), each as it is and with noise."""
        super().__init__()
        random = torch.Generator().manual_seed(0)
        both = (each for batch in pixels.split(BATCH) for each in (batch, _add_noise(batch, random)))
        numbers = torch.cat([describe(batch)[0] for batch in both]).double()
        spread = numbers.std(0).clamp(min=1e-6)
        alike = (1 - SHRINKAGE) * torch.cov((numbers / spread).T) + SHRINKAGE * torch.eye(numbers.shape[1])
        whitening = torch.linalg.inv(torch.linalg.cholesky(alike)).T / spread[:, None]
        self.register_buffer("mean", numbers.mean(0).float())
        self.register_buffer("whitening", whitening.float().contiguous())

    def forward(self, pixels: Tensor) -> Tensor:
        """The measures."""
        numbers, plain = describe(pixels)
        away = (numbers - self.get_buffer("mean")) @ self.get_buffer("whitening")
        return torch.cat([away.square().mean(1, keepdim=True).sqrt(), plain], dim=1)


def describe(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """What light, colours and texture uint8 pixels (n, s, s, 3) have: (n, 23), and sharpness, brightness and contrast.

    Of the three opponent colours each, at an eighth of the resolution: mean, what the middle is above it, logarithm
    of the spread, and correlation with another; and the logarithms of the mean absolute diagonal detail of the Haar
    wavelet at full, half and quarter resolution. And how steep grey is, in windows of about a 32nd of the side, in
    the direction of least and of most change: what moved while it was taken is sharp in one direction only.
    """
    side = pixels.shape[1] // 2 * 2
    level = pixels[:, :side, :side].permute(0, 3, 1, 2).float()
    level, detail, right, down = conv2d(level, LOOK, stride=2, padding=1).split([3, 3, 4, 4], dim=1)
    slopes = _pool_slopes(right[:, :, 1:, 1:], down[:, :, 1:, 1:], max(1, side // WINDOWS // 2))
    details = [detail.abs().mean((2, 3))]
    for _ in range(2):
        level, detail = conv2d(level, _haar(torch.eye(3)), stride=2).split(3, dim=1)
        details.append(detail.abs().mean((2, 3)))
    mean, edge = level.mean((2, 3)), level.shape[2] // 4
    middle = level[:, :, edge:-edge, edge:-edge].mean((2, 3)) - mean
    away = (level - mean[:, :, None, None]).flatten(2)
    covariance = away @ away.transpose(1, 2) / away.shape[2]
    variance, mixed = (covariance.flatten(1) @ PICK).split(3, dim=1)
    spread = variance.sqrt()
    logarithms = (torch.cat([spread, *details], dim=1) + FLOOR).log()
    correlation = mixed * (logarithms[:, :3] @ PAIRS).exp()
    numbers = torch.cat([mean, middle, logarithms, correlation, slopes], dim=1)
    return numbers, torch.cat([details[1][:, :1], mean[:, :1], spread[:, :1]], dim=1)


def _pool_slopes(right: Tensor, down: Tensor, side: int) -> Tensor:
    """Slopes (n, 4, h, w) of grey: (n, 2), in the direction of least and of most change, window by window.

    The mean logarithms of the root mean square slopes, in percent of the range: the exporter takes the square of FLOOR
    for zero and leaves it out, so that flat windows would be infinite. A window has `side`² squares of four slopes
    each; ONNX Runtime's convolution adds them up faster than its pooling.
    """
    products = torch.cat([right.square(), down.square(), right * down], dim=1)
    kernel = torch.eye(3).repeat_interleave(4, 1)[:, :, None, None].expand(-1, -1, side, side) / (4 * side**2)
    rights, downs, mixed = conv2d(products, kernel, stride=side).split(1, dim=1)
    # The eigenvalues of a symmetric 2×2 matrix.
    half, apart = (rights + downs) / 2, (((rights - downs) / 2).square() + mixed.square()).sqrt()
    both = torch.cat([(half - apart).clamp(min=0), half + apart], dim=1)
    return (both + FLOOR).log().mean((2, 3)) / 2


def _haar(mix: Tensor) -> Tensor:
    """The kernel, (6, 3, 2, 2), of mean and diagonal difference of each of three mixtures (3, 3) of the channels."""
    return (SQUARES[:, None, None] * mix[:, :, None, None]).flatten(0, 1)


def _make_look() -> Tensor:
    """The one kernel that looks at full resolution, (14, 3, 3, 3), for steps of two pixels.

    Mean and diagonal difference of 2×2 pixels for each opponent colour; and for grey, in percent, the slopes to the
    right and down over the four squares of 2×2 pixels that begin in or one before these. Together, since what reads a
    whole image is what takes time.
    """
    kernel = torch.zeros(14, 3, 3, 3)
    kernel[:6, :, 1:, 1:] = _haar(OPPONENT)
    for at, (way, y, x) in enumerate(product(range(2), repeat=3)):
        kernel[6 + at, :, y : y + 2, x : x + 2] = 100 * SLOPES[way] * OPPONENT[0, :, None, None]
    return kernel


LOOK = _make_look()


def _add_noise(pixels: Tensor, random: torch.Generator) -> Tensor:
    amount = NOISE * torch.rand(len(pixels), 1, 1, 1, generator=random)
    noisy = pixels + amount * torch.randn(pixels.shape, generator=random)
    return noisy.round().clamp(0, 255).to(torch.uint8)
