import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, call

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.config.serving import ServeConfig
from lesion.data.index import METADATA, NEEDED
from lesion.data.quarantine import add_to_quarantine
from lesion.data.split import open_dataset
from lesion.engine.evaluation import findings
from lesion.engine.evaluation.changes import OF_PHOTO, OF_PIXELS
from lesion.engine.evaluation.evaluate import evaluate
from lesion.errors import ConfigError, DataError, OutputError
from lesion.inference.predictor import Predictor
from lesion.metrics.reasons import POINTS
from lesion.records import to_json
from lesion.run import Run
from lesion.serve.app import create_app
from lesion.serve.slot import Serving, Slot
from tests.conftest import Cli
from tests.engine.conftest import Trained
from tests.engine.evaluation.conftest import write_model

Change = Callable[[dict[str, str]], dict[str, str]]


def rewrite(root: Path, change: Change) -> Config:
    """Change every row of the metadata; the split is not drawn yet."""
    with (root / METADATA).open(newline="") as file:
        rows = [change(row) for row in csv.DictReader(file)]
    with (root / METADATA).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return load_config(overrides=[f"data.root={root}", "eval.stress_images=10"])


def test_the_figures_are_those_of_the_answers(model: Path, config: Config) -> None:
    found = evaluate(model, "train", config)
    predictor, rows = Predictor.load(model), open_dataset(config.data).members["train"]
    p = np.array([predictor.predict(row.path).class_probabilities["malignant"] for row in rows])
    truth = np.array([row.dx in ("akiec", "bcc", "mel") for row in rows])
    assert found.metrics["auroc"].value == pytest.approx(roc_auc_score(truth, p))
    assert found.metrics["average_precision"].value == pytest.approx(average_precision_score(truth, p))
    assert found.metrics["brier"].value == pytest.approx(brier_score_loss(truth, p))
    cells = {"tp": truth & (p >= 0.4), "fp": ~truth & (p >= 0.4), "fn": truth & (p < 0.4), "tn": ~truth & (p < 0.4)}
    assert found.confusion == {name: int(each.sum()) for name, each in cells.items()}
    assert (found.images, found.malignant) == (len(rows), truth.sum())
    assert found.lesions == len({row.lesion_id for row in rows})
    assert found.malignant_lesions == len({row.lesion_id for row, bad in zip(rows, truth, strict=True) if bad})
    (own,) = [row for row in found.operating_table if row.chosen]
    assert own.threshold == 0.4
    assert own.sensitivity == found.metrics["sensitivity"].value
    assert own.flagged == (p >= 0.4).mean()
    assert own.intervals["sensitivity"] == found.metrics["sensitivity"]
    assert own.intervals["positive_predictive_value"] == found.metrics["precision"]
    assert found.calibration_error_before.low is None
    assert found.data == "synthetic"
    assert sum(found.diagnosis_counts.values()) == len(rows)
    assert set(found.diagnoses) == {*predictor.manifest.taxonomy.labels, "macro"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("broken")])
