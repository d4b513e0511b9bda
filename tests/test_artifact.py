"""The deployed file: sealed against every accident, strict about its manifest, and still plain ONNX."""

import copy
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.artifact import Artifact
from lesion.errors import ArtifactError, NotFoundError
from lesion.manifest import FORMAT, Manifest, SelfTest
from lesion.preprocess import PreprocessSpec
from lesion.taxonomy import Taxonomy
from tests.conftest import GOLDEN

CONTENT = (GOLDEN / "tiny.onnx").read_bytes()
TINY = Artifact.unpack(CONTENT)


def manifest_data() -> dict[str, Any]:
    return dict(json.loads(TINY.manifest.dumps()))


def refusal(content: bytes) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        Artifact.unpack(content, "model.onnx")
    return caught.value


def manifest_refusal(text: str) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        Manifest.loads(text)
    return caught.value


def test_what_is_packed_is_unpacked() -> None:
    artifact, content = Artifact.pack(TINY.graph, TINY.manifest)
    assert Artifact.unpack(content) == artifact == TINY
    assert content == CONTENT


def test_the_digest_is_the_one_of_the_whole_file() -> None:
    assert TINY.digest == hashlib.sha256(CONTENT).hexdigest()
    assert TINY.identity == f"tiny@{TINY.digest[:12]}"
    assert CONTENT.startswith(TINY.graph)


def test_a_file_is_read_from_its_path(tiny: Path) -> None:
    assert Artifact.read(tiny) == TINY


def test_facts_are_added_to_the_provenance() -> None:
    manifest = TINY.with_provenance(parity=1e-6, split="other")
    assert manifest.provenance == {**TINY.manifest.provenance, "parity": 1e-6, "split": "other"}
    assert replace(manifest, provenance=TINY.manifest.provenance) == TINY.manifest


NUMBERS = st.floats(1e-6, 1e6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.text(), NUMBERS, st.floats(0, 1), st.dictionaries(st.text(), JSON, max_size=4), st.data())
def test_a_manifest_survives_its_json(
    name: str, temperature: float, threshold: float, provenance: dict[str, Any], data: st.DataObject
) -> None:
    taxonomy = Taxonomy.of(data.draw(st.sampled_from(["diagnosis", "malignancy"])), ("mel", "bcc"))
    answers = tuple(data.draw(st.floats(0, 1)) for _ in taxonomy.labels)
    spec = PreprocessSpec(64, "bicubic")
    manifest = Manifest(name, taxonomy, spec, temperature, threshold, SelfTest(answers, 1e-3), provenance)
    assert Manifest.loads(manifest.dumps()) == manifest
    assert Artifact.unpack(Artifact.pack(b"", manifest)[1]).manifest == manifest


def test_a_figure_that_is_no_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        TINY.with_provenance(auroc=float("nan")).dumps()


def test_no_flipped_bit_goes_unnoticed() -> None:
    anywhere = random.Random(0).sample(range(len(CONTENT)), 300)
    for position in sorted({*anywhere, *range(len(CONTENT) - 200, len(CONTENT))}):
        for bit in range(8):
            mutant = bytearray(CONTENT)
            mutant[position] ^= 1 << bit
            error = refusal(bytes(mutant))
            assert error.message.startswith("model.onnx ")
            assert error.hint
            assert error.exit_code == 65


