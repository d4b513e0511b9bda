"""The three tiers as plain modules behind one table."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lesion.config.schema import ModelConfig
from lesion.errors import ConfigError
from lesion.models.baseline import build_baseline
from lesion.models.normalize import Normalize
from lesion.models.transfer import build_efficientnet, build_resnet
from lesion.suggest import lookup


def _baseline(config: ModelConfig, classes: int) -> nn.Module:
    if config.pretrained or config.weights:
        raise ConfigError(
            "model.pretrained: the baseline tier has no pretrained weights", hint="set model.pretrained=false"
        )
    return build_baseline(classes, config.dropout)


BUILDERS: dict[str, Callable[[ModelConfig, int], nn.Module]] = {
    "baseline": _baseline,
    "resnet": build_resnet,
    "efficientnet": build_efficientnet,
}


class Classifier(nn.Module):
    """Any tier behind its normalisation: uint8 pixels (b, s, s, 3) to logits float32 (b, classes).

    This is the graph that is exported, so training and serving share every arithmetic step.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.net = net

    def stages(self) -> list[nn.Module]:
        """The parts that hold weights, from the first convolution to the head."""
        parts: list[nn.Module] = []
        for name, part in self.net.named_children():
            parts += list(part.children()) if name == "features" else [part]
        return [part for part in parts if any(True for _ in part.parameters())]

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits in the order of the taxonomy's labels."""
        logits: Tensor = self.net(self.normalize(pixels))
        return logits


def build(config: ModelConfig, classes: int) -> Classifier:
    """The network that `config` names, with `classes` outputs, its convolutions laid out channels-last.

    Raises ConfigError for an unknown tier or unfit weights, RemoteError when weights cannot be downloaded.
    """
    if config.lite and config.tier != "efficientnet":
        raise ConfigError(f"model.lite: the {config.tier} tier has no lite form", hint="set model.lite=false")
    net = lookup(BUILDERS, config.tier, "tier")(config, classes)
    return Classifier(net.to(memory_format=torch.channels_last))


def count_parameters(net: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
