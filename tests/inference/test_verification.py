from dataclasses import replace
from pathlib import Path

import pytest

from lesion.artifact import Artifact
from lesion.errors import ArtifactError, CheckFailed, OutOfMemory
from lesion.inference import trial
from lesion.inference.verification import verify
from lesion.manifest import FORMAT, SelfTest
from tests.conftest import GOLDEN
from tests.inference.hostile import fill_memory, loop_for_ever

TINY = Artifact.read(GOLDEN / "tiny.onnx")


def write(path: Path, artifact: Artifact) -> Path:
    path.write_bytes(Artifact.pack(artifact.graph, artifact.manifest)[1])
    return path


def test_a_file_says_what_it_is(tiny: Path) -> None:
    report = verify(tiny)
    assert (report.name, report.sha256, report.bytes) == (TINY.identity, TINY.digest, tiny.stat().st_size)
    assert (report.format, report.onnx, report.operators) == (FORMAT, 8, {"": 17})
    assert (report.size, report.threshold, report.temperature) == (32, 0.4, 1.5)
    assert report.labels == list(TINY.manifest.taxonomy.labels)
    assert (report.signature, report.quantization) == ("none", None)
    assert 0 <= report.self_test_difference <= report.self_test_tolerance
    assert report.provenance == TINY.manifest.provenance


def test_another_answer_than_at_export_fails(tiny: Path) -> None:
    wrong = tuple(reversed(TINY.manifest.self_test.probabilities))
    write(tiny, replace(TINY, manifest=replace(TINY.manifest, self_test=SelfTest(wrong, 1e-3))))
    with pytest.raises(CheckFailed, match="failed its self-test"):
        verify(tiny)


def test_an_overwritten_weight_fails_even_when_it_is_sealed_anew(tiny: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(TINY.graph)
    raw = bytearray(model.graph.initializer[0].raw_data)
    raw[3] ^= 0x40  # of the exponent
    model.graph.initializer[0].raw_data = bytes(raw)
    write(tiny, replace(TINY, graph=model.SerializeToString()))
    with pytest.raises(CheckFailed, match="failed its self-test"):
        verify(tiny)


def test_operators_from_elsewhere_are_refused_before_anything_runs(tiny: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(TINY.graph)
    model.opset_import.append(onnx.helper.make_opsetid("evil.example", 1))
    write(tiny, replace(TINY, graph=model.SerializeToString()))
    with pytest.raises(ArtifactError, match=r"operators of evil\.example"):
        verify(tiny)


def test_operators_from_the_future_are_refused(tiny: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(TINY.graph)
    model.opset_import[0].version = 999
    write(tiny, replace(TINY, graph=model.SerializeToString()))
    with pytest.raises(ArtifactError, match="cannot run the model"):
        verify(tiny)


def test_a_model_without_an_answer_is_given_up(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LIMIT_S", 2.0)
    with pytest.raises(CheckFailed, match="did not end its self-test within 2 s"):
        verify(write(tiny, loop_for_ever()))


def test_a_model_that_needs_more_memory_than_there_is_fails(tiny: Path) -> None:
    with pytest.raises(OutOfMemory, match="the memory does not suffice for the model"):
        verify(write(tiny, fill_memory(2**47)))
