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
from lesion.inference.decide import decide, find_flags, is_certain, to_malignant, to_probabilities
from lesion.manifest import Check, Conformal, Manifest
from lesion.records import Prediction
from lesion.taxonomy import Taxonomy
from tests.conftest import GOLDEN

SEVEN = Artifact.unpack((GOLDEN / "tiny.onnx").read_bytes()).manifest
TWO = Artifact.unpack((GOLDEN / "tiny2.onnx").read_bytes()).manifest
USUAL = [0.5]  # within the limits of the tiny models' only check
LOGITS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.floats(-1e6, 1e6, width=32),
)


def answer(malignant: float, measure: float = 0.5, **changes: Any) -> Prediction:
    """What the model of two classes says of a malignant probability."""
    return decide(np.array([1 - malignant, malignant]), [measure], "a.png", replace(TWO, **changes), "tiny@0")


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
    ("malignant", "expected"),
    [(0.5, "malignant"), (np.nextafter(0.5, 0), "benign"), (0.75, "malignant"), (0.25, "benign")],
    ids=["at", "just below", "above", "below"],
)
def test_a_probability_at_the_threshold_counts_as_malignant(malignant: float, expected: str) -> None:
    record = answer(malignant, threshold=0.5)
    assert record.prediction == expected
    assert record.confidence == record.class_probabilities[expected]
    assert record.class_probabilities["malignant"] == malignant


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, "malignant"), (1.0, "benign")])
def test_the_threshold_alone_decides(threshold: float, expected: str) -> None:
    assert answer(0.3, threshold=threshold).prediction == expected


def test_confidence_below_one_half_is_told_as_it_is() -> None:
    record = answer(0.2, threshold=0.1)
    assert (record.prediction, record.confidence) == ("malignant", 0.2)


# Sets: threshold 0.4, "malignant" from 0.35 on, "benign" up to 0.45.
@pytest.mark.parametrize(
    ("malignant", "prediction", "certain"),
    [
        (0.349, "benign", True),
        (0.35, "benign", False),
        (0.399, "benign", False),
        (0.4, "malignant", False),
        (0.45, "malignant", False),
        (0.451, "malignant", True),
    ],
)
def test_what_both_sets_hold_is_referred_and_keeps_its_plain_answer(
    malignant: float, prediction: str, certain: bool
) -> None:
    record = answer(malignant)
    assert record.prediction == prediction
    assert (record.decision, record.flags) == ((prediction, ()) if certain else ("refer", ("uncertain",)))


@pytest.mark.parametrize(
    ("malignant", "certain"),
    [(0.2, True), (0.3, True), (0.31, False), (0.45, False), (0.55, False), (0.7, True), (0.8, True)],
)
def test_what_neither_set_holds_is_referred_too(malignant: float, certain: bool) -> None:
    sets = Conformal(0.9, malignant_from=0.7, benign_to=0.3)
    assert is_certain([malignant], replace(TWO, conformal=sets, threshold=0.5)).tolist() == [certain]


@pytest.mark.parametrize(
    ("malignant", "certain"),
    [(0.1, True), (0.2, False), (0.3, False), (0.45, False), (0.5, True)],
    ids=["benign", "may be either", "alarmed, may be either", "alarmed, at the limit", "malignant"],
)
def test_an_answer_that_its_set_contradicts_is_not_certain(malignant: float, certain: bool) -> None:
    sets = Conformal(0.9, malignant_from=0.15, benign_to=0.45)
    assert is_certain([malignant], replace(TWO, conformal=sets, threshold=0.25)).tolist() == [certain]


def test_nothing_is_certain_when_both_classes_are_in_every_set() -> None:
    p = np.linspace(0, 1, 11)
    assert not is_certain(p, replace(TWO, conformal=Conformal(0.99, 0, 1))).any()


@pytest.mark.parametrize(
    ("malignant", "measure", "flags"),
    [
        (0.1, 0.5, ()),
        (0.1, 0.01, ("too_dark",)),
        (0.9, 0.99, ("too_bright",)),
        (0.4, 0.99, ("uncertain", "too_bright")),
        (0.1, float("nan"), ("too_dark",)),
        (0.1, float("inf"), ("too_bright",)),
    ],
)
def test_an_unusual_image_is_referred_and_says_why(malignant: float, measure: float, flags: tuple[str, ...]) -> None:
    record, plain = answer(malignant, measure), answer(malignant)
    assert record.flags == flags
    assert record.decision == ("refer" if flags else record.prediction)
    assert (record.prediction, record.confidence) == (plain.prediction, plain.confidence)


def test_each_check_has_its_column() -> None:
    checks = (Check("a", 0, None, "low a", ""), Check("b", None, 1, "", "high b"))
    measures = [[0, 1], [-1, 1], [0, 2], [-1, 2], [np.nan, np.nan]]
    both = ("low a", "high b")
    assert find_flags(measures, replace(TWO, checks=checks)) == [(), both[:1], both[1:], both, both]


def test_measures_that_are_not_one_for_each_check_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        find_flags([[0.5, 0.5]], TWO)


@settings(deadline=None)
@given(arrays(np.float64, 7, elements=st.floats(0, 1)).filter(lambda row: row.sum() > 0))
def test_an_answer_is_consistent_with_itself(row: npt.NDArray[np.float64]) -> None:
    record = decide(row / row.sum(), USUAL, "a.png", SEVEN, "tiny@0")
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
    assert decide(row, USUAL, "a.png", SEVEN, "tiny@0").class_probabilities == {"benign": 0, "malignant": 1}


def test_an_answer_names_its_source_its_model_and_every_diagnosis() -> None:
    row = to_probabilities(np.arange(7.0)[None], 1)[0]
    record = decide(row, USUAL, "a.png", SEVEN, "tiny@0")
    assert (record.source, record.model) == ("a.png", "tiny@0")
    assert record.diagnosis_probabilities == dict(zip(SEVEN.taxonomy.labels, row.tolist(), strict=True))
    assert all(type(value) is float for value in record.diagnosis_probabilities.values())


def test_a_model_of_two_classes_names_no_diagnoses() -> None:
    assert answer(0.5).diagnosis_probabilities is None


@pytest.mark.parametrize(
    "logits", [[np.nan] * 7, [np.inf] * 7, [-np.inf] * 7, [0, 0, 0, np.inf, 0, 0, 0]], ids=["nan", "inf", "-inf", "one"]
)
@pytest.mark.parametrize("manifest", [SEVEN, replace(SEVEN, threshold=1.0)], ids=["low", "high"])
def test_what_is_not_a_number_is_never_called_benign(logits: list[Any], manifest: Manifest) -> None:
    row = to_probabilities([logits], 1)[0]
    with pytest.raises(CheckFailed) as caught:
        decide(row, USUAL, "a.png", manifest, "tiny@0")
    assert caught.value.message == "tiny@0 has no answer: a probability is not a number"
    assert (caught.value.exit_code, caught.value.http_status) == (1, 500)
