"""docs/deploy.md against the files and commands that it names."""

import re

import pytest

from tests.conftest import REPO
from tests.deploy.conftest import DEPLOY
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


@pytest.mark.slow
def test_the_sdk_knows_every_command_of_the_page() -> None:
    lines = re.findall(r"gcloud [^|)\n]*", SHELL)
    assert len(lines) >= 15
    assert [said for line in lines for said in complaints(line.replace("'", "").replace("$(", ""))] == []
