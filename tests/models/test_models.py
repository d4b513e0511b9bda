import os
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.v2.functional import normalize, to_dtype

from lesion.config.schema import TIERS, ModelConfig
from lesion.errors import ConfigError, NotFoundError, RemoteError
from lesion.models import Classifier, build, count_parameters
from lesion.models.normalize import MEAN, STD, Normalize


@pytest.mark.parametrize(
    ("config", "low", "high"),
    [
        (ModelConfig(tier="baseline"), 1.2e6, 1.6e6),
        (ModelConfig(tier="resnet"), 11.1e6, 11.3e6),
        (ModelConfig(tier="efficientnet"), 3.9e6, 4.1e6),
        (ModelConfig(tier="efficientnet", variant="b1"), 6.4e6, 6.6e6),
    ],
    ids=["baseline", "resnet", "efficientnet b0", "efficientnet b1"],
)
def test_each_tier_has_its_size_and_its_outputs(config: ModelConfig, low: float, high: float) -> None:
    net = build(config, 7).eval()
    assert low <= count_parameters(net) <= high
    with torch.inference_mode():
        logits = net(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32


def test_the_baseline_costs_less_than_a_fifth_of_resnet() -> None:
    pixels = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)

    def count(tier: str) -> int:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            build(ModelConfig(tier=tier), 7).eval()(pixels)
        return counter.get_total_flops()

    assert count("baseline") < count("resnet") / 5


def test_normalisation_is_that_of_torchvision() -> None:
    pixels = torch.randint(0, 256, (3, 8, 9, 3), dtype=torch.uint8)
    expected = normalize(to_dtype(pixels.permute(0, 3, 1, 2), torch.float32, scale=True), list(MEAN), list(STD))
    torch.testing.assert_close(Normalize()(pixels), expected)


def test_variants_of_efficientnet_can_be_named() -> None:
    from lesion.models.transfer import build_efficientnet

    with torch.device("meta"):
        for i in (0, 1, 7):
            net = build_efficientnet(ModelConfig(tier="efficientnet", variant=f"b{i}"), 7)
            assert 3.9e6 < count_parameters(net) < 66e6


def test_own_weights_are_loaded_but_for_the_head(tmp_path: Path) -> None:
    source = torchvision.models.resnet18()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = build(ModelConfig(tier="resnet", weights=str(tmp_path / "weights.pth")), 7)
    mine = net.net.state_dict()  # type: ignore[union-attr, operator]
    body = {key: value for key, value in source.state_dict().items() if not key.startswith("fc.")}
    assert len(body) == 120
    assert all(torch.equal(mine[key], value) for key, value in body.items())


def test_a_run_starts_from_the_checkpoint_of_another(tmp_path: Path) -> None:
    source = build(ModelConfig(tier="resnet"), 7)
    state = {f"classifier.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "best.ckpt")
    mine = build(ModelConfig(tier="resnet", weights=str(tmp_path / "best.ckpt")), 2).state_dict()
    shared = [key for key in mine if not key.startswith("net.fc.")]
    assert len(shared) == 120
    assert all(torch.equal(mine[key], source.state_dict()[key]) for key in shared)


def test_a_lite_network_takes_the_convolutions_of_a_full_one(tmp_path: Path) -> None:
    source = torchvision.models.efficientnet_b0()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = build(ModelConfig(tier="efficientnet", lite=True, weights=str(tmp_path / "weights.pth")), 7)
    kinds = {type(module) for module in net.modules()}
    assert not kinds & {torch.nn.SiLU, torchvision.ops.SqueezeExcitation}
    mine = net.net.state_dict()  # type: ignore[union-attr, operator]
    body = [key for key in mine if not key.startswith("classifier.")]
    assert all(torch.equal(mine[key], source.state_dict()[key]) for key in body)
    torch.save(mine, tmp_path / "lite.pth")
    again = build(ModelConfig(tier="efficientnet", lite=True, weights=str(tmp_path / "lite.pth")), 7)
    assert all(torch.equal(again.net.state_dict()[key], mine[key]) for key in body)  # type: ignore[union-attr, operator]


def test_only_efficientnet_has_a_lite_form() -> None:
    with pytest.raises(ConfigError, match="resnet tier has no lite form"):
        build(ModelConfig(tier="resnet", lite=True), 7)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.efficientnet_b0().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"not weights of resnet18: \d+ tensors missing"):
        build(ModelConfig(tier="resnet", weights=str(tmp_path / "weights.pth")), 7)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="not weights of resnet18"):
        build(ModelConfig(tier="resnet", weights=str(tmp_path / "weights.pth")), 7)


