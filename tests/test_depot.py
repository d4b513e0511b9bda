"""Models of an artifact store: fetched once, verified, shared by processes, and there while the store is not."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest

import lesion
from lesion import depot as depots
from lesion.depot import Depot, publish
from lesion.errors import ArtifactError, ConfigError, MissingExtra, NotFoundError, OutputError, RemoteError
from lesion.remote import is_passing, retry, upload, within
from tests.conftest import PATIENCE_S, Cli

pytest.importorskip("fsspec", reason="needs the extra `store`")
from tests.bucket import PLACE, TINY, TINY2, Bucket

SHA, SHA2 = (hashlib.sha256(content).hexdigest() for content in (TINY, TINY2))


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Depot:
    """An empty cache, of a user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Depot()


def test_a_model_is_fetched_once_and_kept_under_its_digest(bucket: type[Bucket], depot: Depot, tmp_path: Path) -> None:
    path = depot.fetch(PLACE)
    assert path == tmp_path / "cache/lesion/models" / f"{SHA}.onnx"
    assert path.read_bytes() == TINY
    assert depot.fetch(PLACE) == path
    assert bucket.downloads == 1
    assert {each.suffix for each in depot.folder.iterdir()} == {".onnx", ".json", ".lock"}  # nothing half done


def test_another_model_at_the_address_is_fetched(bucket: type[Bucket], depot: Depot) -> None:
    first = depot.fetch(PLACE)
    bucket.put(TINY2)
    assert depot.fetch(PLACE).read_bytes() == TINY2
    assert first.read_bytes() == TINY  # whoever loads it now is not disturbed


def test_a_digest_is_looked_for_here_before_anyone_is_asked(bucket: type[Bucket], depot: Depot) -> None:
    depot.fetch(PLACE)
    bucket.away = True
    assert depot.fetch(f"memory://elsewhere/x.onnx#sha256={SHA.upper()}").read_bytes() == TINY


def test_what_has_another_digest_is_refused(bucket: type[Bucket], depot: Depot) -> None:
    with pytest.raises(ArtifactError, match=f"sha256 {SHA[:12]}…, {SHA2[:12]}… expected"):
        depot.fetch(f"{PLACE}#sha256={SHA2}")
    assert not list(depot.folder.glob("*.onnx"))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", TINY[:-1], TINY + b"x"], ids=len)
def test_what_is_no_whole_model_is_refused_and_not_kept(content: bytes, bucket: type[Bucket], depot: Depot) -> None:
    bucket.put(content)
    with pytest.raises(ArtifactError, match=PLACE):
        depot.fetch(PLACE)
    assert not list(depot.folder.glob("*.onnx"))
    bucket.put(TINY)
    assert depot.fetch(PLACE).read_bytes() == TINY


def test_while_the_store_is_away_the_copy_counts(
    bucket: type[Bucket], depot: Depot, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    depot.fetch(PLACE)
    bucket.away = True
    with pytest.raises(RemoteError, match="no route to host"):
        depot.fetch("memory://bucket/other.onnx")
    assert depot.fetch(PLACE).read_bytes() == TINY
    assert "secret" not in caplog.text


def test_a_model_that_was_taken_away_is_not_served_from_the_copy(bucket: type[Bucket], depot: Depot) -> None:
    depot.fetch(PLACE)
    bucket().rm_file("/bucket/model.onnx")
    with pytest.raises(NotFoundError, match=f"no such model: {PLACE}"):
        depot.fetch(PLACE)


def test_a_damaged_copy_is_fetched_again(bucket: type[Bucket], depot: Depot) -> None:
    path = depot.fetch(PLACE)
    path.write_bytes(TINY[:-1])
    assert depot.fetch(PLACE).read_bytes() == TINY
    path.write_bytes(TINY[:-1])
    bucket.away = True
    with pytest.raises(RemoteError):
        depot.fetch(PLACE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mark": 1}', "\0"])
def test_a_damaged_note_costs_a_download(text: str, bucket: type[Bucket], depot: Depot) -> None:
    depot.fetch(PLACE)
    (note,) = depot.folder.glob("*.json")
    note.write_text(text)
    assert depot.fetch(PLACE).read_bytes() == TINY
    assert json.loads(note.read_text())["sha256"] == SHA


def test_a_store_that_hangs_is_given_up(bucket: type[Bucket], depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.fetch(PLACE)
    bucket.hold_s = 30.0
    monkeypatch.setattr(depots, "ANSWER_S", 0.05)
    start = time.monotonic()
    assert depot.fetch(PLACE).read_bytes() == TINY
    assert time.monotonic() - start < 5


def test_what_is_slow_but_comes_is_waited_for() -> None:
    ticks = iter(range(100))
    assert within(0.05, lambda: time.sleep(0.3) or "done", "x", lambda: next(ticks)) == "done"
    with pytest.raises(RemoteError, match="x has not answered for"):
        within(0.05, lambda: time.sleep(0.3), "x")


def test_threads_at_once_fetch_once(bucket: type[Bucket], depot: Depot) -> None:
    bucket.hold_s = 0.05
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(depot.fetch(PLACE).read_bytes())) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [TINY] * 6
    assert bucket.downloads == 1


class Web(BaseHTTPRequestHandler):
    """A model over HTTP, slowly, with an ETag."""

    content: ClassVar[bytes] = TINY
    status: ClassVar[int] = 200
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        Web.asked.append(self.command)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.content)))
        self.send_header("ETag", hashlib.sha256(self.content).hexdigest())
        self.end_headers()
        if self.command == "GET":
            time.sleep(0.2)
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec needs it for http://")
    Web.content, Web.status, Web.asked = TINY, 200, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/model.onnx"
        server.shutdown()


