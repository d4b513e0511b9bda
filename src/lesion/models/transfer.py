"""The tiers that torchvision builds: ResNet-18 and EfficientNet b0…b7, with a new head."""

import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import nn
from torchvision.ops import SqueezeExcitation

from lesion.config.schema import ModelConfig
from lesion.errors import ConfigError, NotFoundError, RemoteError, brief
from lesion.files import open_regular

Weights = dict[str, torch.Tensor]
SQUEEZES = ("fc1", "fc2")  # the layers of squeeze-and-excitation, which a lite network leaves out


def build_resnet(config: ModelConfig, classes: int) -> nn.Module:
    """ResNet-18 (He et al. 2016, arXiv:1512.03385), 11.2 M parameters; float32 (b, 3, h, w) to (b, classes)."""
    net: Any = _load("resnet18", config)
    net.fc = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(net.fc.in_features, classes))
    return net  # type: ignore[no-any-return]


def build_efficientnet(config: ModelConfig, classes: int) -> nn.Module:
    """EfficientNet (Tan & Le 2019, arXiv:1905.11946), 4 M to 64 M parameters; (b, 3, h, w) to (b, classes)."""
    net: Any = _load(f"efficientnet_{config.variant}", config)
    net.classifier = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(net.classifier[1].in_features, classes))
    return net  # type: ignore[no-any-return]


def lighten(net: nn.Module) -> None:
    """Replace SiLU by ReLU and take squeeze-and-excitation out, as EfficientNet-Lite does, in place.

    In int8 these two cost more than the convolutions save; docs/inference.md has the measurement. The weights of the
    convolutions stay and need some epochs to get used to it.
    """
    for name, child in net.named_children():
        if isinstance(child, nn.SiLU):
            setattr(net, name, nn.ReLU(inplace=True))
        elif isinstance(child, SqueezeExcitation):
            setattr(net, name, nn.Identity())
        else:
            lighten(child)


def _load(name: str, config: ModelConfig) -> nn.Module:
    net: nn.Module = torchvision.models.get_model(name, weights=None)
    if config.lite:
        lighten(net)
    if config.weights is not None:
        _fill(net, _read_weights(Path(config.weights)), f"{config.weights}", name)
    elif config.pretrained:
        _fill(net, _download_weights(name), "the downloaded weights", name)
    return net


def _download_weights(name: str) -> Weights:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        # check_hash: a truncated or exchanged download is refused.
        return dict(weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        raise RemoteError(
            f"cannot download the ImageNet weights of {name} from {weights.url}: {error}",
            hint="fetch that file elsewhere and set model.weights=FILE, or train from random weights with "
            "model.pretrained=false",
        ) from error


def _read_weights(path: Path) -> Weights:
    try:
        # weights_only: a checkpoint is untrusted input and must not run code.
        with open_regular(path) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise NotFoundError(f"no such weights file: {path}", hint="check model.weights") from error
    except Exception as error:  # a hostile or damaged file fails in many ways
        raise ConfigError(
            f"model.weights: {path} is not a file of torch weights: {brief(error)}",
            hint="save it with torch.save(net.state_dict(), FILE)",
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):  # a checkpoint of a run
        prefix = "classifier.net."
        state = {k.removeprefix(prefix): value for k, value in state["state_dict"].items() if k.startswith(prefix)}
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise ConfigError(f"model.weights: {path} holds no state_dict of tensors")
    return state


def _is_squeeze(key: str) -> bool:
    """Whether a weight's name, LAYER.PARAMETER at its end, is that of a squeeze-and-excitation layer."""
    return key.rpartition(".")[0].rpartition(".")[2] in SQUEEZES


def _fill(net: nn.Module, state: Weights, source: str, name: str) -> None:
    """Copy all but the classification head, whose ImageNet classes are of no use here."""
    heads = ("fc.", "classifier.")
    body = {key: value for key, value in state.items() if not key.startswith(heads)}
    try:
        missing = [key for key in net.load_state_dict(body, strict=False).missing_keys if not key.startswith(heads)]
        unexpected = [key for key in body if key not in net.state_dict() and not _is_squeeze(key)]
    except RuntimeError as error:  # a shape differs
        raise ConfigError(f"{source}: not weights of {name}: {brief(error)}") from error
    if missing or unexpected:
        first = (missing or unexpected)[0]
        raise ConfigError(
            f"{source}: not weights of {name}: {len(missing)} tensors missing, {len(unexpected)} unexpected, "
            f"the first {first!r}"
        )
