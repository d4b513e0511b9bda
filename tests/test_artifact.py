"""The deployed file: sealed against every accident, and still plain ONNX."""

import base64
import errno
import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lesion import artifact as artifacts
from lesion.artifact import _TENSORS, Artifact, _entry, _require_self_contained
from lesion.errors import ArtifactError, NotFoundError, OutOfMemory
from lesion.manifest import FORMAT, Manifest
from lesion.protobuf import write_bytes
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


# --- weights in another file ------------------------------------------------------------------------------------------


EXTERNAL = "refers to external data"


def find_external(message: Any) -> bool:
    """Whether onnx's own parser found a tensor of another file anywhere in `message`."""
    if message.DESCRIPTOR.name == "TensorProto" and (message.external_data or message.data_location):
        return True
    parts = (value if field.is_repeated else [value] for field, value in message.ListFields() if field.message_type)
    return any(find_external(each) for part in parts for each in part)


def make_external(onnx: Any) -> Any:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[3, 7], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    return tensor


def hide(onnx: Any, place: str) -> bytes:
    """The tiny graph with a tensor of another file at `place`."""
    model, tensor = onnx.load_from_string(TINY.graph), make_external(onnx)
    sparse = onnx.SparseTensorProto(values=tensor)
    node = onnx.NodeProto(op_type="Constant")
    match place:
        case "initializer":
            model.graph.initializer.append(tensor)
        case "flag alone":
            model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
        case "address alone":
            model.graph.initializer[0].external_data.add(key="location", value="w.bin")
        case "values":
            model.graph.sparse_initializer.append(sparse)
        case "indices":
            model.graph.sparse_initializer.append(onnx.SparseTensorProto(indices=tensor))
        case "training":
            model.training_info.add().algorithm.initializer.append(tensor)
        case "training's start":
            model.training_info.add().initialization.initializer.append(tensor)
        case "default of a function":
            model.functions.add().attribute_proto.add(name="value", t=tensor)
        case "function":
            model.functions.add().node.append(node)
            model.functions[0].node[0].attribute.add(name="value", t=tensor)
        case "attribute":
            node.attribute.add(name="value", t=tensor)
        case "attribute's list":
            node.attribute.add(name="value").tensors.append(tensor)
        case "sparse attribute":
            node.attribute.add(name="value", sparse_tensor=sparse)
        case "sparse attribute's list":
            node.attribute.add(name="value").sparse_tensors.append(sparse)
        case "subgraph":
            node.attribute.add(name="body").g.initializer.append(tensor)
        case "list of subgraphs":
            node.attribute.add(name="body").graphs.add().node.add().attribute.add(name="value", t=tensor)
    if node.attribute:
        model.graph.node.append(node)
    return model.SerializeToString()  # type: ignore[no-any-return]


PLACES = [
    *("initializer", "flag alone", "address alone", "values", "indices", "training", "training's start"),
    *("default of a function", "function", "attribute", "attribute's list", "sparse attribute"),
    *("sparse attribute's list", "subgraph", "list of subgraphs"),
]


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_another_file_are_refused_wherever_they_are_named(place: str) -> None:
    onnx = pytest.importorskip("onnx")
    graph = hide(onnx, place)
    assert find_external(onnx.load_from_string(graph))
    error = refusal(Artifact.pack(graph, TINY.manifest)[1])
    assert error.message == f"model.onnx {EXTERNAL}; a lesion model is one self-contained file"


def respell(message: bytes) -> bytes:
    """The same message in the longest spelling of its numbers that C++ accepts."""
    tensor = b"\xaa\x80\x80\x80\x00"  # field 5, bytes
    return tensor + bytes([len(message) & 0x7F | 0x80, len(message) >> 7 | 0x80, 0x80, 0x80, 0]) + message


