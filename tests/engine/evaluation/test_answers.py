import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lesion.artifact import Artifact
from lesion.data.index import Row
from lesion.engine.evaluation.answers import ask, judge
from lesion.errors import CheckFailed
from lesion.inference.predictor import Answers, Predictor
from lesion.progress import Silent
from tests.conftest import GOLDEN
from tests.engine.evaluation.conftest import answer


def test_arrays_agree_with_the_records() -> None:
    answers = answer([0.1, 0.38, 0.42, 0.9], [False, True, False, True], ["a", "b", "b", "c"])
    assert answers.malignant == pytest.approx([0.1, 0.38, 0.42, 0.9])
    assert answers.predicted.tolist() == [False, False, True, True]
    assert answers.referred.tolist() == [False, True, True, False]
    assert answers.truth.tolist() == [False, True, False, True]
    assert answers.lesions == ["a", "b", "b", "c"]
    z = 1.5 * np.log(0.9 / 0.1)  # the temperature is 1.5
    assert answers.uncalibrated[3] == pytest.approx(1 / (1 + np.exp(-z)))


def test_some_of_them_stay_together() -> None:
    answers = answer([0.1, 0.2, 0.3], [False, True, False])
    some = answers.take([2, 1])
    assert [row.image_id for row in some.rows] == ["i2", "i1"]
    assert some.malignant == pytest.approx([0.3, 0.2])
    assert some.uncalibrated == pytest.approx(answers.uncalibrated[[2, 1]])


def test_the_table_gives_every_probability_to_the_bit() -> None:
    predictor = Predictor(Artifact.read(GOLDEN / "tiny.onnx"))
    rows = [Row(f"i{i}", f"L{i}", "nv", Path("x.jpg")) for i in range(20)]
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    answers = ask(predictor, rows, pixels, Silent())
    table = list(csv.DictReader(io.StringIO(answers.to_csv())))
    assert [each["image_id"] for each in table] == [row.image_id for row in rows]
    assert [float(each["malignant"]) for each in table] == answers.malignant.tolist()
    assert [float(each["mel"]) for each in table] == answers.probabilities[:, 4].tolist()
    assert [float(each["brightness"]) for each in table] == answers.raw.checks[:, 0].tolist()
    assert table[0]["decision"] == answers.predictions[0].decision
    assert table[0]["flags"] == " ".join(answers.predictions[0].flags)


def test_no_id_in_the_table_is_a_formula_and_ids_come_back() -> None:
    predictor = Predictor(Artifact.read(GOLDEN / "tiny.onnx"))
    ids = ["=cmd|' /C calc'!A0", "+1", "@SUM(1)", "-2", "'x", "plain", " =1"]
    rows = [Row(name, name, "nv", Path("x.jpg")) for name in ids]
    answers = ask(predictor, rows, np.zeros((len(ids), 32, 32, 3), np.uint8), Silent())
    table = list(csv.DictReader(io.StringIO(answers.to_csv())))
    for each, name in zip(table, ids, strict=True):
        assert each["lesion_id"] == each["image_id"]
        assert not each["image_id"].lstrip(" ").startswith(("=", "+", "-", "@"))
        assert each["image_id"].removeprefix("'") == name


def test_an_answer_that_is_no_number_is_refused_by_name() -> None:
    predictor = Predictor(Artifact.read(GOLDEN / "tiny2.onnx"))
    rows = [Row(f"i{i}", f"L{i}", "nv", Path("x.jpg")) for i in range(3)]
    logits = np.array([[0, 1], [0, np.nan], [1, 0]], np.float32)
    with pytest.raises(CheckFailed, match=r"^i1: .* has no answer: a probability is not a number"):
        judge(predictor, rows, [Answers(logits, np.full((3, 1), 0.5, np.float32), None)], 1.0)


def test_a_measure_that_is_no_number_refers() -> None:
    predictor = Predictor(Artifact.read(GOLDEN / "tiny2.onnx"))
    row = Row("i0", "L0", "nv", Path("x.jpg"))
    sure = Answers(np.array([[9, 0]], np.float32), np.array([[np.nan]], np.float32), None)
    assert judge(predictor, [row], [sure], 1.0).referred.tolist() == [True]
    assert judge(predictor, [row], [replace(sure, checks=np.array([[0.5]]))], 1.0).referred.tolist() == [False]
