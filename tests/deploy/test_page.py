"""docs/deploy.md against the files and commands that it names."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.deploy.conftest import DEPLOY, fake_gcloud
from tests.deploy.sdk import complaints

PAGE = (REPO / "docs/deploy.md").read_text("utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")


def test_every_file_of_deploy_is_told_of_and_there() -> None:
    told = set(re.findall(r"`([\w./]+\.\w+)`", PAGE.split("**None of it")[0]))
    there = {path.name for path in DEPLOY.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert told == there


def test_our_own_commands_exist() -> None:
    for words in re.findall(r"python (deploy/\w+\.py) (\w+)?", SHELL):
        assert (REPO / words[0]).is_file()
    for part in re.findall(r"foundation\.py (\w+)", SHELL):
        assert part in ("base", "edge", "alerts")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's commands")
def test_the_tokens_are_made_as_the_page_says(tmp_path: Path) -> None:
    block = next(each for each in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "--new-token" in each)
    fake = '#!/bin/sh\nfor word; do case $word in --data-file=*) cat "${word#*=}" > "$4" ;; esac; done\n'
    path = fake_gcloud(tmp_path, fake, "sed", "tr", "rm", "cat")
    (tmp_path / "bin" / "lesion").write_text(f'#!/bin/sh\nexec {sys.executable} -m lesion "$@"\n', "utf-8")
    (tmp_path / "bin" / "lesion").chmod(0o755)
    (tmp_path / "deploy").symlink_to(DEPLOY)
    # GNU cat reads stdin for "-", as gcloud does.
    done = subprocess.run(["/bin/sh", "-eu"], input=block, text=True, cwd=tmp_path, env={"PATH": path})
    assert done.returncode == 0
    token, (line,) = (tmp_path / "lesion-operator").read_text(), (tmp_path / "lesion-tokens").read_text().splitlines()
    assert line == f"{hashlib.sha256(token.encode()).hexdigest()} operator"
    assert (tmp_path / "lesion-collector").read_text() == (DEPLOY / "collector.yaml").read_text()
    assert not (tmp_path / "operator.txt").exists()


@pytest.mark.slow
def test_the_sdk_knows_every_command_of_the_page() -> None:
    lines = re.findall(r"gcloud [^|)\n]*", SHELL)
    assert len(lines) >= 15
    assert [said for line in lines for said in complaints(line.replace("'", "").replace("$(", ""))] == []
