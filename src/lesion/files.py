"""Files that are either whole or absent, files from strangers, digests, locks, and the cache."""

import errno
import hashlib
import logging
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep, time
from typing import IO, BinaryIO

from lesion.errors import OutputError, brief

log = logging.getLogger(__name__)
# Errors of a full disk, a used-up quota and a file that must not grow.
FULL = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
_PATIENCE_S = 2.0  # for readers of a file that is to be replaced, on Windows
_ABANDONED_S = 24 * 3600  # after which a temporary file is the remains of a killed process
_POLL_S = 0.05  # between two attempts to get a lock
_LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_lockless: set[int] = set()  # file systems (st_dev) that the log has named as having no locks


def write_atomic(path: Path, content: bytes | memoryview | str) -> None:
    """Write `content` so that a reader, or a crash, sees the old file or the new one, never half of it.

    Also removes temporary files for `path` that killed processes left a day ago or earlier.

    Raises OutputError when the folder is not writable or the disk is full; the old file is then still there.
    """
    raw = content.encode() if isinstance(content, str) else content
    # Same folder: a rename is atomic only within one file system.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    made = False
    try:
        # Not mkstemp: its files are private, and the umask cannot be read without changing it for all threads.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
        made = True
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
        _sync_folder(path.parent)
        _remove_abandoned(path)
    except BaseException as error:  # a second Ctrl-C, too, leaves no half file behind
        if made:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}",
            hint="check the folder's permissions and free space",
        ) from error


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; a FIFO, a device or a socket in its place never blocks.

    Raises:
        FileNotFoundError: nothing has this name.
        OSError: with `strerror` for a person, when it cannot be opened or is no regular file.
    """
    _require_regular(os.stat(path), path)  # noqa: PTH116 - opening a device may already act on it
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(handle, "rb")
    try:
        _require_regular(os.fstat(handle), path)  # it may have been exchanged since
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes`; raises as `open_regular`, and OSError (EFBIG)."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > max_bytes else file.read(size + 1)  # Python allocates what it is asked for at once
        if len(content) > size:  # it grew, or its file system states no size
            content += file.read(max_bytes + 1 - len(content))
    if max(size, len(content)) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes / 2**20:.4g} MiB", os.fspath(path))
    return content


def _require_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(found.st_mode):
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))


def rename(source: Path, target: Path) -> None:
    """Give `source` the name `target`, in place of what has it, at once. Raises OSError.

    Windows refuses that while anyone reads `target`, a virus scanner included; readers of ours are done soon.
    """
    end = monotonic() + (_PATIENCE_S if sys.platform == "win32" else 0)
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if monotonic() >= end:
                raise
        sleep(0.02)


def _sync_folder(folder: Path) -> None:
    """Let the new name outlive a power cut, where folders can be synchronised."""
    if sys.platform != "win32":  # which opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_abandoned(path: Path) -> None:
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}")
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name) and time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_S:
                Path(entry.path).unlink(missing_ok=True)


def ensure_folder(path: Path, hint: str = "name a folder you may write to, or change its permissions") -> Path:
    """Create `path` and prove that a file can be written into it, else OutputError: called before long work."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".lesion-"):
            pass
    except OSError as error:
        raise OutputError(f"cannot write into the folder {path}: {error.strerror or error}", hint=hint) from error
    return path


def is_writable(folder: Path) -> bool:
    """Whether `folder` is meant to be written to; a root user, whom nothing stops, is held to the mode bits, too."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for a block, removed afterwards; OutputError when there is no place for one."""
    try:
        made = tempfile.TemporaryDirectory(prefix="lesion-")
    except OSError as error:  # FileNotFoundError, too: none of the usual places can be written
        raise OutputError(
            f"no folder for temporary files: {brief(error)}", hint="set TMPDIR to a folder that you may write to"
        ) from error
    with made as name:
        yield Path(name)


def expand_home(text: str) -> str:
    """Return `text` with a leading `~` or `~USER` replaced by the home folder, as a shell does.

    Raises ValueError when this user has no home. The `~` before a name that no user has stays.
    """
    found = os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises for a file called ~name
    if re.match(r"~([/\\]|$)", found):
        raise ValueError(f"this user has no home folder to put in place of ~ in {text!r}; write the whole path")
    return found


def cache_folder() -> Path:
    """Where copies of what lies elsewhere are kept: $XDG_CACHE_HOME/lesion, else ~/.cache/lesion.

    Raises OutputError for a user without either.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lesion"
    except RuntimeError as error:
        raise OutputError("this user has no home for a cache", hint="set XDG_CACHE_HOME to a folder") from error


@contextmanager
def hold_lock(path: Path, work: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` for a block, and remove it afterwards. A killed process does not keep its lock.

    Args:
        path: lock file, in a folder that exists.
        work: what the block does, for messages: "write the dataset ROOT".
        wait_s: seconds to wait for another process or thread that holds the lock.

    Raises OutputError when another one still holds it, or the file cannot be made.
    """
    end, told = monotonic() + wait_s, False
    while True:
        try:
            file = path.open("a+b")
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror or error}", hint="check the folder's permissions and free space"
            ) from error
        with file:
            # The holder before us removes the file: a lock on what has no name any more excludes nobody.
            if (taken := try_lock(file)) and _has_name(file, path):
                try:
                    yield
                finally:
                    with suppress(OSError):  # Windows removes no open file; an unlocked one does no harm
                        path.unlink()
                return
        if not taken and monotonic() >= end:
            raise OutputError(f"cannot {work}: another process does so now", hint="wait until it ends, then try again")
        if not taken and not told:
            told = True
            log.info("waiting to %s: another process does so now", work)
        sleep(_POLL_S)


def _has_name(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def try_lock(file: IO[str] | IO[bytes]) -> bool:
    """Lock `file` until it is closed, however the process ends; False when another process has locked it.

    Some network file systems have no locks: there it is True without a lock, and the log says so once.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 30)  # Windows forbids others to read what is locked; what is written is at the start
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            finally:
                file.seek(0, os.SEEK_END)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if sys.platform == "win32" or error.errno in _LOCKED:
            return False
        # ENOLCK, ENOSYS, EOPNOTSUPP and the like: nobody can hold a lock here.
        device = os.fstat(file.fileno()).st_dev
        if device not in _lockless:
            _lockless.add(device)
            log.warning(
                "the file system of %s has no locks (%s): run no two commands on the same files at once",
                file.name,
                error.strerror or error,
            )
    return True


def sha256(content: bytes | memoryview) -> str:
    """The hex SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()