def test_a_bar_ends_when_measuring_is_interrupted(
    model: Path, config: Config, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(findings, "estimate_subgroups", Mock(side_effect=error))
    progress = Mock()
    with pytest.raises(error if isinstance(error, type) else type(error)):
        evaluate(model, "test", config, progress)
    assert progress.begin.call_count == progress.end.call_count > 0
    assert progress.method_calls[-1] == call.end()


def test_the_worst_come_first_and_once_a_lesion(model: Path, config: Config) -> None:
    found = evaluate(model, "train", config)
    missed = [case for case in found.worst if case.truth == "malignant"]
    alarms = found.worst[len(missed) :]
    assert {case.prediction for case in missed} <= {"benign"}
    assert {(case.truth, case.prediction) for case in alarms} <= {("benign", "malignant")}
    assert [case.malignant for case in missed] == sorted(case.malignant for case in missed)
    assert [case.malignant for case in alarms] == sorted((case.malignant for case in alarms), reverse=True)
    lesion = {row.image_id: row.lesion_id for row in open_dataset(config.data).members["train"]}
    assert len({lesion[case.image_id] for case in found.worst}) == len(found.worst) > 0


def test_a_run_keeps_everything(tiny_run: Path, config: Config, ham_root: Path) -> None:
    (run,) = (Run(path) for path in tiny_run.iterdir() if path.is_dir())
    write_model(run.model, ham_root)
    found = evaluate(run.model, "test", config)
    assert json.loads(run.report("test").read_text())["model"] == found.model
    assert "malignant" in run.answers("test").read_text().splitlines()[0]
    assert run.page("test").read_text().startswith("<!doctype html>")
    assert run.card.read_text().startswith("# Model card")
    card = run.card.read_bytes()
    evaluate(run.model, "val", config)
    assert run.page("val").is_file()
    assert run.card.read_bytes() == card  # it is about the test split


def test_a_file_alone_leaves_only_what_was_asked_for(model: Path, config: Config, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    evaluate(model, "test", config)
    assert set(tmp_path.iterdir()) == before
    evaluate(model, "test", config, html=tmp_path / "new" / "page.html", card=tmp_path / "card.md")
    assert (tmp_path / "new" / "page.html").is_file()
    assert (tmp_path / "card.md").is_file()


def test_where_nothing_can_be_written_nothing_is_begun(model: Path, config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    missing = replace(config, data=replace(config.data, root="nowhere"))
    with pytest.raises(OutputError, match="cannot write into the folder"):
        evaluate(model, "test", missing, html=tmp_path / "file" / "page.html")


def test_stress_changes_every_picture_in_every_way(model: Path, config: Config) -> None:
    found = evaluate(model, "test", config, stress=True)
    assert [(each.name, each.level) for each in found.stress] == [*OF_PIXELS, *OF_PHOTO]
    assert evaluate(model, "test", config).stress == []


def test_eight_views_show_what_they_gain(model: Path, config: Config, tiny_run: Path, ham_root: Path) -> None:
    (run,) = (Run(path) for path in tiny_run.iterdir() if path.is_dir())
    write_model(run.model, ham_root)
    found = evaluate(run.model, "test", config, tta=True)
    assert found.tta
    gain = {each.figure: each for each in found.tta_gain}
    assert gain["auroc"].difference.value == 0  # the mean colour is the same from all sides
    assert gain["auroc"].p_value == 1
    assert found.plain_images_per_second is not None
    assert run.report("test-tta").is_file()
    assert not run.report("test").exists()
    assert not run.card.exists()


@pytest.mark.parametrize("dx", ["nv", "mel"])
def test_one_class_alone_is_measured_as_far_as_it_goes(dx: str, ham_copy: Path, tmp_path: Path) -> None:
    config = rewrite(ham_copy, lambda row: {**row, "dx": dx})
    found = evaluate(
        write_model(tmp_path / "model.onnx", ham_copy),
        "test",
        config,
        stress=True,
        html=tmp_path / "a",
        card=tmp_path / "b",
    )
    why = "no image is malignant" if dx == "nv" else "every image is malignant"
    for name in ("auroc", "average_precision", "partial_auroc", "balanced_accuracy"):
        assert found.metrics[name].value is found.lesion_metrics[name].value is None
        assert found.undefined[name] == found.undefined[f"lesion.{name}"] == why
    assert found.undefined["roc"] == why
    assert found.metrics["specificity" if dx == "nv" else "sensitivity"].value is not None
    assert found.roc.y[0] is None
    assert {each.auroc_change.value for each in found.stress} == {None}
    assert "NaN" not in to_json(found)


def keep(root: Path, most: int) -> Config:
    """Put all but `most` images of the test split in quarantine."""
    config = load_config(overrides=[f"data.root={root}", "eval.stress_images=10"])
    dataset = open_dataset(config.data)
    add_to_quarantine(dataset.processed, {row.image_id: "why not" for row in dataset.members["test"][most:]})
    return config


def test_three_images_give_no_made_up_interval(ham_copy: Path, tmp_path: Path) -> None:
    config = keep(ham_copy, 3)
    model = write_model(tmp_path / "model.onnx", ham_copy)
    found = evaluate(model, "test", config, stress=True, html=tmp_path / "page.html", card=tmp_path / "card.md")
    assert found.images == 3
    for name, estimate in found.metrics.items():
        assert estimate.low is not None or name in POINTS or found.undefined[name]
    assert {each.metrics["auroc"].value for each in found.subgroups} == {None}


def test_an_empty_split_is_refused(ham_copy: Path, tmp_path: Path) -> None:
    config = keep(ham_copy, 0)
    with pytest.raises(DataError, match=r"the test split of .* has no images"):
        evaluate(write_model(tmp_path / "model.onnx", ham_copy), "test", config)


def test_a_model_of_two_classes_has_no_diagnoses(ham_root: Path, config: Config, tmp_path: Path) -> None:
    found = evaluate(write_model(tmp_path / "model.onnx", ham_root, "tiny2.onnx"), "test", config, html=tmp_path / "a")
    assert found.diagnoses == {}
    assert found.undefined["diagnoses"] == "the model knows only benign and malignant"
    assert all(case.diagnosis_probabilities is None for case in found.worst)


def test_metadata_of_the_needed_columns_alone_suffice(ham_copy: Path, tmp_path: Path) -> None:
    config = rewrite(ham_copy, lambda row: {name: row[name] for name in NEEDED})
    found = evaluate(write_model(tmp_path / "model.onnx", ham_copy), "test", config)
    assert {each.group for each in found.subgroups} == {"skin tone (proxy)"}
    assert "metadata say nothing of it" in found.undefined["subgroups.age"]


def test_an_unknown_split_is_refused_with_a_suggestion(model: Path) -> None:
    with pytest.raises(ConfigError, match="unknown split 'tset'; did you mean 'test'"):
        evaluate(model, "tset")


def test_data_that_were_split_otherwise_are_refused(model: Path, config: Config, tmp_path: Path) -> None:
    other = replace(config, data=replace(config.data, split_seed=7, processed=str(tmp_path / "other")))
    with pytest.raises(DataError, match="test lesions could have been trained on"):
        evaluate(model, "test", other)


@pytest.mark.slow
def test_the_same_image_gets_the_same_probabilities_from_eval_predict_and_serve(
    trained: Trained, run_copy: Run, cli: Cli
) -> None:
    evaluate(run_copy.model, "test")
    with run_copy.answers("test").open() as file:
        evaluated = {row["image_id"]: float(row["malignant"]) for row in csv.DictReader(file)}
    rows = open_dataset(trained.config.data).members["test"]
    outcome = cli("predict", *(row.path for row in rows), "--model", run_copy.model, "--json")
    predicted = [each["class_probabilities"]["malignant"] for each in json.loads(outcome.out)["predictions"]]
    settings = ServeConfig()
    with TestClient(create_app(Slot(Serving.load(run_copy.model, settings)), settings)) as client:
        served = [
            client.post("/predict", files={"file": row.path.read_bytes()}).json()["class_probabilities"]["malignant"]
            for row in rows
        ]
    assert len(rows) >= 10
    assert [evaluated[row.image_id] for row in rows] == predicted == served


@pytest.mark.slow
def test_the_validation_figures_of_export_and_eval_are_the_same(trained: Trained, run_copy: Run) -> None:
    report = evaluate(run_copy.model, "val")
    for name, value in trained.report.validation.items():
        assert report.metrics[name].value == pytest.approx(value)