def test_a_changed_weight_is_called_damage() -> None:
    mutant = bytearray(CONTENT)
    mutant[len(TINY.graph) // 2] ^= 1
    error = refusal(bytes(mutant))
    assert error.message == "model.onnx is damaged: its content does not match its seal"
    assert error.hint == "copy or export the model again"
    assert (error.exit_code, error.http_status) == (65, 500)


def test_a_file_cut_off_anywhere_is_refused() -> None:
    for length in range(len(CONTENT)):
        assert refusal(CONTENT[:length]).message.startswith("model.onnx is ")


def test_a_file_without_its_beginning_is_refused() -> None:
    for start in range(1, len(CONTENT), 7):
        refusal(CONTENT[start:])


@pytest.mark.parametrize(
    "more",
    [b"\0", b"\n", b"\r\n", b"\x08\x08", b"\x12\x00", b"\x72\x00", b"\xff" * 20, CONTENT, CONTENT[-80:], TINY.graph],
    ids=["zero", "newline", "crlf", "a field", "a text", "an entry", "noise", "itself", "its end", "its graph"],
)
def test_nothing_may_follow_the_seal(more: bytes) -> None:
    refusal(CONTENT + more)


@pytest.mark.parametrize(
    "content",
    [b"", b"dear diary\n", b"r" * 100, bytes(100), b"\xff" * 100, b"PK\x03\x04" + bytes(50), TINY.graph],
    ids=["empty", "text", "letters", "zeros", "ones", "zip", "graph"],
)
def test_what_is_no_model_is_called_no_model(content: bytes) -> None:
    error = refusal(content)
    assert "is not a lesion model" in error.message
    assert error.hint


def test_a_plain_onnx_file_is_told_where_models_come_from() -> None:
    pytest.importorskip("onnx")
    from tests.golden.make import make_graph

    error = refusal(make_graph())
    assert error.message == "model.onnx is not a lesion model: its manifest and seal are missing"
    assert error.hint == "use a model.onnx that `lesion train` or `lesion export` wrote"


def test_a_newer_format_is_named_with_the_one_we_read() -> None:
    _, content = Artifact.pack(TINY.graph, replace(TINY.manifest, format=FORMAT + 6))
    error = refusal(content)
    assert error.message == f"the model file has format {FORMAT + 6}, this lesion reads up to {FORMAT}"
    assert error.hint == "upgrade lesion, or export the model again with this version"


def test_an_entry_of_a_later_version_is_ignored() -> None:
    data = {**manifest_data(), "colour": "blue"}
    assert Manifest.loads(json.dumps(data)) == TINY.manifest


PLACES = [
    *("format", "name", "preprocess", "provenance", "self_test", "taxonomy", "temperature", "threshold"),
    *("preprocess.size", "preprocess.filter", "taxonomy.labels", "taxonomy.malignant"),
    *("self_test.probabilities", "self_test.tolerance"),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_missing_entry_is_named(place: str) -> None:
    data = manifest_data()
    *parents, key = place.split(".")
    inner = data
    for parent in parents:
        inner = inner[parent]
    del inner[key]
    error = manifest_refusal(json.dumps(data))
    assert error.message == f"the model file's manifest is not understood: KeyError('{key}')"


WRONG: list[tuple[str, Any]] = [
    *((place, None) for place in PLACES),
    *((place, []) for place in PLACES if place != "taxonomy.malignant"),
    *((place, "nonsense") for place in PLACES if place != "name"),
    ("name", 7),
    ("format", "1"),
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
    data = copy.deepcopy(manifest_data())
    *parents, key = place.split(".")
    inner = data
    for parent in parents:
        inner = inner[parent]
    inner[key] = value
    assert "manifest" in manifest_refusal(json.dumps(data)).message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["temperature", "threshold", "tolerance", "format", "size"])
def test_numbers_that_are_none_are_refused(place: str, number: str) -> None:
    text = TINY.manifest.dumps()
    start = text.index(f'"{place}": ') + len(place) + 4
    end = min(at for at in (text.find(",", start), text.find("}", start)) if at > 0)
    error = manifest_refusal(text[:start] + number + text[end:])
    assert "manifest" in error.message or "has format inf" in error.message


def test_the_limits_of_a_manifest_are_told() -> None:
    error = manifest_refusal(json.dumps({**manifest_data(), "temperature": -1, "threshold": 2}))
    assert error.message == (
        "the manifest has temperature -1.0 and threshold 2.0; a positive number and one in [0, 1] expected"
    )


def test_a_sealed_file_with_an_impossible_threshold_is_refused() -> None:
    assert "threshold 2" in refusal(Artifact.pack(TINY.graph, replace(TINY.manifest, threshold=2.0))[1]).message


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "", "null", "[]", "7", '"text"', "{", "{}", '{"format": 1}', "\ufffd"],
    ids=["deep list", "deep dict", "empty", "null", "list", "7", "text", "open", "no entry", "one entry", "no text"],
)
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    assert manifest_refusal(text).message.startswith("the model file's manifest is not understood: ")


def swap_entry(raw: bytes) -> bytes:
    key, value = b"\n\x08location", b"\x12\x05w.bin"
    assert raw.count(key + value) == 1
    return raw.replace(key + value, value + key)


@pytest.mark.parametrize("arrange", [bytes, swap_entry], ids=["usual order", "value before key"])
def test_a_graph_with_weights_in_another_file_is_refused_even_when_sealed(arrange: Callable[[bytes], bytes]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(TINY.graph)
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="w.bin")
    graph = arrange(model.SerializeToString())
    assert onnx.load_from_string(graph) == model
    error = refusal(Artifact.pack(graph, TINY.manifest)[1])
    assert error.message == "model.onnx refers to external data; a lesion model is one self-contained file"


def test_every_onnx_reader_accepts_the_file(tiny: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny)
    onnx.checker.check_model(model)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found["lesion.manifest"] == TINY.manifest.dumps()
    body = CONTENT[: CONTENT.rindex(b"\n\x0blesion.seal") - 2]
    assert found["lesion.seal"] == hashlib.sha256(body).hexdigest()


def test_onnxruntime_runs_the_whole_file_and_shows_its_manifest(tiny: Path) -> None:
    session = ort.InferenceSession(tiny, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert Manifest.loads(found["lesion.manifest"]) == TINY.manifest
    assert len(found["lesion.seal"]) == 64
    assert session.run(None, {"pixels": np.zeros((2, 32, 32, 3), np.uint8)})[0].shape == (2, 7)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        Artifact.read(tmp_path / "none.onnx")
    assert caught.value.message == f"no such model file: {tmp_path / 'none.onnx'}"
    assert "lesion train" in caught.value.hint
    assert (caught.value.exit_code, caught.value.http_status) == (66, 404)


def test_a_directory_is_no_model_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        Artifact.read(tmp_path)
    assert caught.value.message == f"cannot read {tmp_path}: Is a directory"
    assert caught.value.exit_code == 65


def test_a_refused_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("text")
    with pytest.raises(ArtifactError, match=r"text\.onnx is not a lesion model"):
        Artifact.read(path)
