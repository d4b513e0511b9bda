import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import GOLDEN, REPO

pytestmark = pytest.mark.slow


def _lesion(venv: Path) -> Path:
    return venv / ("Scripts/lesion.exe" if os.name == "nt" else "bin/lesion")


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the base install alone."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv, which `make setup` installs")
    venv = tmp_path_factory.mktemp("slim") / "venv"
    wheels = venv.parent / "wheels"
    python = ["-p", str(venv)]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=REPO, check=True, capture_output=True)
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(venv)], check=True)
    lock = ["--require-hashes", "-r", str(REPO / "requirements" / "serve.txt")]
    done = subprocess.run([uv, "pip", "install", "-q", *python, *lock], capture_output=True, text=True)
    if done.returncode and "error sending request" in done.stderr:
        pytest.skip(f"no package index reached: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    wheel = next(wheels.glob("*.whl"))
    subprocess.run([uv, "pip", "install", "-q", "--no-deps", *python, str(wheel)], check=True)
    return venv


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.new("RGB", (64, 48), (150, 90, 70)).save(path)
    return path


def test_the_base_install_has_no_torch(slim: Path) -> None:
    code = "import importlib.util as u; print([m for m in ('torch', 'onnx', 'lightning', 'wandb') if u.find_spec(m)])"
    python = _lesion(slim).parent / "python"
    assert subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_base_install_predicts(slim: Path, image: Path) -> None:
    words = ["predict", str(image), "--model", str(GOLDEN / "tiny.onnx"), "--json"]
    done = subprocess.run([_lesion(slim), *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["prediction"] in ("benign", "malignant")


def test_the_base_install_serves(slim: Path, image: Path) -> None:
    import httpx2

    words = ["serve", "--port", "0", "--model", str(GOLDEN / "tiny.onnx")]
    process = subprocess.Popen([_lesion(slim), *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        url = line.partition("listening on ")[2].partition(",")[0]
        answer = httpx2.post(f"{url}/predict", files={"file": image.read_bytes()}, timeout=20)
        assert answer.json()["prediction"] in ("benign", "malignant")
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def test_the_base_install_says_how_to_train(slim: Path, tmp_path: Path) -> None:
    done = subprocess.run([_lesion(slim), "train"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3
    assert 'pip install "lesion[train]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_the_wheel_brings_the_configurations(slim: Path, tmp_path: Path) -> None:
    words = ["train", "--tier", "efficientnet", "--env", "production", "--print-config"]
    done = subprocess.run([_lesion(slim), *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "tier: efficientnet" in done.stdout
    assert "port: 8080" in done.stdout