FETCH = "import sys; from lesion.depot import Depot; print(Depot().fetch(sys.argv[1]))"


@pytest.mark.slow
def test_processes_at_once_fetch_once_over_http(web: str, depot: Depot) -> None:
    command = [sys.executable, "-c", FETCH, web]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {each.communicate(timeout=60)[0].strip() for each in processes} == {str(depot.folder / f"{SHA}.onnx")}
    assert Web.asked.count("GET") == 1


def test_http_tells_of_another_model_by_its_etag(web: str, depot: Depot) -> None:
    assert depot.fetch(web).read_bytes() == TINY
    assert depot.fetch(web).read_bytes() == TINY
    assert Web.asked.count("GET") == 1
    Web.content = TINY2
    assert depot.fetch(web).read_bytes() == TINY2


@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (410, NotFoundError), (500, None), (503, None)])
def test_a_server_that_fails_is_away_and_one_that_has_nothing_is_not(
    status: int, error: type[Exception] | None, web: str, depot: Depot
) -> None:
    path = depot.fetch(web)
    Web.status = status
    if error:
        with pytest.raises(error):
            depot.fetch(web)
    else:
        assert depot.fetch(web) == path


def test_nobody_listening_is_a_clear_error(depot: Depot) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(RemoteError, match=r"cannot read http://127\.0\.0\.1:9/model\.onnx") as caught:
        depot.fetch("http://name:secret@127.0.0.1:9/model.onnx")
    assert "secret" not in caught.value.message
    assert caught.value.hint


class Liar(BaseHTTPRequestHandler):
    """A store that announces nothing, and sends something else than a model."""

    mode: ClassVar[str] = "endless"
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        self.close_connection = True
        body = gzip.compress(bytes(2**24))
        self.send_response(200)
        self.send_header("Connection", "close")
        if self.mode == "gzip":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        with suppress(OSError):
            if self.mode == "gzip":
                self.wfile.write(body)
            while self.mode != "gzip":
                self.wfile.write(bytes(2**16) if self.mode == "endless" else b"x")
                if self.mode == "drip":
                    time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec needs it for http://")
    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/model.onnx"
        server.shutdown()


