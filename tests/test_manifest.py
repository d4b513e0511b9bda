"""What a model file says about itself: complete, in range, or refused."""

import csv
import io
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
# What str.isprintable() is true for: no control characters, half surrogate pairs or separators but the space.
PRINTABLE = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")
TEXTS = st.text(PRINTABLE, min_size=1, max_size=200)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
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
@given(st.text(PRINTABLE, max_size=200), NUMBERS, SHARES, st.dictionaries(st.text(), JSON, max_size=4), st.data())
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
        Conformal(*(data.draw(SHARES) for _ in range(3)), data.draw(st.none() | SHARES), data.draw(st.none() | SHARES)),
        tuple(data.draw(CHECKS)),
        tuple(data.draw(st.lists(REFERENCE, max_size=2))),
        SelfTest((share := data.draw(SHARES), 1 - share, *([0.0] * (len(taxonomy.labels) - 2))), 1e-3),
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
TEXT_PLACES = (
    "name",
    "taxonomy.labels.0",
    "checks.0.name",
    "checks.0.low_flag",
    "checks.0.high_flag",
    "reference.0.name",
)


def nest(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels - 1):
        data = {"inner": data}
    return data


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
    ("conformal.benign_coverage", 1.1),
    ("conformal.malignant_coverage", "0.9"),
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
    ("self_test.probabilities", [0.0] * 7),
    ("self_test.probabilities", [1.5, -0.5, 0, 0, 0, 0, 0]),
    ("self_test.tolerance", "0.001"),
    ("self_test.tolerance", -1),
    ("self_test.tolerance", 0.051),
    ("self_test.tolerance", 1e300),
    *((place, text) for place in TEXT_PLACES for text in ("a\ud800", "a\nb", "\x1b[31m", "\u202e", "n" * 201)),
    ("taxonomy.labels", [*map(str, range(257))]),
    ("checks", [{"name": str(i), "low": None, "high": None, "low_flag": "", "high_flag": ""} for i in range(65)]),
    ("reference", [{"name": "malignant", "edges": [], "shares": [1.0]}] * 66),
    ("reference.0", {"name": "malignant", "edges": [*range(1025)], "shares": [0.0] * 1026}),
    ("provenance", {"text": "\ud800"}),
    ("provenance", {"\udc00": 1}),
    ("provenance", {"number": 2**63 + 1}),
    ("provenance", nest(17)),
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
        "Conformal(coverage=0.9, malignant_from=0.35, benign_to=0.45, malignant_coverage=None, benign_coverage=None); "
        "a positive temperature and shares in [0, 1] "
        "expected"
    )


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "", "null", "[]", "7", '"text"', "{", "{}", '{"format": 2}', "\ufffd"],
    ids=["deep list", "deep dict", "empty", "null", "list", "7", "text", "open", "no entry", "one entry", "no text"],
)
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    assert refusal(text).message.startswith("the model file's manifest is not understood: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 4000, "9" * 5000])
def test_provenance_holds_finite_numbers(number: str) -> None:
    text = TEXT.replace('"split": "none"', f'"split": {number}')
    assert text != TEXT
    assert refusal(text).message.startswith("the model file's manifest is not understood: ")


@pytest.mark.parametrize("entry", ['"threshold": 0.0', '"name": "tiny"', '"auroc": 1'])
def test_a_key_that_occurs_twice_is_refused(entry: str) -> None:
    key = entry.partition(":")[0]
    assert TEXT.count(f"{key}: ") >= 1
    assert "a key occurs twice" in refusal(TEXT.replace(f"{key}: ", f"{entry}, {key}: ", 1)).message


def test_the_size_is_limited_before_anything_is_read() -> None:
    assert "at most 1048576 expected" in refusal(TEXT + " " * 2**20).message


def test_what_is_at_the_limits_is_accepted() -> None:
    data = json.loads(TEXT)
    data["self_test"]["tolerance"] = 0.05
    data["name"] = data["checks"][0]["low_flag"] = "é" * 200
    data["provenance"] = {**nest(16), "number": 2**63, "text": "a\nb"}
    assert Manifest.loads(json.dumps(data)).provenance == data["provenance"]


def test_a_refusal_of_any_size_has_a_message_of_some_lines() -> None:
    error = refusal(json.dumps({**json.loads(TEXT), "name": ["x" * 1000] * 900}))
    assert len(error.message) < 400


def alter(data: Any, draw: Any) -> None:
    """Put something else in one place of `data`."""
    keys = list(data) if isinstance(data, dict) else list(range(len(data)))
    if not keys:
        return
    key = draw(st.sampled_from(keys))
    if isinstance(data[key], dict | list) and draw(st.booleans()):
        alter(data[key], draw)
        return
    anything = st.text(st.characters()) | st.floats() | st.integers() | JSON | st.just("\ud800")
    match draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            data[key] = draw(anything)
        case "remove":
            del data[key]
        case "add" if isinstance(data, dict):
            data[draw(st.text())] = draw(anything)
        case "add":
            data.append(draw(anything))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_manifest_of_anything_is_refused_or_can_be_written_anywhere(data: st.DataObject) -> None:
    changed = json.loads(TEXT)
    for _ in range(data.draw(st.integers(1, 3))):
        alter(changed, data.draw)
    _check_loads(json.dumps(changed))


@settings(deadline=None, max_examples=300)
@given(
    st.integers(0, len(TEXT)), st.integers(0, 30), st.text(max_size=10) | st.sampled_from(["\ud800", "1e999", "NaN"])
)
def test_a_damaged_manifest_is_refused_or_can_be_written_anywhere(start: int, length: int, more: str) -> None:
    _check_loads(TEXT[:start] + more + TEXT[start + length :])


def _check_loads(text: str) -> None:
    try:
        manifest = Manifest.loads(text)
    except ArtifactError as error:
        error.message.encode()
        return
    again = manifest.dumps()
    assert Manifest.loads(again) == manifest
    json.dumps(json.loads(again), allow_nan=False, ensure_ascii=False).encode()
    csv.writer(io.StringIO()).writerow([manifest.name, *manifest.taxonomy.labels])


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