SPELLINGS = {
    "usual": b"\x6a\x11\n\x08location\x12\x05w.bin\x70\x01",
    "value before key": b"\x6a\x11\x12\x05w.bin\n\x08location\x70\x01",
    "longer length of the key": b"\x6a\x12\n\x88\x00location\x12\x05w.bin\x70\x01",
    "longer tags": b"\xea\x00\x12\x8a\x00\x08location\x12\x05w.bin\xf0\x80\x00\x81\x00",
    "two keys": b"\x6a\x16\n\x03abc\n\x08location\x12\x05w.bin\x70\x01",
    "flag set back and set": b"\x70\x00\x70\x01",
    "flag of 33 bits": b"\x70\x81\x80\x80\x80\x10",
    "flag of ten bytes": b"\x70\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=list(SPELLINGS))
def test_no_spelling_of_external_data_is_overlooked(spelling: bytes) -> None:
    onnx = pytest.importorskip("onnx")
    graph = TINY.graph + write_bytes(7, respell(b"\x0a\x01\x03\x10\x01" + spelling))
    assert find_external(onnx.load_from_string(graph))
    with pytest.raises(ValueError, match=EXTERNAL):
        _reword(graph)
    merged = onnx.load_from_string(graph).SerializeToString()
    assert EXTERNAL in refusal(Artifact.pack(merged, TINY.manifest)[1]).message


def _reword(graph: bytes) -> None:
    """The check of the graph alone: a file of several graph fields is refused before."""
    try:
        _require_self_contained(graph, "model.onnx")
    except ArtifactError as error:
        raise ValueError(error.message) from error


def test_an_honest_input_may_be_called_location() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(TINY.graph)
    model.graph.node.add(op_type="Identity", input=["location"], output=["external_data"])
    model.graph.node[-1].attribute.add(name="location", s=b"location")
    model.graph.initializer[0].data_location = onnx.TensorProto.DEFAULT
    content = Artifact.pack(model.SerializeToString(), TINY.manifest)[1]
    assert Artifact.unpack(content).graph == model.SerializeToString()


@st.composite
def messages(draw: st.DrawFn, kind: str = "Model", depth: int = 5) -> bytes:
    """Messages that hold tensors, in spellings that some writers of protobuf have and others do not."""

    def number(value: int, longest: int) -> bytes:
        out = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
        out += [0] * draw(st.integers(0, max(0, longest - len(out))))
        return bytes([*(each | 0x80 for each in out[:-1]), out[-1]])

    content = b""
    fields = _TENSORS[kind]
    for _ in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from([*fields, *fields, 1, 8]))
        inner = fields.get(field)
        wire = draw(st.sampled_from([0, 2, 2, 2, 2, 1, 5])) if field != 14 else draw(st.sampled_from([0, 0, 0, 2]))
        content += number(field << 3 | wire, 5)
        if wire == 0:
            content += number(draw(st.sampled_from([0, 1, 2, 2**32, 2**32 + 1])), 10)
        elif wire == 2:
            value = draw(messages(inner, depth - 1)) if inner and depth else draw(st.binary(max_size=4))
            content += number(len(value), 5) + value
        else:
            content += bytes(8 if wire == 1 else 4)
    return content


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(messages())
def test_whatever_onnx_sees_in_another_file_is_refused(graph: bytes) -> None:
    _cross_check(graph)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PLACES), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4))
def test_no_damage_hides_external_data(place: str, changes: list[tuple[int, int]]) -> None:
    graph = bytearray(hide(pytest.importorskip("onnx"), place))
    for position, value in changes:
        graph[position % len(graph)] = value
    _cross_check(bytes(graph))


def _cross_check(graph: bytes) -> None:
    onnx = pytest.importorskip("onnx")
    from google.protobuf.message import DecodeError

    try:
        is_external = find_external(onnx.load_from_string(graph))
    except DecodeError:
        is_external = False  # no reader gets as far as the tensors
    try:
        _require_self_contained(graph, "model.onnx")
    except ArtifactError:
        return
    assert not is_external


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (b"\x3a\x02\x0b\x0c", "unexpected wire type 3"),
        (write_bytes(7, b"\x0a\x00" * 2**21), "too many fields"),
        (b"\x3a\x03\x0a\x05a", "past the end"),
    ],
    ids=["a group", "a million nodes", "cut off"],
)
def test_a_graph_that_readers_may_understand_differently_is_refused(graph: bytes, why: str) -> None:
    assert why in refusal(Artifact.pack(graph, TINY.manifest)[1]).message


# --- what there is besides the graph ----------------------------------------------------------------------------------


MANIFEST = _entry(b"lesion.manifest", TINY.manifest.dumps().encode())
SIGNATURE = _entry(b"lesion.signature", base64.b64encode(bytes(64)))


def seal(body: bytes) -> bytes:
    return body + _entry(b"lesion.seal", hashlib.sha256(body).hexdigest().encode())


def test_the_parts_are_what_a_file_is_made_of() -> None:
    assert seal(TINY.graph + MANIFEST) == CONTENT
    assert Artifact.unpack(seal(TINY.graph + MANIFEST + SIGNATURE)).signature == bytes(64)


