"""AdamW over groups of parameters, and the schedule of their learning rates."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from lesion.config.schema import OptimConfig
from lesion.models import Classifier


def make_optimizer(classifier: Classifier, config: OptimConfig, steps: int, fused: bool = True) -> dict[str, Any]:
    """An AdamW, `fused` into one kernel or not, and its schedule over `steps`, as Lightning wants them.

    Only matrices and kernels decay: to shrink the scales of a normalisation or a bias is no regularisation.
    """
    groups = list(_group(classifier.stages(), config))
    optimizer = torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay, fused=fused or None)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, make_schedule(steps, config.warmup))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def make_schedule(steps: int, warmup: float) -> Callable[[int], float]:
    """Multiples of the peak learning rate by step: up linearly for a share of the steps, down a cosine to zero."""
    rising = max(1, round(warmup * steps))

    def scale(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return scale


def _group(stages: list[nn.Module], config: OptimConfig) -> Iterator[dict[str, Any]]:
    for depth, stage in enumerate(reversed(stages)):
        lr = config.lr * config.layer_decay**depth
        parameters = list(stage.parameters())
        for decays in (True, False):
            if chosen := [parameter for parameter in parameters if (parameter.ndim > 1) is decays]:
                yield {"params": chosen, "lr": lr, "weight_decay": config.weight_decay if decays else 0.0}
