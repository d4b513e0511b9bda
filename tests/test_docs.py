import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

README = (REPO / "README.md").read_text("utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("page", ["config.md", "cli.md"])
def test_the_generated_pages_are_current(page: str) -> None:
    pages = runpy.run_path(str(REPO / "scripts" / "document"))["PAGES"]
    assert (REPO / "docs" / page).read_text("utf-8") == pages[page](), "run `make docs`"


@pytest.mark.parametrize(
    "page", [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_command_is_in_the_readme() -> None:
    for command in ("data synth", "data prepare", "train", "eval", "export", "predict", "serve"):
        assert f"lesion {command} " in README or f"lesion {command}\n" in README, command


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_written(tmp_path: Path) -> None:
    commands = [line[2:] for block in CONSOLE for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 8
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            shlex.split(command), cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    python = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert python
    model = next((tmp_path / "runs").glob("*/model.onnx"))
    image = next((tmp_path / "data" / "ham10000" / "HAM10000_images").iterdir())
    code = python[1].replace("model.onnx", model.as_posix()).replace("lesion.jpg", image.as_posix())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.fullmatch(r"(benign|malignant) 0\.\d+\n", done.stdout), done.stderr
