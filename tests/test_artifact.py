"""The deployed file: sealed against every accident, and still plain ONNX."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from lesion.artifact import Artifact
from lesion.errors import ArtifactError, NotFoundError
from lesion.manifest import FORMAT, Manifest
from tests.conftest import GOLDEN

CONTENT = (GOLDEN / "tiny.onnx").read_bytes()
TINY = Artifact.unpack(CONTENT)


def refusal(content: bytes) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        Artifact.unpack(content, "model.onnx")
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
    assert error.hint.startswith("use a model.onnx that `lesion train` or `lesion export` wrote")


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        (FORMAT + 6, "upgrade lesion, or export the model again with this version"),
        (1, "export the model again with this version"),
    ],
    ids=["newer", "older"],
)
def test_another_format_is_named_with_the_one_we_read(found: int, hint: str) -> None:
    error = refusal(Artifact.pack(TINY.graph, replace(TINY.manifest, format=found))[1])
    assert error.message == f"the model file has format {found}, this lesion reads format {FORMAT}"
    assert error.hint == hint


def test_a_sealed_file_with_an_impossible_threshold_is_refused() -> None:
    assert "threshold 2" in refusal(Artifact.pack(TINY.graph, replace(TINY.manifest, threshold=2.0))[1]).message


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
    assert caught.value.message == f"cannot read {tmp_path}: it is a folder, not a regular file"
    assert caught.value.exit_code == 65


def test_a_refused_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("text")
    with pytest.raises(ArtifactError, match=r"text\.onnx is not a lesion model"):
        Artifact.read(path)
