"""Connections that do not take forever: uvicorn alone waits for the end of a request as long as the client likes."""

from asyncio import Event
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from time import monotonic
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

Refuse = Callable[[bytes, bytes, Mapping[str, Any]], bytes | None]
MAX_HEAD = 64 * 2**10  # bytes of a request line with its headers
MAX_HEADERS = 200  # counted while they come; `frame` has the limit that is told
MORE = 2**20  # bytes beyond those of the largest request that are taken in, and dropped, after it was refused
HEAD, BODY, DONE = "head", "body", "done"
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Deadlines:
    """Mixin before a protocol of uvicorn, whose `stage` says how much has come of the latest request.

    A request must have come within `receive_s` seconds from its first byte, the first one from the connection; its
    headers in half of that. Whoever does not read the answer has as long. A request that was refused is still taken in,
    for else many a client would see a broken connection and no answer; but not more than `max_bytes` and MORE of it.
    """

    receive_s: float
    max_bytes: int
    stage: str
    transport: Any
    loop: Any
    cycle: Any
    timeout_keep_alive: int
    timeout_keep_alive_task: Any
    timeout_keep_alive_handler: Any

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)  # type: ignore[misc]
        self._since: float | None = monotonic()  # when the request began that is coming
        self._stuck: float | None = None  # since when the client has not read
        self._taken = 0

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._since is None:
            self._since, self._taken = monotonic(), 0
        self._taken += len(data)
        before = self.cycle
        super().data_received(data)  # type: ignore[misc]
        if self.cycle is not before:  # another request began in the middle of this piece
            self._since, self._taken = monotonic(), len(data)
        if self.stage == DONE:
            self._since = None
            # What came may be the rest of a refused request; uvicorn then forgets to close the connection when idle.
            if self._is_answered and self.timeout_keep_alive_task is None:
                idle = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
                self.timeout_keep_alive_task = idle
        elif self.stage == HEAD:
            if self._taken > MAX_HEAD:
                self._end(TOO_LARGE)
        elif self._is_answered and self._taken > self.max_bytes + MORE:
            self._end()

    def hurry(self, receive_s: float) -> None:
        """Take nothing any more that has not come within so many seconds from now."""
        if self._since is not None:
            self._since = min(self._since, monotonic() + receive_s - self.receive_s)

    def look(self, now: float) -> None:
        """End the connection if the client is late with its request, or with reading the answer."""
        unread = self.transport.get_write_buffer_size() > 0
        self._stuck = (self._stuck or now) if unread else None
        if self._stuck is not None and now - self._stuck > self.receive_s:
            self._forget()
            self.transport.abort()
        elif self._since is not None and now - self._since > self.receive_s / (2 if self.stage == HEAD else 1):
            self._end(TIMEOUT)

    @property
    def _is_answered(self) -> bool:
        return self.cycle is not None and bool(self.cycle.response_complete)

    def _end(self, words: bytes = b"") -> None:
        if self.transport.is_closing():
            return
        waits = self.cycle is None or (self._is_answered if self.stage == HEAD else not self.cycle.response_started)
        if waits:  # else the words would stand in the middle of an answer
            self.transport.write(words)
        self._forget()
        self.transport.close()

    def _forget(self) -> None:
        if self.cycle is not None:  # else the application would go on to write for a moment
            self.cycle.disconnected = True
            self.cycle.message_event.set()


class Refusal:
    """What stands in a protocol of uvicorn for a request that was answered without the application."""

    response_started = response_complete = True
    disconnected = False
    message_event = Event()


class TimedH11(Deadlines, H11Protocol):
    """For where httptools is not installed."""

    @property
    def stage(self) -> str:  # type: ignore[override]
        """How much has come of the latest request."""
        state = self.conn.their_state
        if state is h11.IDLE:
            return HEAD if self.cycle is None or self.conn.trailing_data[0] else DONE
        return BODY if state is h11.SEND_BODY else DONE


def choose_protocol(receive_s: float, max_bytes: int, refuse: Refuse) -> type[Any]:
    """The protocol class for a server whose clients have `receive_s` seconds to send a request of `max_bytes`.

    `refuse` sees the method, target and ASGI scope of each head, and may answer in the application's place (with
    httptools; else the application does it).
    """
    base = _time_httptools(refuse) if find_spec("httptools") else TimedH11
    return type("Protocol", (base,), {"receive_s": receive_s, "max_bytes": max_bytes})


def _time_httptools(refuse: Refuse) -> type[Any]:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class TimedHttpTools(Deadlines, HttpToolsProtocol):
        stage = HEAD

        def on_message_begin(self) -> None:
            self.stage = HEAD
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            if len(self.headers) >= MAX_HEADERS:
                raise ValueError("too many headers")  # becomes a 400
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self.stage = BODY
            words = refuse(self.parser.get_method(), self.url, self.scope) if self._is_plain else None
            if words is None:
                super().on_headers_complete()
                return
            self.transport.write(words)
            self.server_state.total_requests += 1
            self.cycle = Refusal()

        @property
        def _is_plain(self) -> bool:
            """Whether nothing but this request is to be thought of: none before it, no other protocol, no end."""
            parser, lasts = self.parser, self.parser.should_keep_alive() and not self.parser.should_upgrade()
            free = self.cycle is None or self.cycle.response_complete
            return free and lasts and parser.get_http_version() == "1.1" and not self.flow.write_paused

        def on_message_complete(self) -> None:
            self.stage = DONE
            super().on_message_complete()

    return TimedHttpTools
