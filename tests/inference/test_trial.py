"""A model is tried where it can do no harm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lesion.artifact import Artifact
from lesion.errors import ArtifactError, CheckFailed, OutOfMemory
from lesion.inference import trial
from lesion.inference.trial import try_out, usable_memory
from tests.conftest import PATIENCE_S
from tests.inference.hostile import fill_memory, loop_for_ever, refuse_to_start
from tests.serve.changing import fail_self_test
from tests.serve.conftest import TINY


def test_a_good_model_passes() -> None:
    tiny = Artifact.read(TINY)
    assert 0 <= try_out(tiny, 1) <= tiny.manifest.self_test.tolerance


def test_a_model_that_fails_its_self_test_says_so() -> None:
    with pytest.raises(CheckFailed, match="failed its self-test: a probability differs by") as caught:
        try_out(Artifact.unpack(fail_self_test()), 1)
    assert caught.value.hint


def test_the_error_names_the_file_that_was_given_signed_or_not() -> None:
    wrong = Artifact.unpack(fail_self_test())
    signed = Artifact.pack(wrong.graph, wrong.manifest, lambda _: bytes(64))[0]
    for artifact in (wrong, signed):
        with pytest.raises(CheckFailed, match=f"^{artifact.identity} failed its self-test"):
            try_out(artifact, 1)


def test_a_graph_that_cannot_run_says_so() -> None:
    tiny = Artifact.read(TINY)
    broken, _ = Artifact.pack(tiny.graph.replace(b"MatMul", b"MatMix"), tiny.manifest)
    with pytest.raises(ArtifactError, match="cannot run the model"):
        try_out(broken, 1)


def test_a_model_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LIMIT_S", 2.0)
    with pytest.raises(CheckFailed, match="did not end its self-test within 2 s"):
        try_out(loop_for_ever(), 1)


def test_a_model_that_never_starts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LIMIT_S", 2.0)
    with pytest.raises(CheckFailed, match="did not end its self-test within 2 s"):
        try_out(refuse_to_start(), 1)


def test_a_model_that_needs_more_memory_than_any_machine_has_says_so() -> None:
    with pytest.raises(OutOfMemory, match="the memory does not suffice for the model") as caught:
        try_out(fill_memory(2**47), 1)
    assert "smaller batch or model" in caught.value.hint


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits no memory")
def test_a_model_gets_no_more_memory_than_there_is() -> None:
    # As on a machine of 300 MB: the tensor of 800 MB fits into this one.
    program = f"import {trial.__name__} as trial; trial.usable_memory = lambda: 300_000_000; trial.main()"
    model = fill_memory(800_000_000)
    _, content = Artifact.pack(model.graph, model.manifest)
    words = [sys.executable, "-c", program, "1"]
    done = subprocess.run(words, input=content, capture_output=True, timeout=PATIENCE_S)
    assert b'"error": "OutOfMemory"' in done.stdout
    assert (done.returncode, done.stderr) == (OutOfMemory.exit_code, b"")


def test_the_memory_is_that_of_the_container(tmp_path: Path) -> None:
    machine = usable_memory(tmp_path / "none")
    if not hasattr(os, "sysconf"):
        assert machine is None
        return
    assert machine is not None
    assert machine > 2**28
    for text, expected in (("max\n", machine), ("123456789\n", 123456789), (f"{2**62}\n", machine)):
        (tmp_path / "memory.max").write_text(text)
        assert usable_memory(tmp_path / "memory.max") == expected


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_a_crash_is_the_models_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    with pytest.raises(CheckFailed, match="crashed the process that tried it, with signal 11"):
        try_out(Artifact.read(TINY), 1)
