"""The end of the process: when it has to come, and with which exit code, whatever still hangs."""

import logging
import os
import signal
from contextlib import suppress
from threading import Thread
from time import monotonic, sleep

from lesion.serve.logs import flush_logs
from lesion.serve.service import Service

log = logging.getLogger(__name__)
STUCK_CODE = 75  # EX_TEMPFAIL of sysexits.h: whatever started the process is to start it again
INTERRUPTED = 130  # after Ctrl-C, as shells have it
REST_S = 0.8  # for what comes after `serve.drain_s`: journal, traces, log
JOIN_S = 0.3  # that threads have to end


class Ending:
    """Ends the process within `serve.drain_s` and a second of a signal, and without the threads that hang.

    A thread inside onnxruntime or a decoder cannot be ended. An interpreter that ends with such a thread aborts, so the
    process then leaves by `os._exit`, after journal and log.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._code: int | None = None  # what was asked for
        service.pipeline.on_stuck = self._give_up

    def begin(self, code: int) -> None:
        """Let the process end with `code` in time, whatever happens; a later call changes nothing."""
        if self._code is not None:
            return
        self._code = code
        self._service.end_by = monotonic() + self._service.settings.drain_s + REST_S
        with suppress(RuntimeError):  # no more threads now
            Thread(target=self._insist, name="ending", daemon=True).start()

    def finish(self) -> None:
        """Leave at once where threads hang or the process gave up; else return, and let the interpreter end."""
        service = self._service
        if self._code == INTERRUPTED:  # a second Ctrl-C while the interpreter ends would end it without this code
            signal.signal(signal.SIGINT, lambda *_: self._leave())
        service.pipeline.close()
        hangs = not service.pipeline.join(JOIN_S) or service.shadow.is_busy
        hangs = hangs or (service.reloader is not None and not service.reloader.join(JOIN_S))
        if self._code is not None and (hangs or self._code == STUCK_CODE):
            self._leave()

    def _give_up(self) -> None:
        """End the process, since all of its threads hang."""
        log.critical("all threads hang: the process ends with exit code %d, to be started again", STUCK_CODE)
        self.begin(STUCK_CODE)
        signal.raise_signal(signal.SIGTERM)

    def _insist(self) -> None:
        sleep(max(0.0, (self._service.end_by or 0.0) - monotonic()))
        self._leave()

    def _leave(self) -> None:
        service = self._service
        if service.journal:  # closed already, unless something before it hangs
            service.journal.close(0.1)
        flush_logs(0.2)
        os._exit(self._code or 0)
