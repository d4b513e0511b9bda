"""What has arrived of a file: bytes on disk, counted and digested as they come."""

import hashlib
import os
from pathlib import Path
from typing import IO

from lesion.data.publishers import RemoteFile
from lesion.errors import LesionError, OutputError
from lesion.files import rename
from lesion.progress import Progress

CHUNK = 1 << 18  # bytes at a time


class Part:
    """What has arrived so far: bytes on disk and their running checksums."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path, self.progress = path, progress
        self.md5, self.sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self.size = self.best = self.received = 0
        self.origins: set[str] = set()

    def resume(self, file: RemoteFile) -> None:
        """Take up what an earlier call left."""
        if not self.path.is_file() or (file.bytes is not None and self.path.stat().st_size > file.bytes):
            self.restart()
            return
        with self.path.open("rb") as handle:
            while chunk := handle.read(CHUNK):
                self._count(chunk)
        self.best = self.size
        if self.size:
            self.origins.add("an earlier run")

    def restart(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)
        self.progress.advance(-self.size)
        self.md5, self.sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self.size, self.origins = 0, set()

    def append(self, handle: IO[bytes], chunk: bytes, url: str) -> None:
        """Write what came from `url`."""
        try:
            handle.write(chunk)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self._count(chunk)
        self.origins.add(url)
        self.received += len(chunk)

    def open(self) -> IO[bytes]:
        """To append to, unbuffered: what was counted is in the file, even if the process is killed."""
        try:
            return self.path.open("ab", buffering=0)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def move(self, target: Path) -> None:
        """Give the whole file its name."""
        try:
            with self.path.open("ab") as handle:  # makes an empty file, too
                os.fsync(handle.fileno())
            rename(self.path, target)
        except OSError as error:
            raise _cannot_write(target, error) from error

    def _count(self, chunk: bytes) -> None:
        self.md5.update(chunk)
        self.sha256.update(chunk)
        self.size += len(chunk)
        self.progress.advance(len(chunk))


def _cannot_write(path: Path, error: OSError) -> LesionError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}", hint="free some space, or check the folder's permissions"
    )
