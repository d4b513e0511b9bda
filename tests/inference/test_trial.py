"""A model is tried where it can do no harm."""

import sys
from pathlib import Path

import pytest

from lesion.artifact import Artifact
from lesion.errors import CheckFailed
from lesion.serve import trial
from lesion.serve.trial import try_out
from tests.serve.changing import fail_self_test
from tests.serve.conftest import TINY


def test_a_good_model_passes() -> None:
    try_out(Artifact.read(TINY), 1)


def test_a_model_that_fails_its_self_test_says_so() -> None:
    with pytest.raises(CheckFailed, match="failed its self-test: a probability differs by"):
        try_out(Artifact.unpack(fail_self_test()), 1)


def test_a_graph_that_cannot_run_says_so() -> None:
    tiny = Artifact.read(TINY)
    broken, _ = Artifact.pack(tiny.graph.replace(b"MatMul", b"MatMix"), tiny.manifest)
    with pytest.raises(CheckFailed, match="cannot run the model"):
        try_out(broken, 1)


def test_a_model_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(Artifact.read(TINY).graph)
    (node,) = (each for each in model.graph.node if each.output == ["logits"])
    node.output[0] = "first"
    body = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Identity", ["go"], ["on"]),
            onnx.helper.make_node("Identity", ["state"], ["next"]),
        ],
        "body",
        [
            onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            onnx.helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
            onnx.helper.make_tensor_value_info("state", onnx.TensorProto.FLOAT, None),
        ],
        [
            onnx.helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
            onnx.helper.make_tensor_value_info("next", onnx.TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(onnx.helper.make_tensor("many", onnx.TensorProto.INT64, [], [2**62]))
    model.graph.node.append(onnx.helper.make_node("Loop", ["many", "", "first"], ["logits"], body=body))
    endless, _ = Artifact.pack(model.SerializeToString(), Artifact.read(TINY).manifest)
    monkeypatch.setattr(trial, "LIMIT_S", 5.0)
    with pytest.raises(CheckFailed, match="did not end its self-test within 5 s"):
        try_out(endless, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_a_crash_is_the_models_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    with pytest.raises(CheckFailed, match="crashed the process that tried it, with signal 11"):
        try_out(Artifact.read(TINY), 1)