@pytest.mark.parametrize("key", ["a", "", ".", "a.", ".a", "fc1", "fc1.", 7], ids=repr)
@pytest.mark.parametrize("tier", ["resnet", "efficientnet"])
def test_a_tensor_of_any_name_is_refused(tier: str, key: object, tmp_path: Path) -> None:
    torch.save({key: torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"not weights of|holds no state_dict"):
        build(ModelConfig(tier=tier, weights=str(tmp_path / "weights.pth")), 7)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_weights_from_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="it is a pipe"):
        build(ModelConfig(tier="resnet", weights=str(tmp_path / "weights.pth")), 7)


class _Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.canary,)


def test_weights_that_carry_code_run_nothing(tmp_path: Path) -> None:
    torch.save(_Bomb(tmp_path / "canary"), tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="not a file of torch weights"):
        build(ModelConfig(tier="resnet", weights=str(tmp_path / "weights.pth")), 7)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [None, b"", b"text"], ids=["missing", "empty", "text"])
def test_a_file_that_holds_no_weights_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ConfigError, NotFoundError), match=r"weights\.pth"):
        build(ModelConfig(tier="efficientnet", weights=str(path)), 7)


@pytest.mark.parametrize("tier", ["resnet", "efficientnet"])
def test_without_a_connection_the_way_around_is_told(
    tier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(RemoteError, match="no route to host") as caught:
        build(ModelConfig(tier=tier, pretrained=True), 7)
    assert "model.pretrained=false" in caught.value.hint
    assert "model.weights=FILE" in caught.value.hint


def test_a_truncated_download_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    from email.message import Message

    class Response(io.BytesIO):
        def info(self) -> object:
            return Message()

    monkeypatch.setattr("torch.hub.urlopen", lambda *_: Response(b"half"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(RemoteError, match="hash"):
        build(ModelConfig(tier="resnet", pretrained=True), 7)


def test_the_baseline_has_no_pretrained_weights() -> None:
    with pytest.raises(ConfigError, match="baseline tier has no pretrained weights"):
        build(ModelConfig(tier="baseline", pretrained=True), 7)


def test_an_unknown_tier_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="unknown tier 'resnet50'; did you mean 'resnet'"):
        build(ModelConfig(tier="resnet50"), 7)


class TestStages:
    @pytest.fixture(
        params=[*((tier, "b0") for tier in TIERS), ("efficientnet", "b3")], ids=lambda param: "-".join(param)
    )
    def net(self, request: pytest.FixtureRequest) -> Classifier:
        tier, variant = request.param
        return build(ModelConfig(tier=tier, variant=variant), 7).eval()

    def test_they_hold_every_parameter_and_statistic_once(self, net: Classifier) -> None:
        stages = net.stages()
        held = [id(parameter) for stage in stages for parameter in stage.parameters()]
        assert len(held) == len(set(held))
        assert set(held) == {id(parameter) for parameter in net.parameters()}
        statistics = [id(buffer) for stage in stages for buffer in stage.buffers()]
        assert set(statistics) == {id(buffer) for buffer in net.net.buffers()}

    def test_they_are_in_the_order_in_which_pixels_pass(self, net: Classifier) -> None:
        passed: list[int] = []
        stages = net.stages()
        for place, stage in enumerate(stages):
            stage.register_forward_hook(lambda *_, place=place: passed.append(place))
        with torch.inference_mode():
            net(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
        assert passed == list(range(len(stages)))

    def test_the_last_is_the_head(self, net: Classifier) -> None:
        *body, head = net.stages()
        last = [module for module in head.modules() if isinstance(module, torch.nn.Linear)][-1]
        assert last.out_features == 7
        assert not any(isinstance(module, torch.nn.Conv2d) for module in head.modules())
        assert not any(isinstance(module, torch.nn.Linear) for stage in body for module in stage.modules())
