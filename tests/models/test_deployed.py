"""The graph that is exported: the classifier's own answer, and where it comes from."""

import onnx
import pytest
import torch
from torch import Tensor, nn

from lesion.config.schema import TIERS, ModelConfig
from lesion.models import Classifier, build
from lesion.models.checks import NAMES, Checks
from lesion.models.deployed import Deployed, Parts

PIXELS = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(tier: str, seed: int = 0) -> Classifier:
    """A network with statistics as if it had been trained: fresh ones make every image look alike."""
    torch.manual_seed(seed)
    net = build(ModelConfig(tier=tier), 7)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        net.train()(torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8))
    return net.eval()


@pytest.fixture(scope="module", params=TIERS)
def net(request: pytest.FixtureRequest) -> Classifier:
    return make(request.param)


@pytest.fixture(scope="module")
def parts(net: Classifier) -> Parts:
    return Parts(net)


def bias(head: nn.Module, pooled: Tensor) -> Tensor:
    """What the head adds to its slopes: (n, c). A linear head's bias; of a ReLU's, that of the active side."""
    slopes = torch.func.vmap(torch.func.jacrev(head))(pooled)
    return head(pooled) - (slopes @ pooled[:, :, None])[:, :, 0]


def test_taken_apart_it_answers_the_same(net: Classifier, parts: Parts) -> None:
    with torch.inference_mode():
        logits, maps = parts(PIXELS)
        torch.testing.assert_close(logits, net(PIXELS))
    assert maps.shape == (3, 7, 2, 2)


def test_maps_add_up_to_the_logits_less_the_bias(parts: Parts) -> None:
    with torch.no_grad():
        logits, maps = parts(PIXELS)
        pooled = parts.body(parts.normalize(PIXELS)).mean((2, 3))
        torch.testing.assert_close(maps.sum((2, 3)), logits - bias(parts.head, pooled), atol=1e-4, rtol=1e-4)
        *_, last = (layer for layer in parts.head.modules() if isinstance(layer, nn.Linear))
        if sum(isinstance(layer, nn.Linear) for layer in parts.head.modules()) == 1:
            torch.testing.assert_close(maps.sum((2, 3)), logits - last.bias, atol=1e-4, rtol=1e-4)


def test_maps_are_feature_times_gradient(parts: Parts) -> None:
    with torch.no_grad():
        _, maps = parts(PIXELS)
        features = parts.body(parts.normalize(PIXELS))
    features.requires_grad_()
    logits = parts.head(features.mean((2, 3)))
    for k in range(7):
        (gradient,) = torch.autograd.grad(logits[:, k].sum(), features, retain_graph=True)
        torch.testing.assert_close(maps[:, k], (gradient * features).sum(1).detach(), atol=1e-4, rtol=1e-4)


def test_several_are_averaged() -> None:
    one, two = make("baseline", 1), make("baseline", 2)
    with torch.inference_mode():
        a, b = (Parts(each)(PIXELS) for each in (one, two))
        checks = Checks(PIXELS)
        logits, measures, maps = Deployed([one, two], checks).eval()(PIXELS)
        torch.testing.assert_close(logits, (one(PIXELS) + two(PIXELS)) / 2)
        torch.testing.assert_close(maps, (a[1] + b[1]) / 2)
        torch.testing.assert_close(measures, checks(PIXELS))


def test_the_graph_answers_like_torch_for_any_number_of_images() -> None:
    import numpy as np
    import onnxruntime as ort

    from lesion.engine.export import trace

    net, pixels = make("baseline"), PIXELS.clone()
    pixels[0] = 90  # flat: every small number that is added counts
    with torch.inference_mode():
        deployed = Deployed([net], Checks(PIXELS)).eval()
        expected = [each.numpy() for each in deployed(pixels)]
    graph = trace(deployed, 64)
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["logits", "checks", "maps"]
    assert expected[1].shape == (3, len(NAMES))
    for count in (3, 1):
        answers = session.run(None, {"pixels": pixels[:count].numpy()})
        for answer, right in zip(answers, expected, strict=True):
            assert answer.dtype == np.float32
            assert answer == pytest.approx(right[:count], abs=1e-4, rel=1e-4)
