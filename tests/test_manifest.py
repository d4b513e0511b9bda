"""What a model file says about itself: complete, in range, or refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.artifact import Artifact
from lesion.errors import ArtifactError
from lesion.manifest import Check, Conformal, Manifest, Reference, SelfTest
from lesion.preprocess import PreprocessSpec
from lesion.taxonomy import Taxonomy
from tests.conftest import GOLDEN

TINY = Artifact.unpack((GOLDEN / "tiny.onnx").read_bytes()).manifest
TEXT = TINY.dumps()


def find(data: Any, place: str) -> tuple[Any, Any]:
    """The list or dict that holds the entry called `place`, and its key in it."""
    *parents, key = (int(word) if word.isdigit() else word for word in place.split("."))
    for parent in parents:
        data = data[parent]
    return data, key


def refusal(text: str) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        Manifest.loads(text)
    assert caught.value.exit_code == 65
    return caught.value


NUMBERS = st.floats(1e-6, 1e6)
SHARES = st.floats(0, 1)
TEXTS = st.text(min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CHECKS = st.lists(
    st.builds(
        lambda name, low, high, flags: Check(name, low, high, *flags),
        *(TEXTS, st.none() | st.floats(-1e9, 0), st.none() | st.floats(0, 1e9), st.tuples(TEXTS, TEXTS)),
    ),
    max_size=3,
    unique_by=lambda check: check.name,
)
REFERENCE = st.builds(
    lambda name, edges, share: Reference(name, tuple(sorted(edges)), (share,) * (len(edges) + 1)),
    *(TEXTS, st.sets(st.floats(-1e9, 1e9), max_size=4), SHARES),
)


@settings(deadline=None)
@given(st.text(), NUMBERS, SHARES, st.dictionaries(st.text(), JSON, max_size=4), st.data())
def test_a_manifest_survives_its_json(
    name: str, temperature: float, threshold: float, provenance: dict[str, Any], data: st.DataObject
) -> None:
    taxonomy = Taxonomy.of(data.draw(st.sampled_from(["diagnosis", "malignancy"])), ("mel", "bcc"))
    manifest = Manifest(
        name,
        taxonomy,
        PreprocessSpec(64, "bicubic"),
        temperature,
        threshold,
        Conformal(*(data.draw(SHARES) for _ in range(3))),
        tuple(data.draw(CHECKS)),
        tuple(data.draw(st.lists(REFERENCE, max_size=2))),
        SelfTest(tuple(data.draw(SHARES) for _ in taxonomy.labels), 1e-3),
        provenance,
    )
    assert Manifest.loads(manifest.dumps()) == manifest
    assert Artifact.unpack(Artifact.pack(b"", manifest)[1]).manifest == manifest


def test_a_figure_that_is_no_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(TINY, provenance={"auroc": float("nan")}).dumps()


def test_an_entry_of_a_later_version_is_ignored() -> None:
    data = json.loads(TEXT)
    for inner in (data, data["conformal"], data["checks"][0], data["reference"][0], data["self_test"]):
        inner["colour"] = "blue"
    assert Manifest.loads(json.dumps(data)) == TINY


PLACES = [
    *("format", "name", "preprocess", "provenance", "self_test", "taxonomy", "temperature", "threshold"),
    *("preprocess.size", "preprocess.filter", "taxonomy.labels", "taxonomy.malignant"),
    *("self_test.probabilities", "self_test.tolerance"),
    *("conformal", "conformal.coverage", "conformal.malignant_from", "conformal.benign_to"),
    *("checks", *(f"checks.0.{key}" for key in ("name", "low", "high", "low_flag", "high_flag"))),
    *("reference", "reference.1.name", "reference.1.edges", "reference.1.shares"),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_missing_entry_is_named(place: str) -> None:
    data = json.loads(TEXT)
    inner, key = find(data, place)
    del inner[key]
    assert refusal(json.dumps(data)).message == f"the model file's manifest is not understood: KeyError('{key}')"


MAY_BE_NULL = ("checks.0.low", "checks.0.high")
MAY_BE_EMPTY = ("taxonomy.malignant", "checks", "reference")
WRONG: list[tuple[str, Any]] = [
    *((place, None) for place in PLACES if place not in MAY_BE_NULL),
    *((place, []) for place in PLACES if place not in MAY_BE_EMPTY),
    *((place, "nonsense") for place in PLACES if not place.endswith(("name", "flag"))),
    ("name", 7),
    ("format", "2"),
    ("format", {}),
    ("temperature", "1.5"),
    ("temperature", True),
    ("temperature", [1.5]),
    ("temperature", 0),
    ("temperature", -1.5),
    ("temperature", 10**400),
    ("threshold", "0.4"),
    ("threshold", 2),
    ("threshold", -0.1),
    ("threshold", True),
    ("taxonomy.labels", "abcdefg"),
    ("taxonomy.labels", [1, 2, 3, 4, 5, 6, 7]),
    ("taxonomy.labels", ["mel"] * 7),
    ("taxonomy.labels", ["benign", "malignant"]),
    ("taxonomy.malignant", []),
    ("taxonomy.malignant", ["melanoma"]),
    ("taxonomy.malignant", list(Taxonomy.of("diagnosis").labels)),
    ("taxonomy.malignant", "mel"),
    ("conformal", [0.9, 0.3, 0.5]),
    ("conformal.coverage", 1.1),
    ("conformal.malignant_from", -0.1),
    ("conformal.malignant_from", "0.3"),
    ("conformal.benign_to", True),
    ("checks", {"brightness": 1}),
    ("checks", ["brightness"]),
    ("checks", [None]),
    ("checks.0.name", 7),
    ("checks.0.low", "0.1"),
    ("checks.0.low", 0.99),
    ("checks.0.high", False),
    ("checks.0.low_flag", ""),
    ("checks.0.high_flag", ""),
    ("checks.0.high_flag", 3),
    ("reference.0.edges", [0.5, 0.4]),
    ("reference.0.edges", [0.4, 0.4]),
    ("reference.0.edges", [0.4]),
    ("reference.0.edges", 0.4),
    ("reference.0.shares", [0.5, 0.5, "0"]),
    ("reference.0.shares", [0.5, 0.6, -0.1]),
    ("reference.0.shares", [0.25] * 4),
    ("self_test.probabilities", ["a"] * 7),
    ("self_test.probabilities", [0.5] * 6),
    ("self_test.probabilities", [None] * 7),
    ("self_test.tolerance", "0.001"),
    ("preprocess", [32, "bilinear"]),
    ("preprocess.size", 32.5),
    ("preprocess.size", -1),
    ("preprocess.filter", "nearest"),
    ("provenance", [["a", 1]]),
]


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda value: str(value)[:30])
def test_an_entry_of_the_wrong_kind_is_refused(place: str, value: Any) -> None:
    data = json.loads(TEXT)
    inner, key = find(data, place)
    inner[key] = value
    assert "manifest" in refusal(json.dumps(data)).message


def test_two_checks_of_one_name_are_refused() -> None:
    twice = replace(TINY, checks=TINY.checks * 2)
    assert "checks do not fit together" in refusal(twice.dumps()).message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "place", ["temperature", "threshold", "tolerance", "format", "size", "coverage", "benign_to", "low"]
)
def test_numbers_that_are_none_are_refused(place: str, number: str) -> None:
    start = TEXT.index(f'"{place}": ') + len(place) + 4
    end = min(at for at in (TEXT.find(",", start), TEXT.find("}", start)) if at > 0)
    error = refusal(TEXT[:start] + number + TEXT[end:])
    assert "manifest" in error.message or "has format " in error.message


def test_the_limits_of_a_manifest_are_told() -> None:
    error = refusal(json.dumps({**json.loads(TEXT), "temperature": -1, "threshold": 2}))
    assert error.message == (
        "the manifest has temperature -1.0, threshold 2.0 and "
        "Conformal(coverage=0.9, malignant_from=0.35, benign_to=0.45); a positive temperature and shares in [0, 1] "
        "expected"
    )


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "", "null", "[]", "7", '"text"', "{", "{}", '{"format": 2}', "\ufffd"],
    ids=["deep list", "deep dict", "empty", "null", "list", "7", "text", "open", "no entry", "one entry", "no text"],
)
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    assert refusal(text).message.startswith("the model file's manifest is not understood: ")


@pytest.mark.parametrize(
    ("check", "value", "flag"),
    [
        (Check("size", 1, 2, "small", "large"), 0.9, "small"),
        (Check("size", 1, 2, "small", "large"), 1, None),
        (Check("size", 1, 2, "small", "large"), 2, None),
        (Check("size", 1, 2, "small", "large"), 2.1, "large"),
        (Check("size", 1, 2, "small", "large"), float("nan"), "small"),
        (Check("size", None, 2, "", "large"), -1e30, None),
        (Check("size", None, 2, "", "large"), float("nan"), "large"),
        (Check("size", None, 2, "", "large"), float("inf"), "large"),
        (Check("size", 1, None, "small", ""), float("inf"), None),
        (Check("size", None, None, "small", "large"), 7, None),
    ],
    ids=str,
)
def test_a_value_outside_the_limits_is_flagged(check: Check, value: float, flag: str | None) -> None:
    assert check.flag(value) == flag
