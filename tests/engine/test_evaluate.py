import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lesion.config.load import load_config
from lesion.data.split import open_dataset
from lesion.engine.evaluate import evaluate
from lesion.errors import ConfigError, DataError
from lesion.inference.predictor import Predictor
from lesion.run import Run
from lesion.serve.app import create_app
from tests.conftest import Cli
from tests.engine.conftest import Trained

pytestmark = pytest.mark.slow


def test_the_same_image_gets_the_same_probabilities_from_eval_predict_and_serve(
    trained: Trained, run_copy: Run, cli: Cli
) -> None:
    evaluate(run_copy.model, "test")
    with run_copy.answers("test").open() as file:
        evaluated = {row["image_id"]: float(row["malignant"]) for row in csv.DictReader(file)}
    rows = open_dataset(trained.config.data).members["test"]
    outcome = cli("predict", *(row.path for row in rows), "--model", run_copy.model, "--json")
    predicted = [each["class_probabilities"]["malignant"] for each in json.loads(outcome.out)["predictions"]]
    with TestClient(create_app(Predictor.load(run_copy.model))) as client:
        served = [
            client.post("/predict", files={"file": row.path.read_bytes()}).json()["class_probabilities"]["malignant"]
            for row in rows
        ]
    assert len(rows) >= 10
    assert [evaluated[row.image_id] for row in rows] == predicted == served


def test_the_report_counts_the_split_that_it_measured(trained: Trained, run_copy: Run) -> None:
    report = evaluate(run_copy.model, "test")
    rows = open_dataset(trained.config.data).members["test"]
    assert report.images == len(rows) == sum(report.confusion.values())
    assert report.lesions == len({row.lesion_id for row in rows})
    assert report.malignant == report.confusion["tp"] + report.confusion["fn"]
    assert json.loads(run_copy.report("test").read_text())["schema"] == 1
    auroc = report.metrics["auroc"]
    assert auroc.value is not None
    assert auroc.low is not None
    assert auroc.high is not None
    assert auroc.low <= auroc.value <= auroc.high


def test_data_that_were_split_otherwise_are_refused(trained: Trained, tmp_path: Path) -> None:
    config = load_config([trained.run.config])
    other = replace(config, data=replace(config.data, split_seed=7, processed=str(tmp_path / "other")))
    with pytest.raises(DataError, match="test lesions could have been trained on"):
        evaluate(trained.run.model, "test", other)


def test_an_unknown_split_is_refused_with_a_suggestion(trained: Trained) -> None:
    with pytest.raises(ConfigError, match="unknown split 'tset'; did you mean 'test'"):
        evaluate(trained.run.model, "tset")


def test_the_validation_figures_of_export_and_eval_are_the_same(trained: Trained, run_copy: Run) -> None:
    report = evaluate(run_copy.model, "val")
    for name, value in trained.report.validation.items():
        assert report.metrics[name].value == pytest.approx(value)
