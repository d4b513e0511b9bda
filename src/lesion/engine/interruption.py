"""Ctrl-C and SIGTERM: a training ends between two steps, anything else at once."""

import signal
import threading
from types import FrameType
from typing import Any

import lightning as L

from lesion.errors import Interrupted, Terminated


class Interruption(L.Callback):
    """A context in which SIGINT and SIGTERM end the work in an orderly way, and the callback that ends a fit so.

    During a fit the step is finished first; a second Ctrl-C does not wait for it. Lightning alone would answer
    SIGTERM with exit code 0. Only the main thread receives signals; in another one nothing is changed.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._in_step = self._closing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        again = self.received is not None and number == signal.SIGINT
        self.received = self.received or number
        if not self._closing and (again or not self._in_step):
            raise KeyboardInterrupt

    def close(self) -> None:
        """From here on signals are only noted: what remains is to write down how it ended."""
        self._closing = True

    def error(self) -> Interrupted:
        """What to raise for the signal that came."""
        if self.received == signal.SIGTERM:
            return Terminated("training was terminated by the system (SIGTERM)")
        return Interrupted("training was interrupted")

    def check(self, *_: Any, **__: Any) -> None:
        """Raise Interrupted, or Terminated, if a signal has come."""
        if self.received is not None:
            raise self.error()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on a signal waits for the end of the step."""
        for number in self._before:
            # Lightning put a handler before ours that calls the other processes from wherever this one is.
            signal.signal(number, self._receive)
        self._in_step = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """No steps any more; what came during the last of them counts now."""
        self._in_step = False
        self.check()

    on_train_batch_end = check
    on_validation_batch_end = check
