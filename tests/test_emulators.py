"""Models in S3 and in Google Cloud Storage, as their emulators and the real client libraries have them."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lesion import depot as depots
from lesion.depot import Depot
from lesion.errors import NotFoundError, RemoteError
from lesion.tracking.registry import Registry
from tests.conftest import GOLDEN, Cli

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore")]  # others' code, others' warnings

TINY, TINY2 = ((GOLDEN / name).read_bytes() for name in ("tiny.onnx", "tiny2.onnx"))
SHA = hashlib.sha256(TINY).hexdigest()
FETCH = "import sys; from lesion.depot import Depot; print(Depot().fetch(sys.argv[1]))"


def start_s3(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """An S3 of this process's own; returns what stops it."""
    pytest.importorskip("s3fs", reason="needs the extra `store`")
    server = pytest.importorskip("moto.server", reason="needs moto[server]").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return lambda: server.stop()


def start_gs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A Google Cloud Storage of this process's own; returns what stops it."""
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it asks Google itself, whatever the emulator
    pytest.importorskip("gcsfs", reason="needs the extra `store`")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="needs gcp-storage-emulator")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    port = server._api._httpd.socket.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    return lambda: server.stop()


class Store:
    """An emulator with a bucket in it."""

    def __init__(self, scheme: str, stop: Callable[[], None]) -> None:
        from fsspec.core import url_to_fs

        self.bucket = f"lesion-{uuid4().hex}"  # an emulator may remember the tests before
        self.address = f"{scheme}://{self.bucket}/model.onnx"
        self._stop, self._is_up = stop, True
        self.fs: Any = url_to_fs(self.address)[0]
        self.fs.clear_instance_cache()
        self.fs = url_to_fs(self.address)[0]
        self.fs.mkdir(self.bucket)

    def put(self, content: bytes) -> None:
        self.fs.pipe_file(f"{self.bucket}/model.onnx", content)

    def close(self) -> None:
        """The store is away."""
        if self._is_up:
            self._stop()
        self._is_up = False


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    start = {"s3": start_s3, "gs": start_gs}[request.param]
    with closing(Store(request.param, start(monkeypatch))) as opened:
        opened.put(TINY)
        yield opened


def test_a_model_is_fetched_exchanged_and_there_while_the_store_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depots, "ANSWER_S", 3.0)
    depot = Depot()
    assert depot.fetch(store.address).read_bytes() == TINY
    written = {each: each.stat().st_mtime_ns for each in depot.folder.iterdir() if each.suffix == ".onnx"}
    assert depot.fetch(store.address).stat().st_mtime_ns in written.values()  # not fetched again
    store.put(TINY2)
    assert depot.fetch(store.address).read_bytes() == TINY2
    with pytest.raises(NotFoundError):
        depot.fetch(store.address.replace("model", "absent"))
    store.close()
    assert depot.fetch(store.address).read_bytes() == TINY2
    with pytest.raises(RemoteError):
        depot.fetch(store.address.replace("model", "other"))


def test_processes_at_once_have_the_same_whole_file(store: Store) -> None:
    command = [sys.executable, "-c", FETCH, store.address]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    paths = {each.communicate(timeout=120)[0].strip() for each in processes}
    assert paths == {str(Depot().folder / f"{SHA}.onnx")}


def test_the_registry_keeps_its_files_there(store: Store, tmp_path: Path, cli: Cli) -> None:
    from lesion.inference.predictor import draw_test_image

    draw_test_image().save(tmp_path / "image.png")
    runs, folder = tmp_path / "runs", store.address.replace("model.onnx", "models")
    with Registry.open(None, runs, "create") as registry:
        version = registry.register(GOLDEN / "tiny.onnx", "ham", folder)
        registry.promote("ham", "1", "production")
    assert store.fs.cat_file(f"{store.bucket}/models/{SHA}.onnx") == TINY
    assert version.lineage["file"] == f"{folder}/{SHA}.onnx#sha256={SHA}"
    words = ["predict", tmp_path / "image.png", "--model", "ham@production", "--runs", runs, "--json"]
    assert json.loads(cli(*words).out)["predictions"][0]["model"] == f"tiny@{SHA[:12]}"
    store.close()
    assert cli(*words).code == 0


def test_threads_have_the_same_whole_file(store: Store) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(Depot().fetch(store.address).read_bytes())) for _ in "1234"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [TINY] * 4
