"""An object store of this process, behind memory://, that counts and can be away or slow."""

import time
from pathlib import Path
from typing import Any, ClassVar

from fsspec.implementations.memory import MemoryFileSystem

from tests.conftest import GOLDEN

PLACE = "memory://bucket/model.onnx"
TINY, TINY2 = ((GOLDEN / name).read_bytes() for name in ("tiny.onnx", "tiny2.onnx"))


class Bucket(MemoryFileSystem):
    """The store; its state is the class's."""

    away: ClassVar[bool] = False
    downloads: ClassVar[int] = 0
    hold_s: ClassVar[float] = 0.0

    @classmethod
    def reset(cls, content: bytes = TINY) -> None:
        """Be there, with `content` at PLACE and nothing else."""
        cls.away, cls.downloads, cls.hold_s = False, 0, 0.0
        cls.store.clear()
        cls.put(content)

    @classmethod
    def put(cls, content: bytes, path: str = "/bucket/model.onnx") -> None:
        """Somebody puts a file there."""
        cls(skip_instance_cache=True).pipe_file(path, content)

    def info(self, path: str, **words: Any) -> Any:
        self._answer()
        return super().info(path, **words)

    def open(self, path: str, mode: str = "rb", **words: Any) -> Any:
        self._answer()
        Bucket.downloads += mode == "rb"
        return super().open(path, mode, **words)

    def put_file(self, local: str | Path, path: str, **words: Any) -> None:
        self._answer()
        super().put_file(local, path, **words)

    def _answer(self) -> None:
        time.sleep(Bucket.hold_s)
        if Bucket.away:
            raise ConnectionError("no route to host at https://user:secret@store.example")
