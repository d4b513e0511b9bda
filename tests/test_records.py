"""The one JSON shape of every answer."""

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from lesion.records import DataReport, Estimate, Prediction, to_dict, to_json

SEVEN = {"akiec": 0.1, "bcc": 0.1, "bkl": 0.2, "df": 0.1, "mel": 0.1, "nv": 0.3, "vasc": 0.1}
TWO = {"benign": 0.7, "malignant": 0.3}
ANSWER = Prediction("a.jpg", "benign", 0.7, "refer", ("uncertain", "blurred"), TWO, SEVEN, "tiny@0123456789ab")


def test_a_prediction_has_exactly_the_documented_keys() -> None:
    assert list(to_dict(ANSWER)) == [
        "source",
        "prediction",
        "confidence",
        "decision",
        "flags",
        "class_probabilities",
        "diagnosis_probabilities",
        "model",
    ]
    assert list(to_dict(ANSWER)["class_probabilities"]) == ["benign", "malignant"]


def test_without_diagnoses_their_key_is_left_out() -> None:
    data = to_dict(replace(ANSWER, diagnosis_probabilities=None))
    assert list(data) == ["source", "prediction", "confidence", "decision", "flags", "class_probabilities", "model"]


def test_predictions_are_one_document_with_a_schema() -> None:
    document = json.loads(to_json({"predictions": [to_dict(ANSWER)]}))
    assert list(document) == ["schema", "predictions"]
    assert document["schema"] == 1
    assert document["predictions"] == [
        {
            "source": "a.jpg",
            "prediction": "benign",
            "confidence": 0.7,
            "decision": "refer",
            "flags": ["uncertain", "blurred"],
            "class_probabilities": {"benign": 0.7, "malignant": 0.3},
            "diagnosis_probabilities": SEVEN,
            "model": "tiny@0123456789ab",
        }
    ]


def test_a_record_is_a_document_too() -> None:
    report = DataReport("raw", "done", 3, 2, "abc", {"train": {"images": 3, "lesions": 2, "nv": 3}})
    document = json.loads(to_json(report, note="hello"))
    assert document == {"schema": 1, **to_dict(report), "note": "hello"}
    assert next(iter(document)) == "schema"


def test_a_figure_that_cannot_be_given_is_null() -> None:
    figures = {"metrics": {"auroc": to_dict(Estimate(None, None, None))}}
    assert json.loads(to_json(figures))["metrics"] == {"auroc": {"value": None, "low": None, "high": None}}


def test_numbers_come_back_to_the_bit() -> None:
    number = 0.1 + 0.2
    assert json.loads(to_json(replace(ANSWER, confidence=number)))["confidence"] == number


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_what_is_not_json_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(replace(ANSWER, confidence=number))
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"predictions": [to_dict(replace(ANSWER, class_probabilities={"benign": number}))]})


def test_text_of_any_kind_stays_one_json_string() -> None:
    name = 'a"b\n<script>\u2028é\udcff.jpg'
    text = to_json(replace(ANSWER, source=name))
    assert text.isascii()
    assert json.loads(text)["source"] == name


@pytest.mark.parametrize("value", [{"a": 1}, None, "text", Prediction, 7], ids=str)
def test_only_a_record_becomes_a_dict(value: Any) -> None:
    with pytest.raises(TypeError, match="not a record"):
        to_dict(value)


def test_a_record_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        ANSWER.confidence = 1.0  # type: ignore[misc]
