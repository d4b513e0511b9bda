"""Logits to an answer."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lesion.artifact import Artifact
from lesion.errors import CheckFailed
from lesion.inference.decide import decide, to_malignant, to_probabilities
from lesion.taxonomy import Taxonomy
from tests.conftest import GOLDEN

SEVEN = Artifact.unpack((GOLDEN / "tiny.onnx").read_bytes()).manifest
TWO = Artifact.unpack((GOLDEN / "tiny2.onnx").read_bytes()).manifest
LOGITS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.floats(-1e6, 1e6, width=32),
)


@settings(deadline=None)
@given(LOGITS, st.floats(1e-3, 1e3))
def test_every_row_adds_up_to_one(logits: npt.NDArray[np.float32], temperature: float) -> None:
    probabilities = to_probabilities(logits, temperature)
    assert probabilities.shape == logits.shape
    assert probabilities.dtype == np.float64
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-12


@settings(deadline=None)
@given(LOGITS)
def test_a_larger_logit_never_gets_the_smaller_probability(logits: npt.NDArray[np.float32]) -> None:
    ordered = np.sort(logits, axis=1)
    assert (np.diff(to_probabilities(ordered, 1.5), axis=1) >= 0).all()


def test_known_logits_get_known_probabilities() -> None:
    logits = np.log([[1.0, 2.0, 5.0], [10.0, 10.0, 20.0]])
    assert to_probabilities(logits, 1) == pytest.approx(np.array([[0.125, 0.25, 0.625], [0.25, 0.25, 0.5]]))


@pytest.mark.parametrize("size", [1e4, -1e4, 1e38], ids=str)
def test_huge_logits_do_not_overflow(size: float) -> None:
    probabilities = to_probabilities(np.array([[size, 0, -size], [size, size, size]]), 1)
    assert probabilities[0] == pytest.approx([1, 0, 0] if size > 0 else [0, 0, 1])
    assert probabilities[1] == pytest.approx([1 / 3] * 3)


def test_temperature_divides_the_logits() -> None:
    logits = np.array([[3.0, 1.0, -2.0]])
    assert np.array_equal(to_probabilities(logits, 2), to_probabilities(logits / 2, 1))
    sharp, plain, soft = (to_probabilities(logits, temperature).max() for temperature in (0.5, 1, 4))
    assert sharp > plain > soft > 1 / 3


def test_the_malignant_probability_is_the_sum_of_the_malignant_diagnoses() -> None:
    rows = np.array([[0.1, 0.2, 0.05, 0.05, 0.3, 0.2, 0.1], [0, 0, 0, 0, 0, 1, 0]])
    assert to_malignant(rows, SEVEN) == pytest.approx([0.6, 0])
    only_melanoma = replace(SEVEN, taxonomy=Taxonomy.of("diagnosis", ["mel"]))
    assert to_malignant(rows, only_melanoma) == pytest.approx([0.3, 0])
    assert to_malignant([[0.3, 0.7]], TWO) == pytest.approx([0.7])


@pytest.mark.parametrize(
    ("malignant", "answer"),
    [(0.5, "malignant"), (np.nextafter(0.5, 0), "benign"), (0.75, "malignant"), (0.25, "benign")],
    ids=["at", "just below", "above", "below"],
)
def test_a_probability_at_the_threshold_counts_as_malignant(malignant: float, answer: str) -> None:
    record = decide(np.array([1 - malignant, malignant]), "a.png", replace(TWO, threshold=0.5), "tiny@0")
    assert record.prediction == answer
    assert record.confidence == record.class_probabilities[answer]
    assert record.class_probabilities["malignant"] == malignant


@pytest.mark.parametrize(("threshold", "answer"), [(0.0, "malignant"), (1.0, "benign")])
def test_the_threshold_alone_decides(threshold: float, answer: str) -> None:
    record = decide(np.array([0.7, 0.3]), "a.png", replace(TWO, threshold=threshold), "tiny@0")
    assert record.prediction == answer


def test_confidence_below_one_half_is_told_as_it_is() -> None:
    record = decide(np.array([0.8, 0.2]), "a.png", replace(TWO, threshold=0.1), "tiny@0")
    assert (record.prediction, record.confidence) == ("malignant", 0.2)


@settings(deadline=None)
@given(arrays(np.float64, 7, elements=st.floats(0, 1)).filter(lambda row: row.sum() > 0))
def test_an_answer_is_consistent_with_itself(row: npt.NDArray[np.float64]) -> None:
    record = decide(row / row.sum(), "a.png", SEVEN, "tiny@0")
    malignant = record.class_probabilities["malignant"]
    assert 0 <= malignant <= 1
    assert record.class_probabilities["benign"] + malignant == pytest.approx(1, abs=1e-15)
    assert record.prediction == ("malignant" if malignant >= SEVEN.threshold else "benign")
    assert record.confidence == record.class_probabilities[record.prediction]
    assert record.diagnosis_probabilities is not None
    assert sum(record.diagnosis_probabilities[dx] for dx in ("akiec", "bcc", "mel")) == pytest.approx(malignant)


def test_a_sum_that_rounds_above_one_stays_a_probability() -> None:
    row = np.array([0.5, 0.25, 0, 0, np.nextafter(0.25, 1) + 2**-52, 0, 0])
    assert to_malignant(row[None], SEVEN)[0] > 1
    assert decide(row, "a.png", SEVEN, "tiny@0").class_probabilities == {"benign": 0, "malignant": 1}


def test_an_answer_names_its_source_its_model_and_every_diagnosis() -> None:
    row = to_probabilities(np.arange(7.0)[None], 1)[0]
    record = decide(row, "a.png", SEVEN, "tiny@0")
    assert (record.source, record.model) == ("a.png", "tiny@0")
    assert record.diagnosis_probabilities == dict(zip(SEVEN.taxonomy.labels, row.tolist(), strict=True))
    assert all(type(value) is float for value in record.diagnosis_probabilities.values())


def test_a_model_of_two_classes_names_no_diagnoses() -> None:
    assert decide(np.array([0.5, 0.5]), "a.png", TWO, "tiny@0").diagnosis_probabilities is None


@pytest.mark.parametrize(
    "logits", [[np.nan] * 7, [np.inf] * 7, [-np.inf] * 7, [0, 0, 0, np.inf, 0, 0, 0]], ids=["nan", "inf", "-inf", "one"]
)
@pytest.mark.parametrize("manifest", [SEVEN, replace(SEVEN, threshold=1.0)], ids=["low", "high"])
def test_what_is_not_a_number_is_never_called_benign(logits: list[Any], manifest: Manifest) -> None:
    row = to_probabilities([logits], 1)[0]
    with pytest.raises(CheckFailed) as caught:
        decide(row, "a.png", manifest, "tiny@0")
    assert caught.value.message == "tiny@0 has no answer for a.png: a probability is not a number"
    assert (caught.value.exit_code, caught.value.http_status) == (1, 500)
