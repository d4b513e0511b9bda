"""HTTP/1.1 connections: uvicorn's httptools protocol with limits on time and size, one request at a time."""

import asyncio
import re
import socket
from contextlib import suppress
from time import monotonic
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lesion.serve.door import Door
from lesion.serve.pipelining import PipelineTurns, ReadGate
from lesion.serve.problems import Refused

MAX_HEAD = 64 * 2**10  # bytes of a request line with its headers; also of chunk extensions and trailers
MAX_HEADERS = 200  # counted while they are parsed; `frame.MAX_HEADERS` is the documented limit
MAX_REFUSED = 2**20  # bytes beyond the largest request body that are read, and dropped, after the response
MAX_READ = 2**16  # bytes of one read: bounds the work between two turns of the event loop, and the memory
HEAD, BODY, DONE = "head", "body", "done"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_UPGRADE = re.compile(rb"(?i)\nupgrade[ \t]*:[^\n]*")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class EarlyResponse:
    """Stands for uvicorn's request-response cycle when a request was answered without the application."""

    response_started = response_complete = True
    disconnected = False
    message_event = asyncio.Event()


class Connection(HttpToolsProtocol):
    """One client connection.

    - **One request at a time.** Bytes behind a request stay unparsed until that request is answered. Pipelined requests
      are answered in turn, cannot affect the one before them, and do not fill the memory.
    - **Timeouts.** A request must arrive within `receive_s` seconds of its first byte (the first one: of the
      connection), its head in half of that. A client that does not read its response is disconnected after as long.
    - **Refused bodies.** The body of a request that was answered early is still read, because many clients would
      otherwise report a broken connection instead of the response; at most `max_bytes` + MAX_REFUSED bytes of it.
    - **Upgrades** (h2c, WebSocket) are not supported. RFC 9110, section 7.8, lets a server ignore them; httptools would
      stop parsing, so the header is removed.
    - **Half-closed clients** (`nc -N`) get their response.
    """

    def __init__(
        self,
        *,
        door: Door,
        turns: PipelineTurns,
        receive_s: float,
        max_bytes: int,
        max_connections: int,
        **uvicorn: Any,
    ) -> None:
        """Args: door, answers without the application; turns, of the server; limits; and uvicorn's own arguments."""
        super().__init__(**uvicorn)
        self._door, self._turns = door, turns
        self._receive_s, self._max_bytes, self._max_connections = receive_s, max_bytes, max_connections
        self._stage = HEAD  # how much of the latest request was parsed
        self._buffer = bytearray()  # bytes that were not parsed yet
        self._searched = 0  # bytes at the start of the buffer that hold no end of a head
        self._taken = 0  # bytes of the latest request's body
        self._remaining: int | None = 0  # bytes of the body that were not parsed; None: the body is chunked
        self._chunk = 0  # bytes of the current chunk that were not parsed
        self._since: float | None = monotonic()  # when the request began that is arriving
        self._last_read = monotonic()
        self._stuck: float | None = None  # since when the client has not read
        self._half_closed = False
        self._refused: Refused | None = None  # why the parser stopped

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received, parsed or answered."""
        return not self._buffer and self._is_answered and self._stage != BODY

    # asyncio calls these

    def connection_made(self, transport: Any) -> None:
        """Accept a connection; if there are too many, the one that was idle longest is closed."""
        super().connection_made(transport)
        self.flow = ReadGate(transport, lambda: self._stage == DONE and bool(self._buffer))
        if hasattr(transport, "max_size"):
            transport.max_size = MAX_READ
        if len(self.connections) > self._max_connections:
            peers = [each for each in self.connections if isinstance(each, Connection) and each is not self]
            stay = [each for each in peers if not each.transport.is_closing()]
            idle = [each for each in stay if each.is_idle]
            if len(stay) >= self._max_connections:
                min(idle, key=lambda each: each._last_read, default=self).transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse what belongs to the current request, and keep the rest."""
        self._unset_keepalive_if_required()
        self._last_read = monotonic()
        if self._stage == BODY and not self._buffer and self._remaining is not None and len(data) <= self._remaining:
            self._remaining -= len(data)
            self._feed(data)  # most of a large body, without a copy
            self._start_keep_alive_timer()
        else:
            self._buffer += data
            self._parse()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for the response if a complete request waits for one."""
        waits = self._stage == DONE and (bool(self._buffer) or not self._is_answered)
        if not waits or self.scheme == "https":  # asyncio cannot keep a TLS connection half open
            return False
        self._half_closed = True
        # A client that only shut down its writing side ignores this; one that is gone answers with a reset. There is
        # no other way to tell the two apart.
        if self.scope["http_version"] == "1.1" and not self.cycle.response_started:
            self.transport.write(_CONTINUE)
        return True

    # httptools calls these

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._stage = HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header was parsed."""
        if len(self.headers) >= MAX_HEADERS:
            self._stop(Refused(431, "too_many_headers", f"more than {MAX_HEADERS} headers"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head was parsed: judge it, and hand the request to the application unless it is rejected early."""
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._stop(Refused(505, "http_version_not_supported", "HTTP/1.1 expected"))
        if version == "1.1" and sum(name == b"host" for name, _ in self.headers) != 1:
            self._stop(Refused(400, "bad_host", "exactly one Host header expected"))
        self._taken, self._chunk, self._remaining = 0, 0, self._measure_body()
        answer = self._door.refuse(self.parser.get_method(), self.url, self.scope) if self._may_reject else None
        if answer is None:
            super().on_headers_complete()
        else:
            self.transport.write(answer)
            self.server_state.total_requests += 1
            self.cycle = EarlyResponse()  # type: ignore[assignment]
        self._stage = BODY

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._stage, self._since = DONE, None
        super().on_message_complete()

    # uvicorn calls this

    def on_response_complete(self) -> None:
        """The response was written: go on with the bytes behind its request."""
        super().on_response_complete()
        if self._buffer and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._turns.join(self._parse)
        elif self._half_closed:
            self.transport.close()

    # The server calls these

    def hurry(self, receive_s: float) -> None:
        """Stop receiving requests that have not arrived within `receive_s` seconds from now."""
        if self._since is not None:
            self._since = min(self._since, monotonic() + receive_s - self._receive_s)

    def look(self, now: float) -> None:
        """Close the connection if the client is late with its request, does not read, or is gone."""
        unread = self.transport.get_write_buffer_size() > 0
        self._stuck = (self._stuck or now) if unread else None
        if (self._stuck is not None and now - self._stuck > self._receive_s) or self._is_gone():
            self._forget()
            self.transport.abort()
        elif self._since is not None and now - self._since > self._receive_s / (2 if self._stage == HEAD else 1):
            self._end(Refused(408, "request_timeout", "the request did not arrive in time"))

    def _is_gone(self) -> bool:
        """Whether a half-closed client is gone; asyncio no longer watches its socket."""
        found: socket.socket | None = self.transport.get_extra_info("socket") if self._half_closed else None
        return found is not None and found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    @property
    def _may_reject(self) -> bool:
        """Whether an early response leaves the connection in a known state."""
        return (
            self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1" and not self.flow.write_paused
        )

    def _measure_body(self) -> int | None:
        """The length of the body, None if it is chunked; refuses other transfer encodings (RFC 9112, section 6.1)."""
        coding = b",".join(value for name, value in self.headers if name == b"transfer-encoding").strip().lower()
        if coding == b"chunked":
            return None
        if coding:
            self._stop(Refused(501, "unknown_encoding", "only the transfer encoding chunked is supported"))
        length = next((value for name, value in self.headers if name == b"content-length"), b"0").strip()
        return int(length[:20]) if length.isdigit() else 0  # httptools has refused what is no number

    def _stop(self, error: Refused) -> None:
        """Let the parser stop: whatever a callback raises becomes an error of `feed_data`."""
        self._refused = error
        raise error

    def _parse(self) -> None:
        """Parse the buffer up to the end of a request that is not answered yet, or to what is incomplete."""
        while self._buffer and not self.transport.is_closing():
            if self._stage == DONE:
                if not self._is_answered:
                    self.flow.pause_reading()
                    return
                self._strip()
                if not self._buffer:
                    break
                self._stage, self._since = HEAD, monotonic()
            piece = self._take_head() if self._stage == HEAD else self._take_body()
            if not piece:
                break
            self._feed(piece)
            if self._stage == DONE and self._is_answered and self._buffer:  # answered early: let others go on, too
                self._turns.join(self._parse)
                return
        if self._stage != BODY:  # the application asks for the rest of a body
            self.flow.resume_reading()
        if self._half_closed and self._is_answered:  # an incomplete request will stay so
            self.transport.close()
        self._start_keep_alive_timer()

    def _start_keep_alive_timer(self) -> None:
        """Limit the time between requests; uvicorn does not when a body, or an empty line, follows the response."""
        if self._stage == DONE and self.is_idle and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _feed(self, piece: bytes) -> None:
        if self._stage == BODY:
            self._taken += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # CONNECT; the application answers that it is not allowed
            self._stage, self.cycle.keep_alive = DONE, False
        except httptools.HttpParserError:
            refused = self._refused or Refused(400, "malformed_request", "this is not a valid HTTP/1.1 request")
            self._end(refused)
            return
        if self._stage == BODY and self._is_answered and self._taken > self._max_bytes + MAX_REFUSED:
            self._end()

    def _take_head(self) -> bytes | None:
        """Remove a complete head from the buffer, without its Upgrade header; None while it is incomplete."""
        self._strip()
        found = _END_OF_HEAD.search(self._buffer, max(0, self._searched - 2))
        self._searched = 0 if found else len(self._buffer)
        if (found.end() if found else len(self._buffer)) > MAX_HEAD:
            self._end(Refused(431, "head_too_large", f"the request line and headers exceed {MAX_HEAD} bytes"))
            return None
        return _UPGRADE.sub(b"", self._cut(found.end())) if found else None

    def _take_body(self) -> bytes | None:
        """Remove what belongs to the current body from the buffer; None while a chunk's header is incomplete."""
        if self._remaining is None:
            return self._take_chunks()
        size = min(self._remaining, len(self._buffer)) or len(self._buffer)
        self._remaining -= min(self._remaining, size)
        return self._cut(size)

    def _take_chunks(self) -> bytes | None:
        """Remove chunks up to the end of the body. The framing only limits what is parsed; httptools judges it."""
        end = min(self._chunk, len(self._buffer))
        self._chunk -= end
        while self._chunk == 0 and end < len(self._buffer):
            found = _CHUNK_SIZE.match(self._buffer, end)
            if found is None and b"\n" in self._buffer[end:]:
                return self._cut(len(self._buffer))  # httptools says what is wrong
            size = int(found[1], 16) if found else 0
            if found is None or size == 0:  # a chunk's header that is incomplete, or the last one and its trailers
                trailer = _END_OF_HEAD.search(self._buffer, found.end() - 1) if found else None
                if trailer is None and len(self._buffer) - end > MAX_HEAD:
                    self._end(Refused(431, "head_too_large", f"chunk extensions or trailers exceed {MAX_HEAD} bytes"))
                    return None
                return self._cut(trailer.end() if trailer else end)
            whole = found.end() + size + 2
            end, self._chunk = min(whole, len(self._buffer)), max(0, whole - len(self._buffer))
        return self._cut(end)

    def _cut(self, size: int) -> bytes:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    def _strip(self) -> None:
        """Drop empty lines before a request (RFC 9112, section 2.2)."""
        if self._buffer.startswith((b"\r", b"\n")):
            self._buffer = bytearray(self._buffer.lstrip(b"\r\n"))

    def _end(self, error: Refused | None = None) -> None:
        """Close the connection, with a response if the client still waits for one."""
        if self.transport.is_closing():
            return
        waits = self._is_answered if self._stage != BODY else not self.cycle.response_started
        if error is not None and waits:  # otherwise it would stand in the middle of another response
            self.transport.write(self._door.reject(error, self.client))
        self._forget()
        self.transport.close()

    def _forget(self) -> None:
        """Tell the application that its client is gone."""
        self._buffer.clear()
        if self.cycle is not None:
            self.cycle.disconnected = True
            with suppress(RuntimeError):
                self.cycle.message_event.set()
