import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lesion.artifact import Artifact
from lesion.config.schema import Config, DataConfig, TrackingConfig
from lesion.engine import mirror as module
from lesion.engine.mirror import Mirror, answers, open_mirror, to_hyperparameters, to_public
from lesion.run import Run

KEY = "c0ffee" * 7
CANARY = "hummingbird"


@pytest.fixture(autouse=True)
def _own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A W&B without the user's account, settings and folders, started anew for each test."""
    for name in ("CONFIG", "DATA", "CACHE", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home" / name.lower()))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield
    import wandb

    wandb.teardown()


class Server(ThreadingHTTPServer):
    """An HTTP server on loopback that remembers what it was asked."""

    daemon_threads = True
    asked: list[str]


@contextmanager
def serve(code: int, code_of_post: int = 401) -> Iterator[Server]:
    """A server that answers GET with `code`, POST with `code_of_post`, and no body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(code)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(code_of_post)

        def _answer(self, code: int) -> None:
            server.asked.append(f"{self.command} {self.path}")
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def black_hole() -> Iterator[str]:
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def closed_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def unknown_name() -> Iterator[str]:
    yield "https://wandb.invalid"


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def configure(mode: str, **tracking: str) -> Config:
    return Config(tracking=TrackingConfig(wandb=mode, **tracking))


def opened(config: Config, runs: Path) -> Mirror:
    mirror = open_mirror(config, Run.create(runs, "baseline", "trial"))
    assert mirror
    return mirror


def log_steps(mirror: Mirror, steps: int = 20) -> None:
    for step in range(steps):
        mirror.logger.log_metrics({"val_loss": step + 0.015625}, step)


def written(runs: Path) -> bytes:
    """The one offline log below `runs`, which `wandb sync` would upload."""
    import wandb

    wandb.teardown()  # as at the end of a process: its service writes what it still holds
    (log,) = runs.glob("trial/wandb/offline-run-*/run-*.wandb")
    return log.read_bytes()


def has_all_steps(content: bytes, steps: int = 20) -> bool:
    return all(f"{step}.015625".encode() in content for step in range(steps))


def test_no_mirror_unless_asked_for(tmp_path: Path) -> None:
    assert open_mirror(Config(), Run(tmp_path)) is None


def test_offline_keeps_all_metrics_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(200) as server:
        monkeypatch.setenv("WANDB_BASE_URL", url_of(server))
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        mirror = opened(configure("offline"), tmp_path)
        log_steps(mirror)
        mirror.finish()
        assert server.asked == []
    assert has_all_steps(written(tmp_path))


@pytest.mark.parametrize("nowhere", [black_hole, closed_port, unknown_name])
def test_an_unreachable_host_costs_nothing_but_a_warning(
    nowhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with nowhere() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        mirror = opened(configure("online"), tmp_path)
        log_steps(mirror)  # before anything is known of the host
        mirror.finish()
    assert has_all_steps(written(tmp_path))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "did not answer within 2 s" in warning
    (folder,) = tmp_path.glob("trial/wandb/offline-run-*")
    assert f"`wandb sync {folder}`" in warning


def test_logging_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def probe(*_: Any) -> bool:
        asked.set()
        return not go_on.wait(60)

    monkeypatch.setattr(module, "answers", probe)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    mirror = opened(configure("online"), tmp_path)
    assert asked.wait(60)
    log_steps(mirror)  # returns while the host is still being asked
    assert list(tmp_path.glob("trial/wandb")) == []
    go_on.set()
    mirror.finish()
    assert has_all_steps(written(tmp_path))


def test_without_a_key_the_run_is_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(200) as server:
        monkeypatch.setenv("WANDB_BASE_URL", url_of(server))
        mirror = opened(configure("online"), tmp_path)
        log_steps(mirror)
        mirror.finish()
        assert server.asked == []
    assert has_all_steps(written(tmp_path))
    assert "no API key" in caplog.text
    assert "wandb login" in caplog.text


def test_the_environment_may_ask_for_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    mirror = opened(configure("online"), tmp_path)
    log_steps(mirror)
    mirror.finish()
    assert has_all_steps(written(tmp_path))
    assert "told to be offline" in caplog.text


def test_a_host_that_refuses_the_run_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with serve(404, code_of_post=401) as server:
        monkeypatch.setenv("WANDB_BASE_URL", url_of(server))
        mirror = opened(configure("online"), tmp_path)
        log_steps(mirror)
        mirror.finish()
        assert server.asked[0] == "GET /healthz"
        assert "POST /graphql" in server.asked
    assert has_all_steps(written(tmp_path))
    assert "W&B did not accept the run" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("environment", "project"),
    [({"WANDB_BASE_URL": f"https://user:{CANARY}@"}, "lesion"), ({}, "no/such:project")],
    ids=["address", "project"],
)
def test_what_wandb_cannot_use_is_a_warning(
    environment: dict[str, str], project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    mirror = opened(configure("offline", project=project), tmp_path)
    log_steps(mirror)
    mirror.finish()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "W&B cannot be used" in warning
    assert CANARY not in warning


def test_a_failing_call_is_warned_about_once_and_the_rest_arrives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = opened(configure("offline"), tmp_path)
    for _ in range(3):
        mirror.logger.log_metrics({1: 0.5})  # type: ignore[dict-item]
    log_steps(mirror)
    for _ in range(2):
        mirror.log_model(tmp_path / "absent.onnx", {})
    mirror.finish()
    assert has_all_steps(written(tmp_path))
    assert caplog.text.count("W&B did not take everything") == 1


def test_finish_waits_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    mirror = opened(configure("offline"), tmp_path)
    mirror._put(lambda run: go_on.wait(60) and None)
    log_steps(mirror)
    monkeypatch.setattr(module, "UPLOAD_S", 0.1)
    mirror.finish()
    assert "did not take everything within" in caplog.text
    monkeypatch.setattr(module, "UPLOAD_S", 60.0)
    go_on.set()
    mirror.finish()
    assert has_all_steps(written(tmp_path))


def test_the_best_model_is_an_artifact_offline_too(tiny: Path, tmp_path: Path) -> None:
    mirror = opened(configure("offline"), tmp_path)
    mirror.log_model(tiny, {"auroc": 0.90625})
    mirror.finish()
    content = written(tmp_path)
    assert Artifact.read(tiny).digest.encode() in content
    for word in (b"lesion-baseline", b"model.onnx", b"0.90625", b"best", b"wandb-registry-model/lesion-baseline"):
        assert word in content
    (staged,) = (tmp_path / "home" / "data").glob("artifacts/staging/*")  # kept until `wandb sync`
    assert staged.read_bytes() == tiny.read_bytes()


def test_a_model_that_cannot_be_linked_is_still_logged(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = opened(configure("offline"), tmp_path)
    mirror._put(lambda run: setattr(mirror, "_online", True))  # offline, W&B itself refuses to link
    mirror.log_model(tiny, {})
    mirror.finish()
    assert "not linked to wandb-registry-model/lesion-baseline" in caplog.text
    assert Artifact.read(tiny).digest.encode() in written(tmp_path)


def test_a_failed_training_is_marked_as_such(tmp_path: Path) -> None:
    mirror = opened(configure("offline"), tmp_path)
    mirror.finish(failed=True)
    (log,) = tmp_path.glob("trial/wandb/offline-run-*/logs/debug.log")
    assert "got exitcode: 1" in log.read_text()


def test_no_secret_is_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "lesion")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("WANDB_API_KEY", CANARY + KEY)
    monkeypatch.setenv("WANDB_NOTES", "harmless")
    monkeypatch.setenv("HTTPS_PROXY", f"http://jane:{CANARY}@127.0.0.1:9")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://jane:{CANARY}@127.0.0.1:9")
    monkeypatch.setattr("sys.argv", ["lesion", "train", f"--password={CANARY}"])
    config = replace(
        configure("online", project="private"),
        data=DataConfig(root=f"https://jane:{CANARY}@example.org/ham?token={CANARY}", processed=f"/{CANARY}/processed"),
        runs=CANARY,
    )
    mirror = opened(config, tmp_path)
    log_steps(mirror)
    mirror.log_model(tiny, {})
    mirror.finish()
    files = [path for path in (tmp_path / "trial").rglob("*") if path.is_file()]
    assert has_all_steps(written(tmp_path))
    assert b"https://example.org/ham" in written(tmp_path)
    assert b"/processed" not in written(tmp_path)
    assert len(files) > 3
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in caplog.text
    host = socket.gethostname().encode()
    assert len(host) < 5 or host not in written(tmp_path)


@pytest.mark.parametrize(
    ("value", "key", "seen"),
    [
        ("abc", "api_key", "***"),
        (7, "max_tokens", "***"),
        ({"Password": "abc", "lr": 0.1}, "", {"Password": "***", "lr": 0.1}),
        ([{"client_secret": "abc"}], "", [{"client_secret": "***"}]),
        (None, "token", None),
        (["postgresql://jane:p@ss@db:5432/runs"], "", ["postgresql://db:5432/runs"]),
        ("/home/jane/data/ham10000", "", "ham10000"),
        ("C:\\Users\\jane\\ham10000", "", "ham10000"),
        ("data/ham10000", "", "data/ham10000"),
        (0.5, "lr", 0.5),
    ],
)
def test_what_is_public(value: Any, key: str, seen: Any) -> None:
    assert to_public(value, key) == seen


def test_hyperparameters_say_what_was_trained_and_not_where() -> None:
    known = to_hyperparameters(Config())
    assert known["optim"]["lr"] == Config().optim.lr
    assert known["model"]["tier"] == "baseline"
    assert known.keys().isdisjoint({"runs", "serve", "tracking"})


@pytest.mark.parametrize(("code", "fit"), [(200, True), (404, True), (401, True), (500, False), (407, False)])
def test_any_answer_but_a_broken_one_counts(code: int, fit: bool) -> None:
    with serve(code) as server:
        assert answers(url_of(server), {}) is fit


def test_a_proxy_is_asked_instead() -> None:
    with serve(200) as proxy:
        assert answers("http://wandb.invalid", {"http": url_of(proxy)})
        assert proxy.asked == ["GET http://wandb.invalid/healthz"]
    with serve(200) as proxy:
        assert not answers("https://wandb.invalid", {"https": url_of(proxy)})  # it knows no CONNECT


@pytest.mark.slow
def test_a_training_with_wandb_unreachable_is_complete(quick: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    from lesion.engine.train import train

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with black_hole() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        report = train(replace(quick, tracking=replace(quick.tracking, wandb="online")))
    run = Run(Path(report.run))
    assert run.read_state()["status"] == "finished"
    (log,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert log.read_bytes().count(b"val_auroc") >= report.epochs
