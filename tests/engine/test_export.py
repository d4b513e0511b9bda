import pickle
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lesion.artifact import Artifact
from lesion.config.load import load_config
from lesion.data.pixels import decode_rows
from lesion.data.split import open_dataset
from lesion.engine import export, quantize
from lesion.engine.checkpoint import find_best
from lesion.engine.export import export_run, load_network
from lesion.engine.parity import Parity
from lesion.errors import ArtifactError, CheckFailed, NotFoundError
from lesion.inference.predictor import Predictor
from lesion.records import Estimate
from lesion.run import Run
from tests.engine.conftest import Trained

pytestmark = pytest.mark.slow


def _pixels(trained: Trained) -> np.ndarray:
    predictor = Predictor.load(trained.run.model)
    return decode_rows(open_dataset(trained.config.data).members["test"], predictor.manifest.preprocess)


def test_the_file_holds_the_best_weights_and_not_the_last(trained: Trained) -> None:
    pixels = _pixels(trained)
    answers = Predictor.load(trained.run.model).logits(pixels)
    agreeing = []
    for path in trained.run.checkpoints.iterdir():
        with torch.inference_mode():
            logits = load_network(path, trained.config)(torch.from_numpy(pixels)).numpy()
        if np.abs(answers - logits).max() < 1e-4:
            agreeing.append(path)
    assert agreeing == [find_best(trained.run)]
    assert len(list(trained.run.checkpoints.iterdir())) > 1


def test_torch_and_the_file_agree_on_every_decision(trained: Trained) -> None:
    report = export_run(trained.run)
    assert report.parity_max_difference <= 1e-4
    assert report.parity_flips == 0
    assert report.parity_images == len(open_dataset(trained.config.data).members["val"])


def test_a_file_that_disagrees_with_torch_is_never_written(run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_copy.model.read_bytes()
    honest = export.trace

    def broken(net: torch.nn.Module, size: int) -> bytes:
        with torch.no_grad():
            next(iter(net.parameters())).mul_(1.05)
        graph = honest(net, size)
        with torch.no_grad():
            next(iter(net.parameters())).div_(1.05)
        return graph

    monkeypatch.setattr(export, "trace", broken)
    with pytest.raises(CheckFailed, match="disagrees with torch"):
        export_run(run_copy)
    assert run_copy.model.read_bytes() == before


@pytest.mark.parametrize(
    "parity",
    [Parity(200, 2e-4, 0, 1.0), Parity(200, 1e-6, 1, 1.0), Parity(200, float("nan"), 0, 1.0)],
    ids=["too far", "a decision flips", "not a number"],
)
def test_the_parity_gate_refuses(parity: Parity) -> None:
    with pytest.raises(CheckFailed):
        parity.require(1e-4)
    Parity(200, 1e-4, 0, 1.0).require(1e-4)


def test_the_graph_is_valid_onnx_with_the_documented_contract(trained: Trained) -> None:
    model = onnx.load(trained.run.model)
    onnx.checker.check_model(model, full_check=True)
    (pixels,), (logits,) = model.graph.input, model.graph.output
    shape = [d.dim_param or d.dim_value for d in pixels.type.tensor_type.shape.dim]
    assert (pixels.name, pixels.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert shape[1:] == [32, 32, 3]
    assert isinstance(shape[0], str)
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", onnx.TensorProto.FLOAT)


def test_an_answer_does_not_depend_on_the_batch_it_came_in(trained: Trained) -> None:
    predictor, pixels = Predictor.load(trained.run.model), _pixels(trained)[:9]
    together = predictor.logits(pixels)
    alone = np.concatenate([predictor.logits(each[None]) for each in pixels])
    assert np.array_equal(together, alone)


def test_exporting_twice_gives_the_same_graph(trained: Trained, run_copy: Run) -> None:
    export_run(run_copy)
    assert Artifact.read(run_copy.model).graph == Artifact.read(trained.run.model).graph


class _Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.canary,)


def test_a_checkpoint_that_carries_code_is_refused_and_runs_nothing(run_copy: Run, tmp_path: Path) -> None:
    checkpoint, canary = find_best(run_copy), tmp_path / "canary"
    torch.save({"state_dict": _Bomb(canary)}, checkpoint)
    with pytest.raises(ArtifactError, match="not a checkpoint"):
        export_run(run_copy)
    checkpoint.write_bytes(pickle.dumps(_Bomb(canary)))
    with pytest.raises(ArtifactError, match="not a checkpoint"):
        export_run(run_copy)
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"text"], ids=["empty", "half a zip", "text"])
def test_a_damaged_checkpoint_is_refused(content: bytes, run_copy: Run) -> None:
    find_best(run_copy).write_bytes(content)
    with pytest.raises(ArtifactError, match="not a checkpoint"):
        export_run(run_copy)


def test_weights_of_another_network_are_refused(run_copy: Run) -> None:
    text = run_copy.config.read_text().replace("tier: baseline", "tier: resnet")
    run_copy.config.write_text(text)
    with pytest.raises(ArtifactError, match="not a checkpoint of this run"):
        export_run(run_copy)


def test_a_run_without_a_checkpoint_has_nothing_to_export(run_copy: Run) -> None:
    for path in run_copy.checkpoints.iterdir():
        path.unlink()
    with pytest.raises(NotFoundError, match="no checkpoint"):
        export_run(run_copy)


def test_quantizing_makes_a_smaller_checked_twin(run_copy: Run) -> None:
    before = run_copy.model.read_bytes()
    report = quantize.quantize_run(run_copy)
    assert report.quantized
    assert run_copy.quantized.stat().st_size == report.bytes < 0.35 * len(before)
    assert run_copy.model.read_bytes() == before
    manifest = Predictor.load(run_copy.quantized).manifest
    facts = manifest.provenance["quantization"]
    assert facts["source"] == Artifact.read(run_copy.model).digest
    nodes = {node.op_type for node in onnx.load(run_copy.quantized).graph.node}
    assert "QuantizeLinear" in nodes


@pytest.mark.parametrize(
    ("loss", "refused"),
    [
        (Estimate(0.012, 0.004, 0.020), True),
        (Estimate(0.012, -0.003, 0.030), False),
        (Estimate(0.009, 0.004, 0.020), False),
        (Estimate(-0.1, -0.2, -0.05), False),
    ],
    ids=["too much and certain", "too much but perhaps chance", "within the limit", "a gain"],
)
def test_the_int8_gate_refuses_a_proven_loss(loss: Estimate, refused: bool) -> None:
    with pytest.raises(CheckFailed, match="lowers the validation AUROC") if refused else nullcontext():
        quantize.require_auroc(loss, 0.01)


def test_int8_that_loses_too_much_is_not_written(run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "estimate_auroc_loss", lambda *_: Estimate(0.3, 0.2, 0.4))
    with pytest.raises(CheckFailed, match="the fp32 file stays the model"):
        quantize.quantize_run(run_copy)
    assert not run_copy.quantized.exists()


def test_the_manifest_records_where_the_model_comes_from(trained: Trained) -> None:
    facts = Artifact.read(trained.run.model).manifest.provenance
    assert facts["run"] == trained.run.path.name
    assert facts["data"] == "synthetic"
    assert facts["checkpoint"] == Path(trained.report.best_checkpoint).name
    assert facts["parity"]["flips"] == 0
    assert "not a medical device" in facts["notice"]
    assert load_config([trained.run.config]).model.tier == facts["tier"]
