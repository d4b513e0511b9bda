"""What a recipe does to a graph."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from lesion.config.schema import ModelConfig
from lesion.engine.export import deploy
from lesion.engine.quantization.recipe import RECIPES, Recipe, choose_recipes, leave_depthwise, leave_squeezes
from lesion.engine.quantization.rewrite import find_ancestors, quantize_graph
from lesion.models import build

pytestmark = pytest.mark.slow
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def efficientnet() -> bytes:
    torch.manual_seed(0)
    net = build(ModelConfig(tier="efficientnet"), 7).eval()
    for module in net.modules():  # random statistics, so that no layer is blank
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    return deploy([net], PIXELS)


@pytest.fixture(scope="module")
def baseline() -> bytes:
    torch.manual_seed(0)
    return deploy([build(ModelConfig(), 7).eval()], PIXELS)


def run(graph: bytes) -> list[np.ndarray]:
    return list(ort.InferenceSession(graph).run(["logits", "checks"], {"pixels": PIXELS}))


def find(name: str) -> Recipe:
    return next(recipe for recipe in RECIPES if recipe.name == name)


def kinds(graph: bytes) -> list[str]:
    return [node.op_type for node in onnx.ModelProto.FromString(graph).graph.node]


@pytest.mark.parametrize(
    "name", ["int8", "int8, but first and last layer", "int8, 7-bit weights", "int8, unsigned weights"]
)
def test_a_quantized_graph_keeps_the_contract_and_the_checks(name: str, efficientnet: bytes) -> None:
    logits, checks = run(quantize_graph(efficientnet, PIXELS, find(name)))
    expected, measures = run(efficientnet)
    assert logits.shape == expected.shape
    assert np.isfinite(logits).all()
    # All but the first measure, which is made of the quantized features, are of the pixels alone.
    assert np.allclose(checks[:, 1:], measures[:, 1:], atol=1e-6)


def test_weights_alone_make_the_file_small_and_the_answers_stay_close(efficientnet: bytes) -> None:
    small = quantize_graph(efficientnet, PIXELS, find("int8 weights only"))
    assert len(small) < 0.4 * len(efficientnet)
    logits, expected = run(small)[0], run(efficientnet)[0]
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max() + 1e-3


def test_depthwise_convolutions_and_squeezes_are_found(efficientnet: bytes) -> None:
    nodes = find_ancestors(onnx.ModelProto.FromString(efficientnet), "logits")
    assert len(leave_depthwise(nodes)) == 16
    left = [node for node in nodes if node.name in leave_squeezes(nodes)]
    assert sum(node.op_type == "Conv" for node in left) == 32  # two in each of 16 blocks


def test_nodes_of_checks_and_maps_are_no_ancestors_of_the_logits(efficientnet: bytes) -> None:
    model = onnx.ModelProto.FromString(efficientnet)
    assert len(find_ancestors(model, "logits")) < len(model.graph.node)
    assert not {name for node in find_ancestors(model, "logits") for name in node.output} & {"checks", "maps"}


def optimise(graph: bytes, folder: Path) -> list[str]:
    """The operators that onnxruntime really computes with."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(graph, options)
    return kinds((folder / "optimised.onnx").read_bytes())


def test_weights_are_made_floating_point_once_and_not_for_each_image(baseline: bytes, tmp_path: Path) -> None:
    small = quantize_graph(baseline, PIXELS, find("int8 weights only"))
    assert {"Cast", "Mul"} <= {*kinds(small)}
    assert sorted(optimise(small, tmp_path)) == sorted(optimise(baseline, tmp_path))


def test_nothing_is_computed_in_floating_point_between_two_quantized_convolutions(
    baseline: bytes, tmp_path: Path
) -> None:
    found = optimise(quantize_graph(baseline, PIXELS, find("int8, but first and last layer")), tmp_path)
    between = [kind for kind in found if kind in ("QLinearConv", "QuantizeLinear", "DequantizeLinear", "Relu")]
    assert between.count("QLinearConv") == 8
    first = between.index("QLinearConv")
    assert between[first : first + 8] == ["QLinearConv"] * 8


def test_weights_that_do_not_overflow_are_tried_where_they_would() -> None:
    there, elsewhere = ({each.name for each in choose_recipes(kind)} for kind in ("avx2", "avx512_vnni"))
    assert there - elsewhere == {each.name for each in RECIPES if each.seven_bits or each.unsigned}
    assert "int8" in elsewhere < there
