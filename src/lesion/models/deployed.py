"""The graph that is exported: a classifier that also says where it looks and what is unusual about an image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lesion.models import Classifier
from lesion.models.checks import Checks

POOLS = ("pool", "avgpool")


class Deployed(nn.Module):
    """uint8 pixels (n, s, s, 3) to logits (n, classes), checks (n, k) and maps (n, classes, h, w), all float32.

    The mean over several classifiers makes an ensemble: one graph, with the same contract.
    """

    def __init__(self, classifiers: Sequence[Classifier], checks: Checks) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Parts(classifier) for classifier in classifiers)
        self.checks = checks

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, checks and maps; positions' maps add up to the logits, but for what no position says."""
        answers = [part(pixels) for part in self.parts]
        logits, maps = (torch.stack(each).mean(0) if len(each) > 1 else each[0] for each in zip(*answers, strict=True))
        return logits, self.checks(pixels), maps


class Parts(nn.Module):
    """A classifier taken apart at its pooling."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        children = list(classifier.net.named_children())
        at = next(i for i, (name, _) in enumerate(children) if name in POOLS)
        self.normalize = classifier.normalize
        self.body = nn.Sequential(*(child for _, child in children[:at]))
        self.head = nn.Sequential(*(child for name, child in children[at + 1 :] if name != "flat"))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, c) and maps (n, c, h, w)."""
        # Of a channels-last input the exporter makes gathers whose places are computed anew for each batch.
        features = self.body(self.normalize(pixels).contiguous())
        pooled = features.mean((2, 3))
        flat = features.flatten(2)  # (n, d, h·w)
        maps = self.slopes(pooled) @ flat / flat.shape[2]
        return self.head(pooled), maps.unflatten(2, features.shape[2:])

    def slopes(self, pooled: Tensor) -> Tensor:
        """The derivative of the logits by the pooled features (n, d): (n, c, d), exact, since heads are linear or ReLU.

        With one linear layer the maps are class activation maps (Zhou et al. 2016, arXiv:1512.04150).
        """
        first, *rest = [layer for layer in self.head.modules() if isinstance(layer, nn.Linear)]
        if not rest:
            return first.weight[None]
        (last,) = rest
        active = (first(pooled) > 0).to(pooled.dtype)
        slopes: Tensor = (last.weight * active[:, None]) @ first.weight
        return slopes
