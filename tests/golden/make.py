"""Writes the golden files: `make golden`. A golden file changes in a commit of its own that says why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lesion.artifact import Artifact
from lesion.inference.predictor import Predictor, draw_test_image
from lesion.manifest import Check, Conformal, Manifest, Reference, SelfTest
from lesion.preprocess import PreprocessSpec
from lesion.taxonomy import Taxonomy

HERE = Path(__file__).parent
SIZE = 32


def make_graph(classes: int = 7) -> bytes:
    """The smallest network with our contract: mean colour, then one linear layer of fixed weights."""
    values = {
        "weights": np.random.default_rng(0).normal(0, 0.02, (3, classes)).astype(np.float32),
        "white": np.float32(255),
        "positions": np.float32(SIZE * SIZE),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("ReduceMean", ["mean"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Div", ["grey", "white"], ["checks"]),
        helper.make_node("MatMul", ["x", "weights"], ["each"]),
        helper.make_node("Transpose", ["each"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "positions"], ["maps"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIZE, SIZE, 3])
    shapes = {"logits": [classes], "checks": [1], "maps": [classes, SIZE, SIZE]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]) for name, shape in shapes.items()]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "tiny", [pixels], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_artifact(classes: str = "diagnosis") -> bytes:
    """The sealed tiny model with a correct self-test."""
    taxonomy, spec = Taxonomy.of(classes), PreprocessSpec(SIZE, "bilinear")
    blank = Manifest(
        name="tiny",
        taxonomy=taxonomy,
        preprocess=spec,
        temperature=1.5,
        threshold=0.4,
        conformal=Conformal(0.9, malignant_from=0.35, benign_to=0.45),
        checks=(Check("brightness", 0.02, 0.98, "too_dark", "too_bright"),),
        reference=(Reference("malignant", (0.4, 0.5), (0.3, 0.4, 0.3)), Reference("brightness", (0.5,), (0.5, 0.5))),
        self_test=SelfTest((0.0,) * len(taxonomy.labels), 1e-3),
        provenance={"split": "none", "validation": {"auroc": 0.5}},
    )
    graph = make_graph(len(taxonomy.labels))
    draft = Predictor(Artifact.pack(graph, blank)[0])
    answer = draft.probabilities(spec.apply(draw_test_image())[None])[0]
    finished = replace(blank, self_test=SelfTest(tuple(map(float, answer)), 1e-3))
    return Artifact.pack(graph, finished)[1]


if __name__ == "__main__":
    (HERE / "tiny.onnx").write_bytes(make_artifact())
    (HERE / "tiny2.onnx").write_bytes(make_artifact("malignancy"))
