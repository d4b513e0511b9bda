"""Several runs in one file. The members are one training, and the same with other weights or for other folds."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lesion.artifact import Artifact
from lesion.cli.exports import show
from lesion.config.load import load_config, to_yaml
from lesion.config.schema import Config
from lesion.data.split import open_dataset
from lesion.engine import ensemble
from lesion.engine.checkpoint import find_best, read_checkpoint, write_checkpoint
from lesion.engine.ensemble import Part, export_ensemble, find_common, require_alike
from lesion.engine.evaluation.evaluate import evaluate
from lesion.engine.export import export_run
from lesion.engine.validation import Validation
from lesion.errors import CheckFailed, ConfigError, DataError
from lesion.exports import EnsembleReport
from lesion.inference.predictor import Predictor
from lesion.manifest import Manifest
from lesion.progress import Silent
from lesion.run import Run, newest_run
from tests.conftest import Cli
from tests.engine.conftest import Trained

pytestmark = pytest.mark.slow


def vary(trained: Trained, path: Path) -> Run:
    """A run as another seed would have left it: the weights of `trained` with noise, exported."""
    run = Run(Path(shutil.copytree(trained.run.path, path)))
    checkpoint, random = find_best(run), torch.Generator().manual_seed(1)
    content = read_checkpoint(checkpoint)
    for name, value in content["state_dict"].items():
        if name.endswith("weight") and value.ndim > 1:
            value += 0.1 * value.std() * torch.randn(value.shape, generator=random)
    write_checkpoint(checkpoint, content)
    export_run(run)
    return run


def refold(run: Run, path: Path, config: Config) -> Run:
    """A run as if it had been trained on a fold."""
    copy, artifact = Run(Path(shutil.copytree(run.path, path))), Artifact.read(run.model)
    copy.config.write_text(to_yaml(config))
    manifest = artifact.with_provenance(split=open_dataset(config.data).fingerprint)
    copy.model.write_bytes(Artifact.pack(artifact.graph, manifest)[1])
    return copy


@pytest.fixture(scope="module")
def members(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return [trained.run, vary(trained, tmp_path_factory.mktemp("members") / "another")]


@pytest.fixture(scope="module")
def joined(members: Sequence[Run]) -> EnsembleReport:
    return export_ensemble(members, members[1].path.parent / "joined")


def validation_of(config: Config) -> Validation:
    return Validation.of(open_dataset(config.data), config, Silent())


def test_the_file_answers_with_the_mean_of_its_members(
    joined: EnsembleReport, members: Sequence[Run], trained: Trained
) -> None:
    pixels = validation_of(trained.config).pixels[:8]
    own = []
    for run in members:
        predictor = Predictor.load(run.model)
        own.append(predictor.run(pixels, maps=True))
        for answers in (own[-1].logits, own[-1].maps):
            assert answers is not None
            answers /= predictor.manifest.temperature
    answer = Predictor.load(joined.exported.model).run(pixels, maps=True)
    assert answer.logits == pytest.approx(np.mean([each.logits for each in own], axis=0), abs=1e-4)
    assert answer.maps == pytest.approx(np.mean([each.maps for each in own], axis=0), abs=1e-4)
    assert answer.checks == pytest.approx(own[0].checks, abs=1e-4)


def test_gain_and_cost_are_told(joined: EnsembleReport, members: Sequence[Run]) -> None:
    best = max(joined.members, key=lambda member: member.auroc.value or 0)
    assert joined.best == best.run
    assert joined.gain.value == pytest.approx((joined.auroc.value or 0) - (best.auroc.value or 0))
    assert joined.exported.validation["auroc"] == pytest.approx(joined.auroc.value)
    assert joined.growth == pytest.approx(joined.exported.bytes / best.bytes)
    assert 1.8 < joined.growth < 2.2
    assert joined.slowdown == pytest.approx(joined.exported.latency_ms / best.latency_ms)


def test_the_file_names_its_members_by_digest(joined: EnsembleReport, members: Sequence[Run]) -> None:
    facts = Artifact.read(Path(joined.exported.model)).manifest.provenance
    files = [Artifact.read(run.model) for run in members]
    assert facts["members"] == [
        {"run": run.path.name, "model": file.identity, "sha256": file.digest}
        for run, file in zip(members, files, strict=True)
    ]
    assert facts["parameters"] == sum(file.manifest.provenance["parameters"] for file in files)
    assert facts["split"] == files[0].manifest.provenance["split"]
    assert facts["parity"]["flips"] == 0


def test_its_folder_is_a_finished_run_that_is_evaluated_and_listed(joined: EnsembleReport, cli: Cli) -> None:
    model = Path(joined.exported.model)
    runs = model.parent.parent
    assert newest_run(runs).model == model
    found = evaluate(model, "test")
    assert found.model == joined.exported.name
    assert (model.parent / "card.md").read_text().count(joined.members[0].run) == 1
    with pytest.raises(ConfigError, match="it has no checkpoint of its own"):
        export_run(Run(model.parent))
    listed = json.loads(cli("runs", "list", "--runs", runs, "--tier", "ensemble", "--json").out)
    assert [run["name"] for run in listed["runs"]] == [model.parent.name]


def test_what_it_brings_is_said(joined: EnsembleReport, capsys: pytest.CaptureFixture[str]) -> None:
    show(joined, as_json=False)
    out = capsys.readouterr().out
    gain = f"gain over {joined.best}: AUROC {joined.gain.value:+.3f}"
    for said in ("another", "ensemble", gain, "times its time", "their mean"):
        assert said in out


def test_a_file_that_is_not_the_mean_is_never_written(
    members: Sequence[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Artifact.read(members[1].model).graph
    monkeypatch.setattr(ensemble, "deploy", lambda nets, pixels: graph)
    with pytest.raises(CheckFailed, match="disagrees with the mean of its members' files"):
        export_ensemble(members, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_folds_are_calibrated_on_what_was_kept_apart(trained: Trained, tmp_path: Path) -> None:
    data = replace(trained.config.data, processed=str(tmp_path / "folds"), folds=2, calibration=0.2)
    configs = [replace(trained.config, data=replace(data, val_fold=fold)) for fold in (0, 1)]
    runs = [refold(trained.run, tmp_path / f"fold{fold}", config) for fold, config in enumerate(configs)]
    report = export_ensemble(runs, tmp_path / "runs")
    own, *folds = (open_dataset(replace(data, val_fold=fold)).members for fold in (None, 0, 1))
    assert report.exported.parity_images == len(own["val"]) > 0
    learned = {row.lesion_id for each in folds for split in ("train", "val") for row in each[split]}
    assert not learned & {row.lesion_id for row in own["val"]}
    assert own["test"] == folds[0]["test"]
    assert evaluate(Path(report.exported.model), "test").images == len(own["test"])


def part(name: str, config: Config, **changes: object) -> Part:
    """A member that is never asked."""
    tiny = Artifact.read(Path("tests/golden/tiny.onnx"))
    manifest: Manifest = replace(tiny.manifest, provenance={"split": "one"})
    return Part(Run(Path(name)), config, replace(tiny, manifest=replace(manifest, **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a"], ["a", "b", "a"]])
def test_two_different_runs_are_needed(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="at least two expected, each once"):
        require_alike([part(name, load_config()) for name in names])


def test_members_see_the_same_pixels_and_answer_the_same_question() -> None:
    config = load_config()
    one = part("a", config)
    other = replace(one.artifact.manifest.preprocess, size=one.artifact.manifest.preprocess.size + 32)
    with pytest.raises(ConfigError, match=r"a sees size .* b size .*: one file has one input"):
        require_alike([one, part("b", config, preprocess=other)])
    with pytest.raises(DataError, match="a answers with labels"):
        require_alike([one, part("b", config, taxonomy=replace(one.artifact.manifest.taxonomy, malignant=("mel",)))])


def test_members_of_other_splits_have_nothing_in_common() -> None:
    config = load_config()
    assert find_common([part("a", config), part("b", config)]) == config
    with pytest.raises(DataError, match="a was trained on split one, b on split two"):
        find_common([part("a", config), part("b", config, provenance={"split": "two"})])


def test_folds_without_images_kept_apart_cannot_be_calibrated() -> None:
    zero, one = (load_config(overrides=["data.folds=3", f"data.val_fold={fold}"]) for fold in (0, 1))
    with pytest.raises(DataError, match="each was trained on the other's") as caught:
        find_common([part("a", zero), part("b", one, provenance={"split": "two"})])
    assert "data.calibration=0.15" in str(caught.value.hint)


def test_runs_are_joined_only_when_asked(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("export", tmp_path / "a", tmp_path / "b")
    assert (outcome.code, "add --ensemble" in outcome.err) == (2, True)
    outcome = cli("export", "--ensemble", "--quantize", tmp_path / "a", tmp_path / "b")
    assert (outcome.code, "each go alone" in outcome.err) == (2, True)
