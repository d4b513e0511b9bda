"""Clients at a given rate, whatever the server does: a new request does not wait for the answers to others."""

import asyncio
import gc
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector
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


class Line:
    """A connection of `call_at_rates`."""

    def __init__(self, address: tuple[str, int], room: int) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)  # so that sending waits for nobody
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked = -1  # number of the stream
        self.due = 0.0
        self.text = b""

    def ask(self, stream: int, request: bytes, due: float) -> None:
        """Send a request that was due then."""
        self.asked, self.due, self.text = stream, due, b""
        self.socket.sendall(request)

    def read(self) -> Answer | None:
        """The answer, once all of it has come; status 0 when the connection broke."""
        try:
            piece = self.socket.recv(2**16)
        except ConnectionError:
            piece = b""
        self.text += piece
        head, _, body = self.text.partition(b"\r\n\r\n")
        if piece and len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 2**30):
            return None
        return Answer(int(head[9:12]) if piece else 0, perf_counter() - self.due, head, body)


def call_at_rates(
    address: tuple[str, int], seconds: float, *streams: tuple[bytes, float], patience_s: float = 60
) -> list[list[Answer]]:
    """Requests of several streams, each as often per second as it says, and their answers by stream.

    The time of an answer counts from when its request was due. In a plain loop, since the client's work is missing for
    the server's on a machine that they share.
    """
    gc.disable()  # it would stop the client for longer than what is measured
    answers: list[list[Answer]] = [[] for _ in streams]
    start, sent, free, busy = perf_counter(), [0] * len(streams), list[Line](), 0
    with DefaultSelector() as selector:
        while True:
            now = perf_counter() - start
            for i, (request, rate) in enumerate(streams):
                while sent[i] < int(rate * seconds) and sent[i] / rate <= now:
                    if not free:
                        free.append(Line(address, 2 * len(request) + 2**16))
                        selector.register(free[0].socket, EVENT_READ, free[0])
                    free.pop().ask(i, request, start + sent[i] / rate)
                    sent[i], busy = sent[i] + 1, busy + 1
            due = [sent[i] / rate for i, (_, rate) in enumerate(streams) if sent[i] < int(rate * seconds)]
            if not (due or busy) or now > seconds + patience_s:
                break
            for key, _ in selector.select(max(0.0, min(due) - now) if due else patience_s):
                line: Line = key.data
                answer = line.read()
                if answer is None:
                    continue
                if line.asked >= 0:
                    answers[line.asked].append(answer)
                    busy -= 1
                    line.asked = -1
                if answer.status and b"connection: close" not in answer.head:
                    free.append(line)
                else:
                    free = [other for other in free if other is not line]
                    selector.unregister(line.socket)
                    line.socket.close()
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    gc.enable()
    return answers


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
