"""Training-only changes of a whole batch at once, decided by numbers drawn beforehand."""

from collections.abc import Callable
from functools import lru_cache, partial
from math import pi

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import grid_sample

from lesion.config.schema import AugmentConfig
from lesion.data.overlays import BANK, draw_hairs, draw_rulers

# What each column of the draws decides.
DRAWS = 19
(SYMMETRY, BRIGHTNESS, CONTRAST, RED, GREEN, BLUE, ANGLE, SCALE, CONSTANCY, HAIR, WHICH_HAIR, RULER, WHICH_RULER,
 CORNER, RADIUS, MIX, SHARE, LEFT, TOP) = range(DRAWS)  # fmt: skip
NORM = 6  # of Shades of Gray, Finlayson & Trezzi 2004; 6 is best on natural and on skin images
DARK_CORNER = (0.85, 1.25)  # radius of the lit circle in half sides
CHUNK = 16  # images at once on a CPU: the intermediate floats of more leave its cache
Pixels = torch.Tensor
Light = Callable[[torch.Tensor], torch.Tensor]


def draw_augmentation(n: int, seed: int, epoch: int) -> npt.NDArray[np.float32]:
    """Uniform draws in [0, 1), shape (n, 19): a pure function of (seed, epoch, index), whoever loads the image."""
    return np.random.default_rng((seed, epoch, 1)).random((n, DRAWS), dtype=np.float32)


def augment(pixels: Pixels, draws: torch.Tensor, config: AugmentConfig) -> Pixels:
    """Turn, zoom, cover and re-light a batch.

    A lesion has no up and no handedness, so the eight symmetries of the square are free; brightness, contrast and
    colour vary between dermatoscopes; hairs, rulers and dark corners say nothing of what they lie on.

    Args:
        pixels: uint8 (b, s, s, 3), any device.
        draws: float32 (b, 19) in [0, 1), same device.
        config: how far, and for which share of the images.

    Returns:
        uint8 (b, s, s, 3).
    """
    part = CHUNK if pixels.device.type == "cpu" else len(pixels)
    parts = zip(pixels.split(part), draws.split(part), strict=True)
    return torch.cat([_change(some, their_draws, config) for some, their_draws in parts])


def mix(pixels: Pixels, goal: torch.Tensor, draws: torch.Tensor, config: AugmentConfig) -> tuple[Pixels, torch.Tensor]:
    """Blend or patch images with their neighbours in the batch, and their goals by the same shares.

    mixup: Zhang et al. 2018, arXiv:1710.09412; cutmix: Yun et al. 2019, arXiv:1905.04899.

    Args:
        pixels: uint8 (b, s, s, 3).
        goal: float32 (b, classes), rows add up to 1.
        draws: float32 (b, 19) in [0, 1).
        config: `mixup` and `cutmix` are the shares of the images.

    Returns:
        The same shapes and types.
    """
    blended = draws[:, MIX] < config.mixup
    patched = ~blended & (draws[:, MIX] < config.mixup + config.cutmix)
    if not (config.mixup or config.cutmix):
        return pixels, goal
    kept, other = draws[:, SHARE], pixels.roll(1, 0)
    line = (torch.arange(pixels.shape[1], device=pixels.device) + 0.5) / pixels.shape[1]
    half = (1 - kept).sqrt()[:, None] / 2  # of the patch's side
    inside_y = (line - draws[:, TOP, None]).abs() < half
    inside_x = (line - draws[:, LEFT, None]).abs() < half
    patch = (inside_y[:, :, None] & inside_x[:, None, :]).float()  # (b, s, s)
    weight = torch.where(blended[:, None, None], (1 - kept)[:, None, None], patch * patched[:, None, None])
    mixed = _rows(pixels).float().lerp_(_rows(other).float(), weight.repeat_interleave(3, 2))
    share = weight.mean((1, 2))[:, None]
    return mixed.round_().to(torch.uint8).view_as(pixels), goal.lerp(goal.roll(1, 0), share)


def _change(pixels: Pixels, draws: torch.Tensor, config: AugmentConfig) -> Pixels:
    turn = _warp if config.rotate or config.scale else _turn
    pixels = turn(pixels, draws, config)
    pixels = _cover(pixels, draws, config)
    return _relight(pixels, draws, config)


def _rows(pixels: torch.Tensor) -> torch.Tensor:
    """The channels side by side, (b, s, s · 3): loops over a last dimension of 3 are slow on a CPU."""
    return pixels.flatten(2)


def _turn(pixels: Pixels, draws: torch.Tensor, _: AugmentConfig) -> Pixels:
    """One of the eight symmetries for each image: transposed or not, upside down or not, mirrored or not."""
    n, side = pixels.shape[:2]
    places = _symmetries(side, pixels.device)[(draws[:, SYMMETRY] * 8).long()]
    places = places + torch.arange(n, device=pixels.device)[:, None] * side**2
    return pixels.reshape(-1, 3).index_select(0, places.flatten()).view_as(pixels)


@lru_cache(maxsize=8)
def _symmetries(side: int, device: torch.device) -> torch.Tensor:
    """Where each pixel of a turned image comes from, int64 (8, side²)."""
    upright = torch.arange(side**2, device=device).view(side, side)
    turned = [upright, upright.T]
    turned += [places.flip(0) for places in turned]
    turned += [places.flip(1) for places in turned]
    return torch.stack(turned).flatten(1)


