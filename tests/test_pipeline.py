import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

pytestmark = pytest.mark.slow
STAGES = ["download", "audit", "prepare", "train", "eval", "export"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's pipeline on a small synthetic dataset, run once."""
    home = tmp_path_factory.mktemp("pipeline") / "checkout"
    home.mkdir()
    for name in (".dvc", "configs"):
        shutil.copytree(REPO / name, home / name, ignore=shutil.ignore_patterns("tmp", "cache", "*.local"))
    for name in (".dvcignore", ".gitignore", "dvc.yaml"):
        shutil.copy(REPO / name, home)
    empty = "python -c \"open('data/ham10000/HAM10000_images/SYN_0000003.jpg', 'w').close()\""
    edit(home / "dvc.yaml", "--lesions 240 --width 200 --height 150", f"--lesions 45 --width 64 --height 48 && {empty}")
    edit(home / "configs" / "pipeline.yaml", "epochs: 6", "epochs: 1")
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)
    assert stages_run(dvc(home, "repro")) == STAGES
    return home


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def dvc(home: Path, *words: str) -> str:
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=home,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def stages_run(output: str) -> list[str]:
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def test_a_second_run_runs_nothing(home: Path) -> None:
    assert stages_run(dvc(home, "repro")) == []


def test_the_figures_are_declared(home: Path) -> None:
    shown = json.loads(dvc(home, "metrics", "show", "--json"))
    (figures,) = shown[""]["data"].values()
    assert len(figures["data"]) == 10
    assert {"auroc", "sensitivity", "specificity", "referred"} <= figures["data"].keys()


def test_errors_in_the_data_go_into_quarantine_and_stop_no_stage(home: Path) -> None:
    processed = home / "data/ham10000/processed"
    head, line = (processed / "quarantine.csv").read_text("utf-8").splitlines()
    assert (head, line.partition(",")[0]) == ("image_id,reason,date", "SYN_0000003")
    assert "SYN_0000003" not in (processed / "splits.csv").read_text("utf-8")


def test_what_is_pulled_is_what_was_pushed(home: Path) -> None:
    kept = [*home.glob("data/ham10000/processed/*.csv"), home / "runs/pipeline/model.onnx"]
    before = {path: path.read_bytes() for path in kept}
    dvc(home, "push")
    assert (home.parent / "lesion-dvc").is_dir()
    for path in (".dvc/cache", "data/ham10000/HAM10000_images"):
        shutil.rmtree(home / path)
    for path in kept:
        path.unlink()
    dvc(home, "pull")
    assert {path: path.read_bytes() for path in kept} == before
    assert len(list((home / "data/ham10000/HAM10000_images").iterdir())) > 45
    assert stages_run(dvc(home, "repro")) == []


def test_a_changed_parameter_is_seen_by_the_stages_that_read_it(home: Path) -> None:
    parameters = home / "configs" / "pipeline.yaml"
    edit(parameters, "lr: 2.0e-3", "lr: 1.0e-3")
    assert json.loads(dvc(home, "status", "--json")).keys() == {"train"}
    edit(parameters, "lr: 1.0e-3", "lr: 2.0e-3")
    edit(parameters, "split_seed: 0", "split_seed: 1")
    assert json.loads(dvc(home, "status", "--json")).keys() == {"prepare", "train"}
    edit(parameters, "split_seed: 1", "split_seed: 0")


def test_a_damaged_cache_of_dvc_does_not_pass_unseen(home: Path) -> None:
    model = home / "runs" / "pipeline" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.unlink()  # DVC may have linked it to its cache
    model.write_bytes(content)
    lesion = [sys.executable, "-m", "lesion"]
    done = subprocess.run([*lesion, "eval", "--model", str(model)], cwd=home, capture_output=True, text=True)
    assert done.returncode == 65
    assert "does not match its seal" in done.stderr
