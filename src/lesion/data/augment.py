"""Training-only changes of a whole batch at once, decided by numbers drawn beforehand."""

import numpy as np
import numpy.typing as npt
import torch

DRAWS = 6


def draw_augmentation(n: int, seed: int, epoch: int) -> npt.NDArray[np.float32]:
    """Uniform draws in [0, 1), shape (n, 6): a pure function of (seed, epoch, index), whoever loads the image."""
    return np.random.default_rng((seed, epoch, 1)).random((n, DRAWS), dtype=np.float32)


def augment(pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Turn, mirror and re-light a batch.

    A lesion has no up and no handedness, so the eight symmetries of the square are free; brightness, contrast and
    colour vary between dermatoscopes.

    Args:
        pixels: uint8 (b, s, s, 3), any device.
        draws: float32 (b, 6) in [0, 1), same device.

    Returns:
        uint8 (b, s, s, 3).
    """
    return _relight(_turn(pixels, draws[:, 0]), draws[:, 1:])


def _turn(pixels: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    symmetry = (draw * 8).long()
    out = torch.empty_like(pixels)
    for k in range(8):
        chosen = symmetry == k
        part = pixels[chosen].rot90(k % 4, (1, 2))
        out[chosen] = part.flip(2) if k >= 4 else part
    return out


def _relight(pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """((x - mean) · contrast + mean · brightness) · tint as one line per channel, x · slope + offset, then rounded."""
    signed = (draws * 2 - 1)[:, :, None, None]
    brightness, contrast = 1 + 0.15 * signed[:, :1], 1 + 0.15 * signed[:, 1:2]
    tint = 1 + 0.05 * signed[:, 2:5].transpose(1, 3)  # (b, 1, 1, 3): white balance
    mean = pixels.mean((1, 2, 3), keepdim=True, dtype=torch.float32)
    slope, offset = contrast * tint, mean * (brightness - contrast) * tint
    # Half a level is added because the conversion cuts off.
    return torch.mul(pixels, slope).add_(offset + 0.5).clamp_(0, 255).to(torch.uint8)
