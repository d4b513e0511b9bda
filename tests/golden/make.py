"""Writes the golden files: `make golden`. A golden file changes in a commit of its own that says why."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lesion.artifact import Artifact, Manifest, SelfTest
from lesion.inference.predictor import Predictor, draw_test_image
from lesion.preprocess import PreprocessSpec
from lesion.taxonomy import Taxonomy

HERE = Path(__file__).parent
SIZE = 32


def make_graph(classes: int = 7) -> bytes:
    """The smallest network with our contract: mean colour, then one linear layer of fixed weights."""
    weights = np.random.default_rng(0).normal(0, 0.02, (3, classes)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIZE, SIZE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])
    graph = helper.make_graph(nodes, "tiny", [pixels], [logits], [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_artifact(classes: str = "diagnosis") -> bytes:
    """The sealed tiny model with a correct self-test."""
    taxonomy, spec = Taxonomy.of(classes), PreprocessSpec(SIZE, "bilinear")
    blank = SelfTest((0.0,) * len(taxonomy.labels), 1e-3)
    manifest = Manifest("tiny", taxonomy, spec, 1.5, 0.4, blank, {"split": "none", "validation": {"auroc": 0.5}})
    graph = make_graph(len(taxonomy.labels))
    draft = Predictor(Artifact.pack(graph, manifest)[0])
    answer = draft.probabilities(spec.apply(draw_test_image())[None])[0]
    test = SelfTest(tuple(map(float, answer)), 1e-3)
    finished = Manifest("tiny", taxonomy, spec, 1.5, 0.4, test, manifest.provenance)
    return Artifact.pack(graph, finished)[1]


if __name__ == "__main__":
    (HERE / "tiny.onnx").write_bytes(make_artifact())
    (HERE / "tiny2.onnx").write_bytes(make_artifact("malignancy"))
