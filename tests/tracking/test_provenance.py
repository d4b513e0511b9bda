import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lesion.tracking.provenance import describe_environment, describe_source


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_and_whether_files_were_changed(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    assert describe_source(tmp_path) == {}  # no commit yet
    (tmp_path / "file").write_text("a")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "untracked").write_text("b")
    clean = describe_source(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"])
    assert clean["dirty"] == "no"
    (tmp_path / "file").write_text("c")
    assert describe_source(tmp_path) == {**clean, "dirty": "yes"}


def test_without_a_checkout_or_without_git_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_source(tmp_path) == {}
    monkeypatch.setenv("PATH", os.devnull)
    assert describe_source(Path(__file__).parent) == {}


def test_the_environment_names_no_machine() -> None:
    found = describe_environment()
    assert found["python"] == platform.python_version()
    assert int(found["cores"]) >= 1
    assert platform.node() not in found.values()
