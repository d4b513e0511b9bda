"""Files that are whole or absent, folders that are proven writable, locks that exclude others."""

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lesion import files
from lesion.errors import OutputError
from lesion.files import (
    ensure_folder,
    hold_lock,
    is_writable,
    open_regular,
    read_regular,
    sha256,
    temporary_folder,
    try_lock,
    write_atomic,
)
from tests.conftest import PATIENCE_S


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("content", "raw"), [("täxt\n", "täxt\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b""), ("a\r\nb", b"a\r\nb")]
)
def test_text_and_bytes_are_written_as_they_are(content: str | bytes, raw: bytes, tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == raw


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "a long first content")
    write_atomic(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "os.open"])
def test_when_writing_fails_the_old_file_is_still_there_and_no_other(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(step, fail)
    with pytest.raises(OutputError) as caught:
        write_atomic(path, "new")
    monkeypatch.undo()
    assert caught.value.message == f"cannot write {path}: {os.strerror(errno.ENOSPC)}"
    assert "free space" in caught.value.hint
    assert caught.value.exit_code == 74
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupt_while_writing_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_reader_ever_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    seen = []
    monkeypatch.setattr("os.fsync", lambda _: seen.append(path.read_text()))
    write_atomic(path, "new")
    assert (seen[0], path.read_text()) == ("old", "new")


def test_content_reaches_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    replace = Path.replace
    monkeypatch.setattr("os.fsync", lambda _: steps.append("fsync"))
    monkeypatch.setattr(Path, "replace", lambda self, target: (steps.append("replace"), replace(self, target)))
    write_atomic(tmp_path / "file", "new")
    # The folder follows where it can be synchronised, so that the name outlives a power cut, too.
    assert steps == ["fsync", "replace", *(["fsync"] if os.name == "posix" else [])]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0, 0o666)], ids=oct)
@pytest.mark.usefixtures("umask")
def test_permissions_follow_the_umask(mask: int, mode: int, tmp_path: Path) -> None:
    os.umask(mask)
    write_atomic(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert os.umask(mask) == mask


@pytest.mark.parametrize("place", ["absent/file", "blocker/file", "folder"])
def test_a_place_that_cannot_be_written_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "blocker").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / place, "x")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert ensure_folder(folder) == folder
    assert ensure_folder(folder) == folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("below", ["file", "file/below", "file/below/deeper"])
def test_a_folder_in_place_of_or_below_a_file_is_refused(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError) as caught:
        ensure_folder(tmp_path / below)
    assert caught.value.message.startswith(f"cannot write into the folder {tmp_path / below}: ")
    assert "may write to" in caught.value.hint
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_that_takes_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", deny)
    with pytest.raises(OutputError, match=os.strerror(errno.EACCES)):
        ensure_folder(tmp_path)


@pytest.mark.parametrize(("mode", "writable"), [(0o755, True), (0o555, False), (0o700, True), (0o500, False)], ids=oct)
def test_the_mode_bits_decide_whether_a_folder_is_writable(mode: int, writable: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    try:
        assert is_writable(folder) is writable
    finally:
        folder.chmod(0o755)


def test_a_folder_that_is_not_there_is_not_writable(tmp_path: Path) -> None:
    assert is_writable(tmp_path / "absent") is False


def test_the_digest_is_sha256() -> None:
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_a_device_and_a_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "a pipe"), (Path(os.devnull), "a device"), (tmp_path, "a folder")):
        with pytest.raises(OSError, match=f"it is {kind}, not a regular file"):
            open_regular(path)


def test_a_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than") as caught:
        read_regular(tmp_path / "file", 4)
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 4)


def test_writing_never_touches_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one for all threads of a process: to read it is to change it for a moment."""
    monkeypatch.delattr("os.umask")
    write_atomic(tmp_path / "file", "x")


def test_what_a_killed_writer_left_is_removed_a_day_later_and_nothing_else(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".file.0123456789abcdef", tmp_path / ".file.fedcba9876543210"
    others = [tmp_path / ".file.backup", tmp_path / ".other.0123456789abcdef"]
    for path in (old, fresh, *others):
        path.write_text("half")
    for path in (old, *others):
        os.utime(path, times=(0, 0))
    write_atomic(tmp_path / "file", "x")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "file", fresh, *others])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks in another way")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_named_once_and_locks_nobody_out(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(files, "_lockless", set())
    with (tmp_path / "lock").open("a") as first, (tmp_path / "lock").open("a") as second:
        assert try_lock(first)
        assert try_lock(second)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "has no locks" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks in another way")
@pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES], ids=errno.errorcode.get)
def test_what_another_has_locked_is_not_taken(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (tmp_path / "lock").open("a") as file:
        assert not try_lock(file)


def test_a_lock_refuses_a_second_holder_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold_lock(path, "draw"):
        with (
            pytest.raises(OutputError, match="cannot draw: another process does so now") as caught,
            hold_lock(path, "draw"),
        ):
            pass
        assert caught.value.exit_code == 74
        assert "wait until it ends" in caught.value.hint
    assert not path.exists()
    with hold_lock(path, "draw"):
        assert path.exists()


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    """Many take turns, and none of them sees another inside, though each removes the file that the others wait at."""
    inside, most, turns = [0], [0], [0]

    def work() -> None:
        with hold_lock(tmp_path / "lock", "work", PATIENCE_S):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            turns[0] += 1
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == ([1], [8])


def test_a_killed_process_keeps_no_lock(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from lesion.files import hold_lock
with hold_lock(Path(sys.argv[1]), "work"):
    print("held", flush=True)
    time.sleep(600)
"""
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(OutputError), hold_lock(path, "work"):
                pass
        finally:
            other.kill()
        other.wait(PATIENCE_S)
        assert path.exists()
        with hold_lock(path, "work"):
            pass


def test_a_lock_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), hold_lock(tmp_path / "absent" / "lock", "work"):
        pass


def test_without_a_place_for_temporary_files_it_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(OutputError, match="no folder for temporary files") as caught, temporary_folder():
        pytest.fail("there was one")
    assert caught.value.hint.startswith("set TMPDIR to a folder")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
    assert not folder.exists()
