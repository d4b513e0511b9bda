"""A real Ray cluster on this machine: two workers, of which one is killed."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesion.artifact import Artifact
from lesion.inference.predictor import Predictor
from lesion.records import to_dict
from tests.conftest import GOLDEN

pytest.importorskip("ray", reason="needs the extra `scale`")
pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent
MODEL = GOLDEN / "tiny.onnx"
QUIET = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
AGENTS = ("metrics-export", "dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Nodes:
    """The nodes of a cluster, each with all its processes in a session of its own."""

    address: str
    running: list["subprocess.Popen[str]"] = field(default_factory=list)

    def add(self, *words: str) -> "subprocess.Popen[str]":
        for _ in range(3):  # on a busy machine Ray loses patience with its own processes
            ports = [f"--{name}-port={port}" for name, port in zip(AGENTS, free_ports(len(AGENTS)), strict=True)]
            command = [BIN / "ray", "start", "--block", "--node-ip-address=127.0.0.1", *ports, *words]
            node = subprocess.Popen(
                [*command, "--object-store-memory=100000000"], env=QUIET, text=True, start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self.running.append(node)
            assert node.stdout is not None
            if any("Ray runtime started" in line for line in node.stdout):
                return node
            self.kill(node)
        pytest.skip("Ray does not start on this machine")

    def kill(self, node: "subprocess.Popen[str]") -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait(60)
        assert node.stdout is not None
        node.stdout.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """A head that does no work, and two workers with one processor each."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    nodes = Nodes(f"127.0.0.1:{free_ports(1)[0]}")
    port = nodes.address.rpartition(":")[2]
    nodes.add("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}")
    for _ in range(2):
        nodes.add(f"--address={nodes.address}", "--num-cpus=1")
    yield nodes
    for node in reversed(nodes.running):
        if node.poll() is None:
            nodes.kill(node)
    shutil.rmtree(folder, ignore_errors=True)


def start(cluster: Nodes, folder: Path, model: Path, *words: object) -> "subprocess.Popen[str]":
    command = [BIN / "lesion", "predict", folder, "--model", model, "--cluster", cluster.address, *words]
    return subprocess.Popen(
        list(map(str, command)), env=QUIET, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def paint(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (40, 30), (number % 256, number // 256, 90)).save(folder / f"{number:04}.png")
    (folder / "bad.png").write_text("text")
    return folder


def test_a_model_that_fails_its_self_test_there_answers_nothing(cluster: Nodes, tmp_path: Path) -> None:
    tiny = Artifact.read(MODEL)
    weights = np.random.default_rng(0).normal(0, 0.02, (3, 7)).astype(np.float32).tobytes()
    broken = replace(tiny, graph=tiny.graph.replace(weights, np.full(21, np.nan, np.float32).tobytes()))
    content = Artifact.pack(broken.graph, broken.manifest)[1]
    code = f"""
import sys
from lesion.errors import LesionError
from lesion.inference.bulk.items import to_item
from lesion.inference.cluster import Cluster
cluster = Cluster.join({cluster.address!r}, {content!r})
try:
    print(list(cluster.answer([to_item("a.png")])))
except LesionError as error:
    print(type(error).__name__, error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], env=QUIET, capture_output=True, text=True, timeout=300)
    assert "self-test" in done.stdout, done


def test_every_image_is_answered_once_though_a_worker_is_killed(cluster: Nodes, tmp_path: Path) -> None:
    folder, path = paint(tmp_path / "in", 2000), tmp_path / "a.jsonl"
    process = start(cluster, folder, MODEL, "-o", path, "--json")
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 200):
        time.sleep(0.02)
    early = path.read_bytes().count(b"\n")
    cluster.kill(cluster.running[-1])
    said, talk = process.communicate(timeout=300)
    assert process.returncode == 65, talk
    assert 200 <= early < 1500, "the kill came too late: the test proves nothing"
    assert (json.loads(said)["images"], json.loads(said)["unreadable"]) == (2001, 1)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [each["source"] for each in found] == [str(each) for each in sorted(folder.iterdir())]
    predictor = Predictor.load(MODEL)
    for each in found[::97]:
        assert each == json.loads(json.dumps(to_dict(predictor.predict(each["source"]))))
    assert [each["error"]["code"] for each in found if "error" in each] == ["NotAnImage"]
    assert talk.splitlines()[-1] == "hint: their answers have an `error`"
    assert "Traceback" not in talk


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    nowhere = Nodes(f"127.0.0.1:{free_ports(1)[0]}")
    process = start(nowhere, paint(tmp_path / "in", 1), MODEL, "-o", tmp_path / "a.csv")
    _, talk = process.communicate(timeout=300)
    assert process.returncode == 69, talk
    assert f"error: the Ray cluster {nowhere.address} cannot be used" in talk
    assert not (tmp_path / "a.csv").exists()
