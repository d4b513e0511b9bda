"""The small CNN: four blocks 32→64→128→256, made for a CPU."""

from collections import OrderedDict

from torch import nn

WIDTHS = (32, 64, 128, 256)


def build_baseline(classes: int, dropout: float) -> nn.Module:
    """1.3 M parameters; float32 (b, 3, h, w) to logits (b, classes).

    Each block halves the resolution before it computes and the stem halves it once more, so that most channels are
    spent where there are few pixels: a fifth of the operations of ResNet-18 rather than more than all of them.
    """
    blocks = [_block(narrow, wide) for narrow, wide in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False)]
    features = nn.Sequential(_convolve(3, WIDTHS[0], stride=2), *blocks)
    head = nn.Sequential(
        nn.Linear(WIDTHS[-1], 512), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(512, classes)
    )
    parts = {"features": features, "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "head": head}
    return nn.Sequential(OrderedDict(parts))


def _block(narrow: int, wide: int) -> nn.Module:
    return nn.Sequential(_convolve(narrow, wide, stride=2), _convolve(wide, wide, stride=1))


def _convolve(narrow: int, wide: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, 3, stride, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)
    )
