"""Intact model files that do not answer: for ever busy, or in need of memory that there is not. They need onnx."""

from typing import Any

import numpy as np
import pytest

from lesion.artifact import Artifact
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


def loop_for_ever() -> Artifact:
    """A loop of 2**62 rounds, which ends when it is told to."""

    def edit(onnx: Any, model: Any) -> None:
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
        model.graph.node.append(onnx.helper.make_node("Loop", ["many", "", "first"], ["logits"], body=body))

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
