"""A cloud on this machine: a fake gcloud, real servers as revisions, a front that splits the traffic."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from lesion.inference.predictor import draw_test_image
from tests.conftest import GOLDEN, REPO
from tests.deploy.front import Front, Visit
from tests.tracking.conftest import postgres as postgres

DEPLOY = REPO / "deploy"
EUROPE, AMERICA = REGIONS = ("europe-west1", "us-central1")
TOKEN = "lesion_test"
MODELS = {name: GOLDEN / f"{name}.onnx" for name in ("tiny", "tiny2")}
DIGESTS = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in MODELS.items()}
CONFIG = f"""
environment = "production"
project = "lesion-test"
regions = ["{EUROPE}", "{AMERICA}"]
service = "lesion"
tokens = "lesion-tokens"
min_instances = 1
domain = "lesion.example.org"
repository = "someone/lesion"

[watch]
seconds = 1.0
every_s = 0.1
latency_s = 20.0
bad = 0.1
smoke_s = 20.0
"""


def fake_gcloud(folder: Path, script: str, *tools: str) -> str:
    """A PATH with this script as gcloud and these tools alone: a real gcloud of this machine must never be reached."""
    program = folder / "bin" / "gcloud"
    program.parent.mkdir(exist_ok=True)
    program.write_text(script, "utf-8")
    program.chmod(0o755)
    for tool in tools:
        link, found = program.with_name(tool), shutil.which(tool)
        if found and not link.exists():
            link.symlink_to(found)
    return str(program.parent)


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def image_of(name: str) -> str:
    """An image by its digest."""
    return f"europe-docker.pkg.dev/lesion-test/lesion/serve@sha256:{hashlib.sha256(name.encode()).hexdigest()}"


@dataclass
class Client:
    """Someone who asks the service of a region all the time."""

    url: str
    statuses: list[int] = field(default_factory=list)
    models: set[str] = field(default_factory=set)

    def __enter__(self) -> "Client":
        self._over, self._thread = threading.Event(), threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        image = encode(draw_test_image())
        host, _, path = self.url.removeprefix("http://").partition("/")
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "image/png"}
        while not self._over.wait(0.03):
            connection = HTTPConnection(host, timeout=60)
            connection.request("POST", f"/{path}/v1/predict", image, headers)
            answer = connection.getresponse()
            self.statuses.append(answer.status)
            body = answer.read()
            if answer.status == 200:
                self.models.add(json.loads(body)["model"])
            connection.close()


class Cloud:
    """What the tests see and set of the fake."""

    def __init__(self, folder: Path, front: Front, pool: Path) -> None:
        self.folder, self.front, self.pool = folder, front, pool
        tokens = folder / "tokens"
        tokens.write_text(f"{hashlib.sha256(TOKEN.encode()).hexdigest()} test\n", "utf-8")
        secrets = dict.fromkeys(("lesion-tokens", "lesion-collector", "lesion-operator"), "ENABLED")
        state = {"project": "lesion-test", "front": front.url, "pool": str(pool), "tokens": str(tokens)}
        self.write({**state, "secrets": secrets, "services": {}, "revisions": {}, "journal": [], "broken": {}})
        self.add_image("old", "tiny")
        self.add_image("new", "tiny2")
        packages = str(Path(yaml.__file__).parents[1])
        run = f"import runpy, sys\nsys.path.append({packages!r})\nrunpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
        self.bin = Path(fake_gcloud(folder, f"#!{sys.executable} -S\n{run}"))  # -S: it starts twice as fast
        (folder / "config.toml").write_text(CONFIG, "utf-8")
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("CLOUDSDK", "GOOGLE", "LESION"))},
            "PATH": str(self.bin), "FAKE_CLOUD": str(folder), "LESION_TOKEN": TOKEN,
        }  # fmt: skip
        self.env.pop("PORT", None)

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "state.json").read_text("utf-8")))

    def write(self, state: dict[str, Any]) -> None:
        (self.folder / "state.json").write_text(json.dumps(state), "utf-8")

    def change(self, **more: Any) -> None:
        self.write({**self.state, **more})

    def add_image(self, name: str, model: str, **fault: Any) -> str:
        """An image whose servers have this model, and a fault of the front; an image of that name shares a server."""
        images = self.state.get("images", {})
        images[image_of(name)] = {"model": str(MODELS.get(model, model)), **fault}
        self.change(images=images)
        return image_of(name)

    def shares(self, region: str) -> dict[str, int]:
        """The traffic of a region, by revision."""
        targets = self.state["services"][region]["status"]["traffic"]
        return {each["revisionName"]: each["percent"] for each in targets if each.get("percent")}

    def tags(self, region: str) -> list[str]:
        return [each["tag"] for each in self.state["services"][region]["status"]["traffic"] if "tag" in each]

    def configure(self, pattern: str, replacement: str) -> None:
        path = self.folder / "config.toml"
        text, count = re.subn(pattern, replacement, path.read_text("utf-8"), flags=re.MULTILINE)
        assert count
        path.write_text(text, "utf-8")

    def words(self, image: str, digest: str = DIGESTS["tiny2"], *more: str) -> list[str]:
        config = str(self.folder / "config.toml")
        return [sys.executable, str(DEPLOY / "release.py"), image, "--digest", digest, "--config", config, *more]

    def release(self, image: str, digest: str = DIGESTS["tiny2"], *more: str) -> "subprocess.CompletedProcess[str]":
        """One release, to its end."""
        return subprocess.run(self.words(image, digest, *more), env=self.env, capture_output=True, text=True)

    def start(self, image: str) -> "subprocess.Popen[str]":
        """A release that goes on."""
        return subprocess.Popen(
            self.words(image), env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def serve(self, image: str) -> None:
        """Let the first revision, lesion-0, have the traffic of both regions."""
        state = self.state
        traffic = json.dumps([{"revisionName": "lesion-0", "percent": 100}])
        names = {
            "project": state["project"],
            "service": "lesion",
            "tokens": "lesion-tokens",
            "environment": "production",
        }
        values = {**names, "image": image, "revision": "lesion-0", "traffic": traffic}
        text = re.sub(
            r"\$\{(\w+)\}", lambda found: values.get(found[1], "1"), (DEPLOY / "service.yaml").read_text("utf-8")
        )
        for region in REGIONS:
            words = [str(self.bin / "gcloud"), "run", "services", "replace", "-", f"--region={region}"]
            subprocess.run(
                [*words, "--project=lesion-test", "--quiet"], input=text, env=self.env, text=True, check=True
            )
        self.change(journal=[])

    def seen(self, region: str, to: str = "service") -> list[Visit]:
        return [visit for visit in self.front.visits if (visit.region, visit.to) == (region, to)]

    def client(self, region: str = EUROPE) -> Client:
        return Client(f"{self.front.url}/{region}/service")


FAKE = Path(__file__).parent / "gcloud.py"


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the fake notes its servers, which end with the tests."""
    folder = tmp_path_factory.mktemp("servers")
    yield folder
    for note in folder.glob("*.json"):
        stop(json.loads(note.read_text("utf-8"))["pid"])


