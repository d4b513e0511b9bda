"""Intact model files that do not answer: for ever busy, or in need of memory that there is not. They need onnx."""

from typing import Any

import numpy as np
import pytest

from lesion.artifact import Artifact
from lesion.inference.predictor import Predictor, draw_test_image
from tests.conftest import GOLDEN


def change(edit: Any) -> Artifact:
    """The tiny model with `edit(onnx, model)` applied; its logits are what "first" holds until then."""
    onnx = pytest.importorskip("onnx")
    tiny = Artifact.read(GOLDEN / "tiny.onnx")
    model = onnx.load_from_string(tiny.graph)
    (node,) = (each for each in model.graph.node if each.output == ["logits"])
    node.output[0] = "first"
    edit(onnx, model)
    return Artifact.pack(model.SerializeToString(), tiny.manifest)[0]


def loop_for_ever(*, on_all: bool = True) -> Artifact:
    """A loop of 2**62 rounds, which ends when it is told to; on all images, or on all but the one of the self-test."""
    drawn = Predictor.load(GOLDEN / "tiny.onnx", 1)
    checks = drawn.run(drawn.read(draw_test_image())[None]).checks

    def edit(onnx: Any, model: Any) -> None:
        if not on_all:
            model.graph.initializer.append(onnx.numpy_helper.from_array(checks, "drawn"))
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1e-4), "little"))
            for kind, words, out in (
                ("Sub", ["checks", "drawn"], "more"),
                ("Abs", ["more"], "far"),
                ("ReduceMax", ["far"], "farthest"),
                ("Greater", ["farthest", "little"], "is other"),
            ):
                model.graph.node.append(onnx.helper.make_node(kind, words, [out]))
            model.graph.node[-2].attribute.append(onnx.helper.make_attribute("keepdims", 0))
        info, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
        body = onnx.helper.make_graph(
            [
                onnx.helper.make_node("Identity", ["go"], ["on"]),
                onnx.helper.make_node("Identity", ["state"], ["next"]),
            ],
            "body",
            [info("i", types.INT64, []), info("go", types.BOOL, []), info("state", types.FLOAT, None)],
            [info("on", types.BOOL, []), info("next", types.FLOAT, None)],
        )
        model.graph.initializer.append(onnx.helper.make_tensor("many", types.INT64, [], [2**62]))
        model.graph.node.append(
            onnx.helper.make_node("Loop", ["many", "" if on_all else "is other", "first"], ["logits"], body=body)
        )

    return change(edit)


def refuse_to_start(rounds: int = 600, side: int = 1500) -> Artifact:
    """Minutes of products of constants, which are computed before the session has started; nothing can stop that."""

    def edit(onnx: Any, model: Any) -> None:
        matrix = np.full((side, side), 1 / side, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(matrix, "m0"))
        for i in range(rounds):
            model.graph.node.append(onnx.helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]))
        _add_nothing(onnx, model, f"m{rounds}")

    return change(edit)


def fill_memory(size: int) -> Artifact:
    """A tensor of `size` bytes on the way to the answer."""

    def edit(onnx: Any, model: Any) -> None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([size // 4], np.int64), "shape"))
        model.graph.node.append(onnx.helper.make_node("ConstantOfShape", ["shape"], ["large"]))
        _add_nothing(onnx, model, "large")

    return change(edit)


def _add_nothing(onnx: Any, model: Any, name: str) -> None:
    """Let the logits depend on the tensor called `name`, but not change."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "nil"))
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMax", [name], ["most"], keepdims=0),
            onnx.helper.make_node("Mul", ["most", "nil"], ["nothing"]),
            onnx.helper.make_node("Add", ["first", "nothing"], ["logits"]),
        ]
    )
