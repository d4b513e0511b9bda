"""What the tests of the server share: a picture, a model that is ready, a server in a process of its own."""

import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from lesion.config.serving import ServeConfig
from lesion.inference.predictor import draw_test_image
from lesion.serve.app import create_app
from lesion.serve.slot import Serving, Slot
from tests.conftest import GOLDEN, PATIENCE_S

TINY = GOLDEN / "tiny.onnx"

LEAKING = """
import sys
from lesion.cli.app import main
from lesion.inference.predictor import Predictor
kept, read = [], Predictor.read
Predictor.read = lambda self, source: kept.append(bytes(2**16)) or read(self, source)
sys.exit(main())
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="soak tests at full size, with limits on time")
    parser.addoption("--model", type=Path, help="a model to overload, by photographs of 600×450; default: a tiny one")


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PICTURE = encode(draw_test_image(), "JPEG")


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem details of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = dict(response.json())
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert body["title"]
    assert re.fullmatch("[a-z_]+", body["code"])
    assert body["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    assert response.headers["cache-control"] == "no-store"
    return body


def form(header: bytes, content: bytes) -> bytes:
    """A multipart body of one part, with the boundary x."""
    return b"--x\r\nContent-Disposition: form-data; " + header + b"\r\n\r\n" + content + b"\r\n--x--\r\n"


FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="session")
def tiny_serving() -> Serving:
    """The tiny model, ready to answer; read-only for tests."""
    return Serving.load(TINY, ServeConfig())


App = Callable[..., FastAPI]


@pytest.fixture
def make_app(tiny_serving: Serving) -> App:
    """The application around the tiny model, with the settings that a test names."""
    return lambda **settings: create_app(Slot(tiny_serving), ServeConfig(**settings))


@pytest.fixture
def client(make_app: App) -> Iterator[TestClient]:
    with TestClient(make_app(max_upload_mb=20_000 / 2**20)) as client:
        yield client


@dataclass(frozen=True)
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    """What it says: a file, since a pipe that nobody reads fills up and stops it."""

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.partition("//")[2].rpartition(":")
        return host.strip("[]"), int(port)

    def stop(self, number: int) -> tuple[int, float, str]:
        """Send a signal; the exit code, the seconds that it took, and what was said after where it listens."""
        start = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout=PATIENCE_S)
        return code, time.monotonic() - start, self.log.read_text().partition("\n")[2]

    def memory(self, line: str = "VmRSS") -> int:
        """KiB of memory, or at most, VmHWM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{line}:")[1].split()[0])


@contextmanager
def serving(*words: str, model: Path = TINY, leaks: bool = False) -> Iterator[Served]:
    """`lesion serve` with these words; if it `leaks`, one that keeps every image."""
    start = ["-c", LEAKING] if leaks else ["-m", "lesion"]
    command = [sys.executable, *start, "serve", "--port", "0", "--model", str(model), *words]
    with TemporaryDirectory() as folder:
        log, until = Path(folder, "log"), time.monotonic() + PATIENCE_S
        with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as process:
            try:
                while not (found := re.search(r"listening on (https?://[^\s,]+:\d+)", log.read_text())):
                    assert process.poll() is None and time.monotonic() < until, log.read_text()  # noqa: PT018
                    time.sleep(0.02)
                yield Served(process, found[1], log)
            finally:
                process.kill()


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to take full sizes, on a machine that does nothing else, and to assert times."""
    return bool(request.config.getoption("--full", default=False))


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> Path | None:
    """A model that somebody wants to see overloaded, or None."""
    found: Path | None = request.config.getoption("--model", default=None)
    return found


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """PEM files of a certificate for localhost and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    chain, key = str(folder / "chain.pem"), str(folder / "key.pem")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = [openssl, "req", "-x509", *curve, *names, "-keyout", key, "-out", chain]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key
