"""What only Unix has is asked for behind a guard; what Windows does instead, simulated."""

import ast
import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import cache as cache_calls
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lesion import files
from lesion.artifact import Artifact
from lesion.data import cache
from lesion.errors import CheckFailed
from lesion.files import rename, try_lock, write_atomic
from lesion.inference.bulk.formats import JsonLines
from lesion.inference.bulk.outputs import FileOutput
from lesion.inference.predictor import Predictor, draw_test_image
from tests.conftest import GOLDEN, REPO

SOURCES = sorted((REPO / "src").rglob("*.py"))
parse = cache_calls(lambda path: ast.parse(path.read_text("utf-8")))
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = {
    "os": {
        "WNOHANG", "chown", "fchmod", "fchown", "fdatasync", "fork", "getegid", "geteuid", "getgid", "getloadavg",
        "getpgid", "getpgrp", "getuid", "killpg", "mkfifo", "nice", "posix_fadvise", "pread", "pwrite",
        "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sendfile", "setpgid", "setsid", "setuid",
        "statvfs", "sysconf", "uname", "wait", "wait4", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2",
        "alarm", "pause", "pthread_kill", "pthread_sigmask", "set_wakeup_fd", "setitimer", "siginterrupt", "sigwait",
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT", "socketpair"},
    "mmap": {"MADV_DONTNEED", "MADV_SEQUENTIAL", "MAP_PRIVATE", "PROT_READ"},
}  # fmt: skip


def find_unguarded(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of what only Unix has, unless a condition around it or a return before it asks for the system."""

    def look(node: ast.AST, guarded: bool) -> Iterator[tuple[int, str]]:
        if not guarded:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names if alias.name in MODULES)
            if isinstance(node, ast.ImportFrom) and node.module in MODULES:
                yield node.lineno, str(node.module)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.attr in NAMES.get(node.value.id, ()):
                    yield node.lineno, f"{node.value.id}.{node.attr}"
                if node.attr == "add_signal_handler":
                    yield node.lineno, node.attr
            if isinstance(node, ast.keyword) and node.arg in ("preexec_fn", "start_new_session", "pass_fds"):
                yield node.value.lineno, str(node.arg)
        if isinstance(node, ast.If | ast.IfExp):
            guarded = guarded or asks(node.test)
        for _, value in ast.iter_fields(node):
            here = guarded
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from look(child, here)
                    # `if sys.platform == "win32": return …` guards what follows.
                    leaves = isinstance(child, ast.If) and isinstance(child.body[-1], ast.Return | ast.Raise)
                    here = here or (leaves and asks(child.test))

    yield from look(tree, False)


def asks(test: ast.expr) -> bool:
    text = ast.unparse(test)
    return "sys.platform" in text or "hasattr(" in text or "os.name" in text


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    import resource", ["resource"]),
        ("if sys.platform != 'win32':\n    import fcntl", []),
        ("def f():\n    if sys.platform == 'win32':\n        return 0\n    import resource\n    return 1", []),
        ("signal.signal(signal.SIGHUP, f)", ["signal.SIGHUP"]),
        ("n = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1", []),
        ("subprocess.Popen(words, start_new_session=True)", ["start_new_session"]),
        ("for n in (signal.SIGTERM, signal.SIGUSR1):\n    pass", ["signal.SIGUSR1"]),
    ],
)
def test_a_guard_is_told_from_none(code: str, found: list[str]) -> None:
    assert [name for _, name in find_unguarded(ast.parse(code))] == found


def test_nothing_that_only_unix_has_is_asked_for_unguarded() -> None:
    found = [
        f"{path.relative_to(REPO)}:{line}: {name}" for path in SOURCES for line, name in find_unguarded(parse(path))
    ]
    assert found == []


def test_every_text_file_is_opened_as_utf8() -> None:
    """Windows' own encoding is that of the country."""
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                words = {word.arg for word in node.keywords}
                if node.func.attr == "read_text" and not node.args and "encoding" not in words:
                    assert path.name == "threads.py", path  # a number of Linux' own
                if node.func.attr == "write_text" and len(node.args) < 2 and "encoding" not in words:
                    assert path.name == "trial.py", path  # the same


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesion believes that it runs on Windows."""
    monkeypatch.setattr(sys, "platform", "win32")


def test_windows_waits_for_readers_of_a_file_that_is_replaced(
    windows: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, replace, refused = tmp_path / "run.json", Path.replace, []

    def busy(self: Path, target: Path) -> Path:
        if len(refused) < 3:
            refused.append(target)
            raise PermissionError(13, "being used by another process")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", busy)
    write_atomic(path, "new")
    assert path.read_text("utf-8") == "new"
    assert refused == [path] * 3


@pytest.mark.parametrize("platform", ["win32", "linux"])
def test_a_refusal_that_lasts_is_one(platform: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(files, "_PATIENCE_S", 0.05)
    asked = []

    def refuse(self: Path, target: Path) -> Path:
        asked.append(target)
        raise PermissionError(13, "being used by another process")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        rename(tmp_path / "new", tmp_path / "old")
    assert (len(asked) > 1) == (platform == "win32")


def test_windows_opens_no_folder(windows: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: object, *_: object) -> int:
        raise PermissionError(13, "a folder", str(path))

    monkeypatch.setattr(files.os, "open", refuse)
    files._sync_folder(tmp_path)


def test_windows_maps_nothing_that_is_to_be_renamed(windows: None, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3))
    pixels = cache._map(tmp_path / "pixels.npy")
    assert not isinstance(pixels, np.memmap)
    assert pixels.tolist() == np.arange(12).reshape(1, 2, 2, 3).tolist()


def test_a_run_is_locked_by_windows_own_lock(windows: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taken: list[int] = []

    def locking(handle: int, mode: int, count: int) -> None:
        if taken:
            raise OSError(36, "deadlock avoided")
        taken.append(count)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with (tmp_path / "lock").open("w", encoding="utf-8") as first, (tmp_path / "lock").open("a") as second:
        assert try_lock(first)
        assert not try_lock(second)


def test_answers_begin_at_the_start_of_a_file_that_windows_locks(
    windows: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is locked there lies far behind the content, and the lock moves the position in the file."""
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=lambda *_: None, LK_NBLCK=2))
    template, path = Predictor.load(GOLDEN / "tiny.onnx").predict(draw_test_image()), tmp_path / "answers.jsonl"
    for resume in (False, True):
        output = FileOutput(str(path), "jsonl", template, resume=resume)
        output.write(template)
        output.finish()
        output.close()
    assert path.read_bytes() == JsonLines().encode(template) * 2


