"""Clients at a given rate, whatever the server does: a new request does not wait for the answers to others."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    status: int
    """0 when the connection broke."""
    seconds: float
    head: bytes
    body: bytes


class Caller:
    """Connections that are used again, and opened as they are needed."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes, timeout_s: float = 60) -> Answer:
        """Send a request's bytes; the answer, or status 0."""
        start = perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = self._free.pop() if self._free else await asyncio.open_connection(*self.address)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                body = await reader.readexactly(length)
        except (OSError, EOFError, TimeoutError):
            return Answer(0, perf_counter() - start, b"", b"")
        seconds = perf_counter() - start
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._free.append((reader, writer))
        return Answer(int(head[9:12]), seconds, head, body)

    def close(self) -> None:
        """Close what is open."""
        for _, writer in self._free:
            writer.close()
        self._free.clear()


def post(content: bytes, kind: str = "image/jpeg", path: str = "/v1/predict") -> bytes:
    """The bytes of a request with an image."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def get(path: str) -> bytes:
    """The bytes of a request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def call_at_rate(caller: Caller, request: bytes, rate: float, seconds: float) -> list[Answer]:
    """`rate` requests per second for so many seconds, and their answers."""
    start, loop = perf_counter(), asyncio.get_running_loop()
    tasks = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - perf_counter()))
        tasks.append(loop.create_task(caller.ask(request)))
    return list(await asyncio.gather(*tasks))


async def call_in_turn(caller: Caller, request: bytes, clients: int, seconds: float) -> list[Answer]:
    """So many clients for so many seconds, each of which waits for its answer before it asks again."""
    end = perf_counter() + seconds

    async def go_on() -> list[Answer]:
        answers = []
        while perf_counter() < end:
            answers.append(await caller.ask(request))
        return answers

    return [answer for part in await asyncio.gather(*(go_on() for _ in range(clients))) for answer in part]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so many of them are at most; 0 of none."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)] if ranked else 0.0