def _warp(pixels: Pixels, draws: torch.Tensor, config: AugmentConfig) -> Pixels:
    """The symmetries, and a rotation and zoom about the centre; what comes in from outside is mirrored."""
    symmetry = (draws[:, SYMMETRY] * 8).long()
    angle = (draws[:, ANGLE] * 2 - 1) * (config.rotate * pi / 180) + symmetry % 4 * (pi / 2)
    zoom = torch.exp((draws[:, SCALE] * 2 - 1) * np.log1p(config.scale))
    cos, sin = (angle.cos() * zoom)[:, None, None], (angle.sin() * zoom)[:, None, None]
    n, side = pixels.shape[:2]
    x = (torch.arange(side, device=pixels.device) + 0.5) / side * 2 - 1
    x, y = x * (1 - symmetry // 4 * 2)[:, None, None], x[:, None]
    grid = torch.empty(n, side, side, 2, device=pixels.device)  # affine_grid takes ten times as long on a CPU
    torch.sub(x * cos, y * sin, out=grid[..., 0])
    torch.add(x * sin, y * cos, out=grid[..., 1])
    planes = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    warped = grid_sample(planes, grid, padding_mode="reflection", align_corners=False).add_(0.5).to(torch.uint8)
    return warped.permute(0, 2, 3, 1).contiguous()


def _cover(pixels: Pixels, draws: torch.Tensor, config: AugmentConfig) -> Pixels:
    """Dark hairs, rulers and corners over the chosen images."""
    # An accelerator changes all of them and throws some away: to count the chosen ones, the host would have to wait.
    darken = _darken_chosen if pixels.device.type == "cpu" else _darken_all
    for share, chance, which, draw_bank in (
        (config.hair, HAIR, WHICH_HAIR, draw_hairs),
        (config.ruler, RULER, WHICH_RULER, draw_rulers),
    ):
        if share:
            pick = partial(_pick, draw_bank(pixels.shape[1], pixels.device))
            pixels = darken(pixels, draws[:, chance] < share, draws[:, which], pick)
    if config.corner:
        pixels = darken(pixels, draws[:, CORNER] < config.corner, draws[:, RADIUS], partial(_light, pixels.shape[1]))
    return pixels


def _darken_chosen(pixels: Pixels, chosen: torch.Tensor, draw: torch.Tensor, light: Light) -> Pixels:
    """The chosen images times `light` of their draws, (b, s, s, 1)."""
    pixels = pixels.clone()
    pixels[chosen] = (pixels[chosen] * light(draw[chosen])).to(torch.uint8)
    return pixels


def _darken_all(pixels: Pixels, chosen: torch.Tensor, draw: torch.Tensor, light: Light) -> Pixels:
    """The same result without a wait of the host."""
    return torch.where(chosen[:, None, None, None], (pixels * light(draw)).to(torch.uint8), pixels)


def _pick(bank: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    return bank[(draw * BANK).long()]


def _light(side: int, draw: torch.Tensor) -> torch.Tensor:
    """1 within a circle, near 0 outside."""
    line = (torch.arange(side, device=draw.device) + 0.5) / side * 2 - 1
    radius = DARK_CORNER[0] + draw[:, None, None] * (DARK_CORNER[1] - DARK_CORNER[0])
    return ((radius - torch.hypot(line[:, None], line)) * 20 + 0.5).clamp_(0.03, 1)[..., None]


def _relight(pixels: Pixels, draws: torch.Tensor, config: AugmentConfig) -> Pixels:
    """((x - mean) · contrast + mean · brightness) · tint as one line per channel, x · slope + offset, then rounded."""
    signed = (draws * 2 - 1)[:, :, None, None]
    brightness = 1 + config.brightness * signed[:, BRIGHTNESS, None]
    contrast = 1 + config.contrast * signed[:, CONTRAST, None]
    tint = 1 + config.colour * signed[:, RED : BLUE + 1].transpose(1, 3)  # (b, 1, 1, 3): white balance
    if config.constancy:
        tint = tint * _balance(pixels, draws[:, CONSTANCY] < config.constancy)
    mean = pixels.mean((1, 2, 3), keepdim=True, dtype=torch.float32)
    offset = mean * (brightness - contrast) * tint + 0.5  # half a level, because the conversion cuts off
    slope, offset = (_rows(line.expand(-1, 1, pixels.shape[2], 3)) for line in (contrast * tint, offset))
    return torch.mul(_rows(pixels), slope).add_(offset).clamp_(0, 255).to(torch.uint8).view_as(pixels)


def _balance(pixels: Pixels, chosen: torch.Tensor) -> torch.Tensor:
    """Gains (b, 1, 1, 3) that make the light of the chosen images white, by Shades of Gray."""
    sparse = pixels[:, ::4, ::4].float() / 255
    light = sparse.pow(NORM).mean((1, 2), keepdim=True).pow(1 / NORM).clamp_min(1e-3)
    gains = light.pow(2).mean(3, keepdim=True).sqrt() / light
    return torch.where(chosen[:, None, None, None], gains, torch.ones_like(gains))