@pytest.mark.parametrize(("platform", "asked_by"), [("win32", "pipe"), ("linux", "signal")])
def test_workers_are_asked_to_stop_as_their_system_can(
    platform: str, asked_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a signal would end them at once; `_follow` raises it in them instead, once the pipe is closed."""
    from lesion.serve import workers

    done: list[str] = []
    process = SimpleNamespace(
        pid=1, is_alive=lambda: True, join=lambda *_: done.append("join"), kill=lambda: done.append("kill")
    )
    pipe = SimpleNamespace(close=lambda: done.append("pipe"))
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(workers.os, "kill", lambda *_: done.append("signal"))
    workers._stop([workers.Worker(process, pipe)], 1.0)
    assert done == [asked_by, "join", "kill", "join"]


def test_a_worker_whose_parent_is_gone_finishes_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    from lesion.serve import workers

    ours, theirs = multiprocessing.Pipe()
    ours.close()
    caught: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: caught.append(number))
    try:
        workers._follow(theirs)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught == [signal.SIGTERM]


@pytest.mark.parametrize(("code", "how"), [(0xC0000005, "code 0xc0000005"), (-11, "signal 11")])
def test_a_crash_of_a_model_is_told_on_either_system(code: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lesion.inference import trial

    ended = subprocess.CompletedProcess([], code, b"", b"")
    monkeypatch.setattr(trial.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(CheckFailed, match=f"crashed the process that tried it, with {how}"):
        trial.try_out(Artifact.read(GOLDEN / "tiny.onnx"), 1)


def test_what_is_flushed_to_the_disk_may_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Windows refuses to flush a file that is open for reading."""
    fcntl = pytest.importorskip("fcntl")
    fsync = os.fsync

    def refuse(handle: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY and not stat.S_ISDIR(
            os.fstat(handle).st_mode
        ):
            raise OSError(errno.EBADF, "open for reading")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse)
    template = Predictor.load(GOLDEN / "tiny.onnx").predict(draw_test_image())
    output = FileOutput(str(tmp_path / "answers.json"), "json", template)
    output.write(template)
    output.finish()
    output.close()
    assert (tmp_path / "answers.json").stat().st_size > 0


def test_a_character_that_the_terminal_lacks_ends_no_command(tmp_path: Path) -> None:
    code = "from lesion.cli.app import set_up; set_up(); print('µ ≥ ✓')"
    environ = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environ)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.rstrip() == "µ \\u2265 \\u2713".encode("cp1252")