def stop(pid: int, how: signal.Signals = signal.SIGTERM) -> None:
    """End a server that the fake started."""
    with suppress(ProcessLookupError):
        os.kill(pid, how)


@pytest.fixture
def bare_cloud(tmp_path: Path, pool: Path) -> Iterator[Cloud]:
    """A cloud without a service."""
    if sys.platform == "win32":
        pytest.skip("releases run on Linux and macOS")
    front = Front(tmp_path)
    thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Cloud(tmp_path, front, pool)
    front.shutdown()
    front.server_close()
    thread.join()


@pytest.fixture
def cloud(bare_cloud: Cloud) -> Cloud:
    """A cloud where lesion-0, with the old model, has the traffic of both regions."""
    bare_cloud.serve(image_of("old"))
    return bare_cloud


def wait_for(what: Any, seconds: float = 120) -> None:
    """Until `what()` is true; the time is a guard against hanging."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/compose/make-secrets makes; read-only for tests."""
    if sys.platform == "win32":
        pytest.skip("needs a shell")
    folder = tmp_path_factory.mktemp("compose")
    (folder / "lesion").write_text(f'#!/bin/sh\nexec {sys.executable} -m lesion "$@"\n', "utf-8")
    (folder / "lesion").chmod(0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(REPO / "src")}
    command = ["/bin/sh", str(DEPLOY / "compose/make-secrets"), str(folder / "secrets")]
    subprocess.run(command, check=True, env=env, capture_output=True)
    assert subprocess.run(command, env=env, capture_output=True).returncode == 2  # what is there is not replaced
    return folder / "secrets"
