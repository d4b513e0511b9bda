"""SIGHUP, which asks a server to look for another model, and would end a process that has no handler for it yet."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hang_ups(*, let_in: bool) -> Iterator[None]:
    """Let SIGHUP in, or keep it waiting: one that comes before there is a handler would end the process.

    This thread, and the threads and processes that it starts, inherit the choice. Nothing on Windows.
    """
    if sys.platform == "win32":
        yield
        return
    how = signal.SIG_UNBLOCK if let_in else signal.SIG_BLOCK
    before = signal.pthread_sigmask(how, {signal.SIGHUP})
    try:
        yield
    finally:
        if not let_in and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            # Forget one that came: it was for a server that has ended, and would end the process with its code.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