@pytest.mark.parametrize(
    ("mode", "bound", "error", "said"),
    [
        ("endless", {"depot.LARGEST": 2**20}, ArtifactError, "has more than 1048576 bytes"),
        ("drip", {"remote.STALL_S": 0.3}, RemoteError, "has not answered for 0.3 s|cannot read"),
        ("drip", {"remote.TOTAL_S": 0.3}, RemoteError, "is not there after 0.3 s|cannot read"),
        ("gzip", {}, RemoteError, "comes as gzip, the plain file expected"),
    ],
)
def test_a_store_that_lies_costs_little_and_leaves_nothing(
    mode: str, bound: dict[str, float], error: type[Exception], said: str, liar: str, depot: Depot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    Liar.mode = mode
    for name, value in bound.items():
        monkeypatch.setattr(f"lesion.{name}", value)
    with pytest.raises(error, match=said):
        depot.fetch(liar)
    assert [path.suffix for path in depot.folder.iterdir()] == [".lock"]


def test_a_store_that_answers_too_late_is_away_and_the_copy_counts(
    bucket: type[Bucket], depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP, fsspec raises FileNotFoundError for whatever went wrong."""
    kept = depot.fetch(PLACE)

    def fail(*_: object) -> NoReturn:
        raise FileNotFoundError(PLACE) from TimeoutError()

    monkeypatch.setattr(bucket, "info", fail)
    assert depot.fetch(PLACE) == kept


def test_what_is_fetched_has_no_name_until_it_is_whole(
    bucket: type[Bucket], depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a process that is killed leaves nothing."""
    seen: list[list[str]] = []
    unpack = depots.Artifact.unpack

    def look(*words: Any) -> Any:
        seen.append([path.suffix for path in depot.folder.iterdir()])
        return unpack(*words)

    monkeypatch.setattr(depots.Artifact, "unpack", look)
    depot.fetch(PLACE)
    assert seen == [[".lock"]]


def test_what_earlier_versions_left_is_removed_after_a_day(bucket: type[Bucket], depot: Depot) -> None:
    old, fresh = depot.folder / ".fetching-old", depot.folder / ".fetching-fresh"
    for folder in (old, fresh):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(TINY)
    os.utime(old, times=(0, 0))
    depot.fetch(PLACE)
    assert (old.exists(), fresh.exists()) == (False, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_under_the_cache_is_no_fault_of_the_network(
    bucket: type[Bucket], depot: Depot, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lesion.inference.predictor import draw_test_image

    draw_test_image().save(tmp_path / "image.png")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: io.FileIO("/dev/full", "w"))
    outcome = cli("predict", tmp_path / "image.png", "--model", PLACE)
    assert outcome.code == 74
    assert "No space left on device" in outcome.err
    assert "XDG_CACHE_HOME" in outcome.err
    assert "network" not in outcome.err


@pytest.mark.parametrize(("error", "times"), [(ConnectionResetError("reset"), 2), (PermissionError("forbidden"), 9)])
def test_a_passing_error_is_tried_again_and_a_lasting_one_is_not(
    error: OSError, times: int, bucket: type[Bucket], depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, info = 0, Bucket.info

    def answer(self: Bucket, path: str, **words: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked <= times:
            raise error
        return info(self, path, **words)

    monkeypatch.setattr(Bucket, "info", answer)
    if isinstance(error, PermissionError):
        with pytest.raises(RemoteError, match="forbidden"):
            depot.fetch(PLACE)
        assert asked == 1
    else:
        assert depot.fetch(PLACE).read_bytes() == TINY


def test_retries_are_bounded_and_wait_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("lesion.remote.sleep", waits.append)

    def fail() -> None:
        raise RemoteError("away") from ConnectionError("reset")

    with pytest.raises(RemoteError, match="away"):
        retry(fail)
    assert len(waits) == 2
    assert 0.5 <= waits[0] <= 1.5
    assert 1.0 <= waits[1] <= 3.0


class Status(Exception):
    """An error of a library for HTTP."""

    def __init__(self, status: int) -> None:
        self.status = status


@pytest.mark.parametrize(
    ("cause", "passing"),
    [
        *[(Status(status), True) for status in (408, 425, 429, 500, 502, 503, 504)],
        *[(Status(status), False) for status in (400, 401, 403, 404, 410, 501)],
        (TimeoutError(), True),
        (BrokenPipeError(), True),
        (PermissionError(), False),
        (ValueError(), False),
        (None, False),
    ],
)
def test_what_may_pass_is_told_from_what_stays(cause: Exception | None, passing: bool) -> None:
    error = RemoteError("cannot read it")
    error.__cause__ = cause
    assert is_passing(error) is passing


def test_a_copy_with_another_digest_than_asked_for_does_not_count(bucket: type[Bucket], depot: Depot) -> None:
    depot.fetch(PLACE)
    with pytest.raises(ArtifactError, match="is not the expected file"):
        depot.fetch(f"{PLACE}#sha256={SHA2}")


@pytest.mark.parametrize("error", [OSError("no access"), None], ids=["refused", "hangs"])
def test_an_upload_that_fails_or_hangs_is_an_error_of_the_output(
    error: OSError | None, bucket: type[Bucket], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def put(*_: object) -> None:
        if error:
            raise error
        ended.wait(PATIENCE_S)

    monkeypatch.setattr(Bucket, "put_file", put)
    monkeypatch.setattr("lesion.remote.UPLOAD_S", 0.1)
    with pytest.raises(OutputError, match=f"cannot write memory://b/x: {error or 'memory://b/x has not answered'}"):
        upload(tiny, "memory://b/x")
    ended.set()


@pytest.mark.parametrize("fragment", ["x", "sha256=", "sha256=12", f"sha256={SHA[:-1]}g", f"md5={SHA}"])
def test_a_fragment_that_is_no_digest_is_refused(fragment: str, depot: Depot) -> None:
    with pytest.raises(ConfigError, match="#sha256= and 64 hex digits expected"):
        depot.fetch(f"{PLACE}#{fragment}")


def test_a_folder_is_no_model(bucket: type[Bucket], depot: Depot) -> None:
    with pytest.raises(NotFoundError, match="is a folder"):
        depot.fetch("memory://bucket")


def test_what_is_too_large_is_not_begun(bucket: type[Bucket], depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depots, "LARGEST", 10)
    with pytest.raises(ArtifactError, match="at most 10 expected"):
        depot.fetch(PLACE)
    assert bucket.downloads == 0


@pytest.mark.parametrize("scheme", ["s3", "gs", "nonsense"])
def test_a_store_whose_package_is_missing_says_so(scheme: str, depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises((MissingExtra, RemoteError), match=f"{scheme}://bucket/model.onnx") as caught:
        depot.fetch(f"{scheme}://bucket/model.onnx")
    assert scheme == "nonsense" or 'pip install "lesion[store]"' in caught.value.hint


def test_without_fsspec_the_extra_is_named(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.remote.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="needs the 'store' extra"):
        depot.fetch(PLACE)


def test_a_cache_that_cannot_be_written_is_a_clear_error(bucket: type[Bucket], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write into the folder"):
        Depot(tmp_path / "file" / "models").fetch(PLACE)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(OutputError) as caught:
        Depot()
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_publishing_puts_a_file_once_under_its_digest(bucket: type[Bucket], depot: Depot, tiny: Path) -> None:
    address = publish(tiny, SHA, "memory://bucket/models/")
    assert address == f"memory://bucket/models/{SHA}.onnx#sha256={SHA}"
    bucket.put(b"damaged", f"/bucket/models/{SHA}.onnx")
    assert publish(tiny, SHA, "memory://bucket/models") == address  # another size: put again
    assert depot.fetch(address).read_bytes() == TINY
    bucket.away = True
    with pytest.raises(RemoteError):
        publish(tiny, SHA, "memory://bucket/models")


@pytest.mark.parametrize("folder", ["models", "gs://user:word@bucket/models", "gs://bucket/models#x"])
def test_a_folder_that_cannot_be_remembered_is_refused(folder: str, tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.artifacts") as caught:
        publish(tiny, SHA, folder)
    assert "word" not in caught.value.message


def test_what_lies_in_a_store_can_be_registered(bucket: type[Bucket], depot: Depot, cli: Cli, tmp_path: Path) -> None:
    words = ["models", "register", PLACE, "--name", "ham", "--runs", tmp_path / "runs", "--json"]
    outcome = cli(*words, "--artifacts", "memory://bucket/models")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert (found["sha256"], found["lineage"]["file"]) == (SHA, f"memory://bucket/models/{SHA}.onnx#sha256={SHA}")


def test_the_library_and_the_command_line_take_addresses(
    bucket: type[Bucket], depot: Depot, cli: Cli, tmp_path: Path
) -> None:
    from lesion.inference.predictor import draw_test_image

    draw_test_image().save(tmp_path / "image.png")
    assert lesion.load(PLACE).identity == f"tiny@{SHA[:12]}"
    bucket.away = True
    outcome = cli("predict", tmp_path / "image.png", "--model", f"{PLACE}#sha256={SHA}", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["predictions"][0]["model"] == f"tiny@{SHA[:12]}"
    outcome = cli("predict", tmp_path / "image.png", "--model", "memory://bucket/absent.onnx")
    assert outcome.code == 69
    assert outcome.err.startswith("error: cannot read memory://bucket/absent.onnx")
