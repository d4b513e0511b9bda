"""The training job for real: data by DVC from a folder, the model into another, as the job finds its buckets."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPO
from tests.deploy.conftest import DEPLOY

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]
SETTINGS = ["--config", "configs/pipeline.yaml", "trainer.epochs=1", "trainer.accelerator=cpu"]


def run(*words: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="the job runs in a Linux container")
def test_a_job_takes_data_from_one_bucket_and_leaves_its_model_in_another(tmp_path: Path) -> None:
    checkout, remote, models = (tmp_path / name for name in ("checkout", "remote", "models"))
    shutil.copytree(REPO / "configs", checkout / "configs")
    pipeline = (REPO / "dvc.yaml").read_text("utf-8")
    small = pipeline.replace("--lesions 240 --width 200 --height 150", "--lesions 45 --width 64 --height 48")
    assert small != pipeline
    (checkout / "dvc.yaml").write_text(small, "utf-8")
    shutil.copy(DEPLOY / "train.sh", checkout)
    for words in (
        "init -q --no-scm", f"remote add -q -d data {remote}", "repro -q prepare", "push -q download prepare"
    ):  # fmt: skip
        done = run(sys.executable, "-m", "dvc", *words.split(), cwd=checkout)
        assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(checkout / "data")

    done = run("sh", checkout / "train.sh", remote, models, "one", *SETTINGS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    digest = done.stdout.splitlines()[-1]
    kept = models / "models" / f"{digest}.onnx"
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest
    assert (models / "runs" / "one" / "eval-test.json").is_file()

    again = run("sh", checkout / "train.sh", remote, models, "one", *SETTINGS, cwd=tmp_path)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)

    # The step of the build that follows, with its own words.
    steps = {step["id"]: step for step in yaml.safe_load((DEPLOY / "train.yaml").read_text("utf-8"))["steps"]}
    words = [re.sub(r"\$_MODEL_NAME", "ham", re.sub(r"\$_NAME\b", "one", word)) for word in steps["register"]["args"]]
    shutil.copytree(models / "runs" / "one", tmp_path / "one")
    (tmp_path / "registry").mkdir()
    done = run(steps["register"]["entrypoint"], *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.stem for path in (tmp_path / "registry" / "models").iterdir()] == [digest]
