"""A moving average of the weights, which is what is validated, kept and exported."""

import torch
from lightning.pytorch.callbacks import WeightAveraging

FIRST = 40  # steps that all count: a small dataset has no more of them in its first epochs
EVERY = 4  # steps between two later updates: each one reads all weights, and waits for the device


class MovingAverage(WeightAveraging):
    """Exponential, of weights and of the statistics of normalisations; at first the mean of few weights."""

    def __init__(self, decay: float) -> None:
        """Keep this share of the average per step."""

        def average(old: torch.Tensor, new: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
            # The random weights of the beginning must not linger: no longer a memory than the average has lived.
            kept = torch.clamp((1 + count) / (10 + count), max=decay**EVERY)
            return new if not old.is_floating_point() else old + (new - old) * (1 - kept).to(old)

        super().__init__(avg_fn=average)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Each of the first steps, then every fourth."""
        return step_idx is not None and (step_idx < FIRST or step_idx % EVERY == 0)