OTHER_GRAPH, PADDING = write_bytes(7, b"\x12\x05other"), write_bytes(1000, bytes(1000))
EXTRA = {
    "a graph behind the signature": MANIFEST + SIGNATURE + OTHER_GRAPH,
    "a graph behind the manifest": MANIFEST + OTHER_GRAPH,
    "a graph before the signature": MANIFEST + OTHER_GRAPH + SIGNATURE,
    "a graph beside the graph": OTHER_GRAPH + MANIFEST,
    "padding behind the signature": MANIFEST + SIGNATURE + PADDING,
    "padding behind the manifest": MANIFEST + PADDING,
    "a number": MANIFEST + b"\x08\x08",
    "metadata": MANIFEST + _entry(b"author", b"somebody"),
    "two manifests": MANIFEST * 2,
    "two manifests apart": MANIFEST + PADDING + MANIFEST,
    "two signatures": MANIFEST + SIGNATURE * 2,
    "a signature first": SIGNATURE + MANIFEST,
    "a seal within": seal(TINY.graph + MANIFEST)[len(TINY.graph) :],
    "a sealed file within": seal(TINY.graph + MANIFEST)[len(TINY.graph) :] + MANIFEST,
    "a manifest with another key": write_bytes(
        14, write_bytes(1, b"author") + write_bytes(1, b"lesion.manifest") + write_bytes(2, b"{}")
    )
    + MANIFEST,
    "a manifest, value first": write_bytes(
        14, write_bytes(2, TINY.manifest.dumps().encode()) + write_bytes(1, b"lesion.manifest")
    ),
    "a manifest and more": write_bytes(
        14, write_bytes(1, b"lesion.manifest") + write_bytes(2, TINY.manifest.dumps().encode()) + b"\x18\x00"
    ),
    "a manifest in another spelling": b"\xf2\x00" + MANIFEST[1:],
    "a signature in another spelling": MANIFEST + b"\xf2\x00" + SIGNATURE[1:],
    "a signature of other bits": MANIFEST + _entry(b"lesion.signature", base64.b64encode(bytes(64))[:-3] + b"B=="),
}


@pytest.mark.parametrize("extra", EXTRA.values(), ids=list(EXTRA))
def test_nothing_else_may_be_in_a_file(extra: bytes) -> None:
    error = refusal(seal(TINY.graph + extra))
    assert error.message.startswith("model.onnx ")
    assert error.hint


def test_other_metadata_of_the_graph_stay() -> None:
    graph = TINY.graph + _entry(b"author", b"somebody") + _entry(b"lesion", b"nevus")
    assert Artifact.unpack(Artifact.pack(graph, TINY.manifest)[1]).graph == graph


def test_a_manifest_that_is_not_utf_8_is_refused() -> None:
    manifest = _entry(b"lesion.manifest", TINY.manifest.dumps().encode("utf-16"))
    assert "not UTF-8" in refusal(seal(TINY.graph + manifest)).message


@pytest.mark.parametrize("opset", [b"\x42\x02\x0b\x0c", b"\x42\x05\x12\x03"], ids=["a group", "cut off"])
def test_sets_of_operators_that_are_not_understood_are_refused(opset: bytes) -> None:
    with pytest.raises(ArtifactError, match="sets of operators are not understood"):
        replace(TINY, graph=TINY.graph + opset).read_versions()


def test_sets_of_operators_of_other_types_are_nothing() -> None:
    number_as_text, text_as_number = b"\x42\x05\x12\x03abc", b"\x42\x06\x08\xff\xff\xff\xff\x0f"
    assert replace(TINY, graph=number_as_text + text_as_number).read_versions() == (0, {"": 0})


# --- the file ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="it is a pipe, not a regular file"):
        Artifact.read(tmp_path / "model.onnx")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="has no devices")  # noqa: PTH110
def test_a_device_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match="it is a device, not a regular file"):
        Artifact.read(tmp_path / "model.onnx")


def test_a_large_file_that_is_no_model_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(3 * 2**30)
    monkeypatch.setattr(artifacts, "read_regular", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ArtifactError, match="is not a lesion model"):
        Artifact.read(tmp_path / "model.onnx")


def test_a_file_that_is_too_large_for_onnx_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(3 * 2**30)
        file.seek(0, os.SEEK_END)
        file.write(CONTENT)
    with pytest.raises(ArtifactError, match="it has more than 2048 MiB"):
        Artifact.read(tmp_path / "model.onnx")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOENT])
def test_a_file_that_cannot_be_read_now_is_told_from_one_that_is_no_model(
    code: int, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(artifacts, "open_regular", fail)
    with pytest.raises((ArtifactError, NotFoundError)) as caught:
        Artifact.read(tiny)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == code
    monkeypatch.undo()
    tiny.write_bytes(CONTENT[:-1])
    with pytest.raises(ArtifactError) as caught:
        Artifact.read(tiny)
    assert not isinstance(caught.value.__cause__, OSError)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ArtifactError, match="cannot read"):
        Artifact.read(Path("a\0b"))


def test_a_file_that_the_memory_does_not_suffice_for_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(artifacts, "read_regular", fail)
    with pytest.raises(OutOfMemory, match="the memory does not suffice to read"):
        Artifact.read(tiny)
