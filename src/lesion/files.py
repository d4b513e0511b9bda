"""Files that are either whole or absent, files from strangers, digests, locks, and the cache."""

import errno
import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep
from typing import IO, BinaryIO

from lesion.errors import OutputError

_PATIENCE_S = 2.0  # for readers of a file that is to be replaced, on Windows


def write_atomic(path: Path, content: bytes | memoryview | str) -> None:
    """Write `content` so that a reader, or a crash, sees the old file or the new one, never half of it.

    Raises OutputError when the folder is not writable or the disk is full; the old file is then still there.
    """
    raw = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        # Same folder: a rename is atomic only within one file system.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        rename(Path(temporary), path)
        _sync_folder(path.parent)
    except BaseException as error:  # a second Ctrl-C, too, leaves no half file behind
        if temporary:
            Path(temporary).unlink(missing_ok=True)
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


def _umask() -> int:
    # The only portable way to read the umask is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def ensure_folder(path: Path) -> Path:
    """Create `path` and prove that a file can be written into it, else OutputError: called before long work."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".lesion-"):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write into the folder {path}: {error.strerror or error}",
            hint="name a folder you may write to, or change its permissions",
        ) from error
    return path


def is_writable(folder: Path) -> bool:
    """Whether `folder` is meant to be written to; a root user, whom nothing stops, is held to the mode bits, too."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def cache_folder() -> Path:
    """Where copies of what lies elsewhere are kept: $XDG_CACHE_HOME/lesion, else ~/.cache/lesion.

    Raises OutputError for a user without either.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lesion"
    except RuntimeError as error:
        raise OutputError("this user has no home for a cache", hint="set XDG_CACHE_HOME to a folder") from error


def try_lock(file: IO[str]) -> bool:
    """Lock `file` until it is closed, however the process ends; False when another process has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 30)  # Windows forbids others to read what is locked; what is written is at the start
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sha256(content: bytes | memoryview) -> str:
    """The hex SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()
