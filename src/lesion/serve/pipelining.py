"""Pipelined requests: they wait in the socket, not in memory, and connections take turns to parse theirs."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

REQUESTS_PER_TURN = 8  # pipelined requests, of all connections, that are parsed in one turn of the event loop


class PipelineTurns:
    """Queue of the connections that hold a pipelined request.

    It spreads the requests over turns of the event loop, so that other connections need not wait for all of them.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def join(self, parse: Callable[[], None]) -> None:
        """Call `parse` after those that joined before; must be called in the event loop."""
        self._waiting.append(parse)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(REQUESTS_PER_TURN, len(self._waiting)))]
        self._is_scheduled = False
        self._schedule()
        for parse in batch:
            parse()


class ReadGate(FlowControl):
    """Flow control that reads nothing while the connection holds a pipelined request.

    uvicorn resumes reading for each request and each response. Each time, a pipelining client would add a whole read to
    the buffer, and the server would take one small request from it.
    """

    def __init__(self, transport: Any, holds_request: Callable[[], bool]) -> None:
        """Args: holds_request, whether the connection holds a request that waits for its turn."""
        super().__init__(transport)
        self._holds_request = holds_request

    def resume_reading(self) -> None:
        """Resume reading, unless a request waits."""
        if not self._holds_request():
            super().resume_reading()
