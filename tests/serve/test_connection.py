"""Connections: timeouts, limits, framing, pipelining, upgrades and half-closed clients."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from lesion.config.serving import ServeConfig
from lesion.errors import ConfigError
from lesion.serve.app import create_app
from lesion.serve.connection import MAX_REFUSED
from lesion.serve.process import Server, listen
from lesion.serve.slot import Serving, Slot
from tests.conftest import PATIENCE_S
from tests.serve.conftest import PICTURE

RECEIVE_S = 1.0
POST = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def address(tiny_serving: Serving) -> Iterator[tuple[str, int]]:
    """A server in a thread, which waits one second for a request."""
    settings = ServeConfig(receive_s=RECEIVE_S, keep_alive_s=2, max_upload_mb=1)
    server = Server(create_app(Slot(tiny_serving), settings), settings)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        address = listener.getsockname()
        thread.start()
        yield address
        server.should_exit = True
        thread.join(20)


def read_all(client: socket.socket) -> tuple[bytes, float]:
    """What comes until the server closes the connection, and how many seconds that takes."""
    start, said = time.monotonic(), b""
    client.settimeout(PATIENCE_S)
    with suppress(ConnectionError):
        while piece := client.recv(2**16):
            said += piece
    return said, time.monotonic() - start


def answer(client: socket.socket) -> bytes:
    """One answer to the end of its body."""
    client.settimeout(PATIENCE_S)
    said = b""
    while b"\r\n\r\n" not in said:
        said += client.recv(2**16)
    head, _, body = said.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(2**16)
    return head + b"\r\n\r\n" + body


UNFINISHED = {
    "silent": (b"", b"408"),
    "line": (b"GET /livez HT", b"408"),
    "headers": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"408"),
    "body": (POST % 1000 + b"\xff\xd8\xff", b"408"),
    "chunk": (POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"5\r\nhe", b"408"),
    "second request": (LIVEZ + b"GET /li", b"200"),
    "stray line": (LIVEZ + b"\r\n", b"200"),
    "idle": (LIVEZ, b"200"),
}


@pytest.fixture(scope="module")
def farewells(address: tuple[str, int]) -> dict[str, tuple[bytes, float]]:
    """What each of these clients hears and after how many seconds it is let go; they wait at the same time."""

    def wait(words: bytes) -> tuple[bytes, float]:
        with socket.create_connection(address) as client:
            client.sendall(words)
            return read_all(client)

    with ThreadPoolExecutor(len(UNFINISHED)) as pool:
        heard = pool.map(wait, (words for words, _ in UNFINISHED.values()))
        return dict(zip(UNFINISHED, heard, strict=True))


@pytest.mark.parametrize("name", UNFINISHED)
def test_whoever_does_not_go_on_is_let_go(name: str, farewells: dict[str, tuple[bytes, float]]) -> None:
    said, seconds = farewells[name]
    assert said.startswith(b"HTTP/1.1 " + UNFINISHED[name][1])
    assert seconds < PATIENCE_S  # it takes between half a second and three


def test_drips_do_not_extend_the_time(address: tuple[str, int]) -> None:
    def drip() -> None:
        with socket.create_connection(address) as client:
            client.sendall(POST % 1000)
            start = time.monotonic()
            try:
                while time.monotonic() - start < PATIENCE_S:
                    client.sendall(b"x")
                    time.sleep(0.1)
            except OSError:
                return
            raise AssertionError

    drip()


def test_two_hundred_slow_clients_hold_nobody_up(address: tuple[str, int]) -> None:
    words = [b"", b"GET /livez HT", POST % 1000 + b"\xff\xd8\xff"]
    slow = [socket.create_connection(address) for _ in range(200)]
    try:
        for number, client in enumerate(slow):
            client.sendall(words[number % 3])
        with socket.create_connection(address) as quick:
            for _ in range(20):
                quick.sendall(POST % len(PICTURE) + PICTURE)
                assert answer(quick).startswith(b"HTTP/1.1 200")
        for client in slow:
            assert read_all(client)[1] < PATIENCE_S
    finally:
        for client in slow:
            client.close()


def test_requests_in_one_piece_are_all_answered(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as client:
        client.sendall((POST % len(PICTURE) + PICTURE) * 3 + LIVEZ)
        said, _ = read_all(client)
    assert said.count(b"HTTP/1.1 200") == 4


def test_a_connection_outlives_a_refusal(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as client:
        client.sendall(POST.replace(b"image/jpeg", b"text/plain") % 50_000)
        assert answer(client).startswith(b"HTTP/1.1 415")
        client.sendall(bytes(50_000))
        client.sendall(POST % len(PICTURE) + PICTURE)
        assert answer(client).startswith(b"HTTP/1.1 200")


def test_what_comes_after_a_refusal_has_a_limit(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as client:
        client.sendall(POST % (400 * 2**20))
        assert answer(client).startswith(b"HTTP/1.1 413")
        sent = 0
        with suppress(ConnectionError):
            while sent < 400 * 2**20:
                sent += client.send(bytes(2**16))
        assert sent < 2**20 + MAX_REFUSED + 16 * 2**20  # the rest is in the buffers of the two sockets


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 100_000 + b"\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\na: " + b"b" * 10**6 + b"\r\n\r\n",
        b"GET /" + b"a" * 10**6 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"b" * 10**6,
    ],
    ids=["headers", "value", "path", "name"],
)
def test_a_head_without_end_is_refused(address: tuple[str, int], head: bytes) -> None:
    with socket.create_connection(address) as client, socket.create_connection(address) as other:
        with suppress(ConnectionError):
            client.sendall(head)
        other.sendall(LIVEZ)
        assert answer(other).startswith(b"HTTP/1.1 200")
        said, _ = read_all(client)
    assert said[9:12] in (b"400", b"414", b"431", b"")  # nothing: the system drops words to who has not read all


@pytest.mark.parametrize(
    "body",
    [
        b"--" + b"x" * 10**6 + b"\r\n",
        b"p" * 10**6 + b"--x\r\n",
        b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n' * 20_000,
        b"--x\r\n" + b"a: b\r\n" * 100_000,
        b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n" + b"--y\r\n" * 100_000,
    ],
    ids=["boundary", "preamble", "parts", "headers", "nested"],
)
def test_a_hostile_form_is_refused(address: tuple[str, int], body: bytes) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection(address) as client, socket.create_connection(address) as other:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        with suppress(ConnectionError):
            client.sendall(body)
        other.sendall(LIVEZ)
        assert answer(other).startswith(b"HTTP/1.1 200")
        said = answer(client)
    assert said[9:12] in (b"400", b"413", b"422")


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1, 2", b"99999999999999999999999999"])
def test_a_length_that_is_none_is_a_bad_request(address: tuple[str, int], length: bytes) -> None:
    with socket.create_connection(address) as client:
        client.sendall((POST % 1).replace(b"Length: 1", b"Length: " + length) + b"x")
        said, _ = read_all(client)
    assert said[9:12] in (b"400", b"413")


def test_lengths_that_differ_are_a_bad_request(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as client:
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")
        said, _ = read_all(client)
    assert said[9:12] == b"400"


def test_a_client_that_does_not_read_is_let_go(address: tuple[str, int]) -> None:
    asked = 0
    with socket.create_connection(address) as client:
        client.settimeout(0.5)
        with suppress(TimeoutError, ConnectionError):  # then the server does not read either
            while True:
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                asked += 100
        time.sleep(2.5 * RECEIVE_S)
        said, _ = read_all(client)
    assert said.count(b"HTTP/1.1 200") < asked


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_answer_waits_for_a_clients_acknowledgement(host: str) -> None:
    try:
        listener = listen(host, 0)
    except ConfigError:
        pytest.skip(f"no {host} here")
    with listener, socket.create_connection(listener.getsockname()[:2]):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
