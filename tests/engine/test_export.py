import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lesion.artifact import Artifact
from lesion.config.load import load_config
from lesion.data.pixels import decode_rows
from lesion.data.split import open_dataset
from lesion.engine import export
from lesion.engine.checkpoint import find_best, read_checkpoint, write_checkpoint
from lesion.engine.export import export_run, load_network
from lesion.engine.parity import run_batches
from lesion.engine.validation import Validation
from lesion.errors import ArtifactError, CheckFailed, NonFiniteError, NotFoundError
from lesion.inference.decide import find_flags
from lesion.inference.predictor import Predictor
from lesion.models.checks import FLAGS, NAMES
from lesion.progress import Silent
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


def test_the_graph_is_valid_onnx_with_the_documented_contract(trained: Trained) -> None:
    model = onnx.load(trained.run.model)
    onnx.checker.check_model(model, full_check=True)
    (pixels,) = model.graph.input
    tensors = {each.name: each.type.tensor_type for each in (pixels, *model.graph.output)}
    shapes = {name: [d.dim_param or d.dim_value for d in each.shape.dim] for name, each in tensors.items()}
    kinds = {name: each.elem_type for name, each in tensors.items()}
    byte, single = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    assert kinds == {"pixels": byte, "logits": single, "checks": single, "maps": single}
    assert {isinstance(shape.pop(0), str) for shape in shapes.values()} == {True}
    assert shapes == {"pixels": [32, 32, 3], "logits": [7], "checks": [len(NAMES)], "maps": [7, 1, 1]}


def test_all_that_decides_is_fitted_on_validation(trained: Trained) -> None:
    predictor = Predictor.load(trained.run.model)
    manifest, validation = (
        predictor.manifest,
        Validation.of(open_dataset(trained.config.data), trained.config, Silent()),
    )
    answers = run_batches(predictor, validation.pixels)
    assert [check.name for check in manifest.checks] == list(NAMES)
    assert [(check.low_flag, check.high_flag) for check in manifest.checks] == [FLAGS[name] for name in NAMES]
    flags = find_flags(answers.checks, manifest)
    assert np.mean([not each for each in flags]) >= trained.config.eval.acceptance
    accepted = [row[0] for row, each in zip(answers.checks, flags, strict=True) if not each]
    assert manifest.checks[0].high == pytest.approx(max(accepted))
    assert [each.name for each in manifest.reference] == ["malignant", *NAMES]
    assert all(sum(each.shares) == pytest.approx(1) for each in manifest.reference)
    malignant = predictor.malignant(validation.pixels)
    covered = malignant[validation.malignant] >= manifest.conformal.malignant_from
    count = len({lesion for lesion, each in zip(validation.lesions, validation.malignant, strict=True) if each})
    assert manifest.conformal.goals == (min(0.98, count / (count + 1)), 0.8)
    assert covered.mean() >= manifest.conformal.goals[0]


def test_a_training_with_other_class_shares_is_corrected_in_the_graph(trained: Trained, run_copy: Run) -> None:
    run_copy.config.write_text(run_copy.config.read_text().replace("weighting: 0.0", "weighting: 0.5"))
    export_run(run_copy)
    plain, corrected = Predictor.load(trained.run.model), Predictor.load(run_copy.model)
    pixels = _pixels(trained)[:5]
    added = corrected.manifest.provenance["prior_correction"]
    assert corrected.logits(pixels) - plain.logits(pixels) == pytest.approx(np.tile(added, (5, 1)), abs=1e-4)
    assert "prior_correction" not in plain.manifest.provenance


def test_weights_that_are_not_a_number_are_not_exported(run_copy: Run) -> None:
    before, checkpoint = run_copy.model.read_bytes(), find_best(run_copy)
    content = read_checkpoint(checkpoint)
    next(value for name, value in content["state_dict"].items() if name.endswith("weight")).fill_(float("nan"))
    write_checkpoint(checkpoint, content)
    with pytest.raises(NonFiniteError, match="holds weights that are not a number"):
        export_run(run_copy)
    assert run_copy.model.read_bytes() == before


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


def test_the_manifest_records_where_the_model_comes_from(trained: Trained) -> None:
    facts = Artifact.read(trained.run.model).manifest.provenance
    assert facts["run"] == trained.run.path.name
    assert facts["data"] == "synthetic"
    assert facts["checkpoint"] == Path(trained.report.best_checkpoint).name
    assert facts["parity"]["flips"] == 0
    assert "not a medical device" in facts["notice"]
    assert load_config([trained.run.config]).model.tier == facts["tier"]
