"""Connections: timeouts, limits, framing, pipelining, upgrades and half-closed clients."""

import asyncio
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from lesion.config.serving import ServeConfig
from lesion.errors import ConfigError
from lesion.serve.app import create_app
from lesion.serve.connection import MAX_REFUSED, Connection
from lesion.serve.door import Door
from lesion.serve.jobs import Job
from lesion.serve.pipelining import PipelineTurns
from lesion.serve.process import Server, count_accepts, count_connections, listen
from lesion.serve.service import Service
from lesion.serve.slot import Serving, Slot
from tests.conftest import PATIENCE_S
from tests.serve.conftest import PICTURE, App

RECEIVE_S = 1.0
POST = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def running(
    serving: Serving, config: ServeConfig, first: Callable[[tuple[str, int]], object] = lambda address: None
) -> Iterator[tuple[tuple[str, int], Service]]:
    """A server in a thread: its address and its parts; `first` is called with the address before it accepts."""
    app = create_app(Slot(serving), config)
    server = Server(app, config)
    with listen("127.0.0.1", 0) as listener:
        first(listener.getsockname())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname(), app.state.service
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def server(tiny_serving: Serving) -> Iterator[tuple[tuple[str, int], Service]]:
    """A server that waits one second for a request."""
    with running(tiny_serving, ServeConfig(receive_s=RECEIVE_S, keep_alive_s=1, max_upload_mb=1)) as found:
        yield found


@pytest.fixture(scope="module")
def address(server: tuple[tuple[str, int], Service]) -> tuple[str, int]:
    return server[0]


@pytest.fixture(scope="module")
def service(server: tuple[tuple[str, int], Service]) -> Service:
    return server[1]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


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


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
ASK = POST % len(PICTURE) + PICTURE


def statuses(said: bytes) -> list[bytes]:
    """The status of each response, without 100."""
    return [piece[:3] for piece in re.split(rb"HTTP/1.1 (?=\d)", said)[1:] if piece[:3] != b"100"]


def exchange(address: tuple[str, int], *pieces: bytes, half_close: bool = False) -> bytes:
    """What a client hears that sends these pieces one by one, until the connection ends."""
    with socket.create_connection(address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.05)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        return read_all(client)[0]


@pytest.mark.parametrize("upgrade", [UPGRADE, UPGRADE.replace(b"h2c", b"websocket"), b"uPgRaDe : h2c\r\n"])
def test_an_upgrade_is_ignored_and_the_body_kept(address: tuple[str, int], upgrade: bytes) -> None:
    post, get = ASK.replace(b"Host: x\r\n", b"Host: x\r\n" + upgrade), LIVEZ[:-2] + upgrade + b"\r\n"
    assert statuses(exchange(address, post + post + get + LIVEZ)) == [b"200"] * 4
    assert statuses(exchange(address, post[:60], post[60:200], post[200:], get)) == [b"200"] * 2


@pytest.mark.parametrize(
    "pieces",
    [
        (ASK + b"GET /livez HTT", b"P/1.1\r\nHost: x\r\n\r\n"),
        (LIVEZ, ASK + b"GET /livez HTT", b"P/1.1\r\nHost: x\r\n\r\n"),
        (ASK + b"\r\n", b"\r\n" + ASK + b"\r\n\r\n"),
        (ASK.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1) + LIVEZ,),
    ],
    ids=["half a head", "kept alive", "empty lines", "expect"],
)
def test_what_follows_a_request_does_not_harm_it(address: tuple[str, int], pieces: tuple[bytes, ...]) -> None:
    expected = sum(piece.count(b"Host: x") for piece in pieces)
    found = statuses(exchange(address, *pieces))
    assert found[:expected] == [b"200"] * expected
    assert set(found[expected:]) <= {b"408"}


def test_garbage_behind_a_request_does_not_lose_its_response(address: tuple[str, int]) -> None:
    said = exchange(address, ASK + b"\x00garbage\r\n\r\n" + LIVEZ)
    assert statuses(said) == [b"200", b"400"]
    assert b'"code": "malformed_request"' in said


def test_a_burst_of_pipelined_requests_is_answered_one_by_one(address: tuple[str, int]) -> None:
    count = 1000
    with socket.create_connection(address) as client:
        sender = threading.Thread(target=client.sendall, args=(LIVEZ * count,))
        sender.start()
        said, _ = read_all(client)
        sender.join()
    assert statuses(said) == [b"200"] * count


@pytest.mark.parametrize("words", [ASK, LIVEZ, ASK.replace(b"HTTP/1.1", b"HTTP/1.0"), LIVEZ + ASK])
def test_a_client_that_closed_its_side_gets_its_response(address: tuple[str, int], words: bytes) -> None:
    said = exchange(address, words, half_close=True)
    assert statuses(said) == [b"200"] * words.count(b"Host: x")


def test_a_client_that_closed_its_side_amid_a_request_is_let_go(address: tuple[str, int]) -> None:
    assert exchange(address, ASK[:-10], half_close=True) == b""


def test_the_job_of_a_client_that_went_away_is_cancelled(
    address: tuple[str, int], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr(service.pipeline, "submit", jobs.extend)
    with socket.create_connection(address) as client:
        client.sendall(ASK)
        wait_for(lambda: bool(jobs))
    wait_for(lambda: jobs[0].future.cancelled())


@pytest.mark.parametrize("path", [b"/livez", b"/readyz", b"/metrics", b"/", b"/openapi.json", b"/v1/model"])
def test_head_is_get_without_a_body(address: tuple[str, int], path: bytes) -> None:
    ask = b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    head, _, body = exchange(address, b"HEAD" + ask).partition(b"\r\n\r\n")
    whole, _, _ = exchange(address, b"GET" + ask).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b""
    names = [{line.partition(b":")[0] for line in each.split(b"\r\n")} for each in (head, whole)]
    assert names[0] == names[1]


def test_http_1_0_is_answered_and_closed(address: tuple[str, int]) -> None:
    said = exchange(address, ASK.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: x\r\n", b""))
    assert statuses(said) == [b"200"]
    assert b"connection: close" in said


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (LIVEZ.replace(b"Host: x\r\n", b""), b"400"),
        (LIVEZ.replace(b"Host: x", b"Host: x\r\nHost: x"), b"400"),
        (LIVEZ.replace(b"HTTP/1.1", b"HTTP/2.0"), b"505"),
        (LIVEZ.replace(b"Host: x", b"Host: evil.example"), b"421"),
        (LIVEZ.replace(b"Host: x", b"Host: evil.example:8000"), b"421"),
        (LIVEZ.replace(b"Host: x", b"Host: [::1]:8000"), b"200"),
        (LIVEZ.replace(b"Host: x", b"Host: 127.0.0.1:8000"), b"200"),
        (LIVEZ.replace(b"Host: x", b"Host: LocalHost."), b"200"),
        (ASK.replace(b"Content-Length", b"Transfer-Encoding: gzip, chunked\r\nX-Length"), b"501"),
        (ASK.replace(b"Content-Length", b"Transfer-Encoding: identity\r\nX-Length"), b"501"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(1000), b"400"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_a_head_is_judged_before_the_application_is_asked(
    address: tuple[str, int], words: bytes, status: bytes
) -> None:
    assert statuses(exchange(address, words))[:1] == [status]


def test_names_of_a_server_that_is_configured(make_app: App) -> None:
    def ask(host: str, **settings: object) -> int:
        return TestClient(make_app(**settings)).get("/livez", headers={"host": host}).status_code

    assert ask("ward.example", allowed_hosts=["ward.example"]) == 200
    assert ask("evil.example", allowed_hosts=["ward.example"], open=True) == 421
    assert ask("evil.example", open=True) == 200


def test_the_longest_idle_connection_makes_room_for_a_new_one(
    tiny_serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lesion.serve.process.count_connections", lambda: 3)
    with running(tiny_serving, ServeConfig()) as (address, _):
        clients = [socket.create_connection(address) for _ in range(3)]
        for client in clients:
            client.sendall(LIVEZ)
            assert answer(client).startswith(b"HTTP/1.1 200")
        clients[0].sendall(LIVEZ)
        assert answer(clients[0]).startswith(b"HTTP/1.1 200")
        with socket.create_connection(address) as another:
            another.sendall(LIVEZ)
            assert answer(another).startswith(b"HTTP/1.1 200")
        assert read_all(clients[1])[0] == b""
        clients[0].sendall(LIVEZ)
        assert answer(clients[0]).startswith(b"HTTP/1.1 200")
        for client in clients:
            client.close()


def test_of_idle_connections_that_come_together_no_more_stay_than_there_is_room_for(
    tiny_serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lesion.serve.process.count_connections", lambda: 3)
    clients: list[socket.socket] = []

    def crowd(address: tuple[str, int]) -> None:
        clients.extend(socket.create_connection(address) for _ in range(40))

    with running(tiny_serving, ServeConfig(), crowd) as (address, _):
        with socket.create_connection(address) as another:
            another.sendall(LIVEZ)
            assert answer(another).startswith(b"HTTP/1.1 200")
            for client in clients[:38]:  # two stay, and the other one
                assert read_all(client)[0] == b""
                client.close()
        for client in clients[38:]:
            client.sendall(LIVEZ)
            assert answer(client).startswith(b"HTTP/1.1 200")
            client.close()


@pytest.mark.skipif(sys.platform == "win32", reason="limits no open files")
@pytest.mark.parametrize("files", [64, 256, 1024, 1_048_576])
def test_a_burst_of_connections_leaves_files_to_open(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))
    others = 20  # standard streams, the socket that listens, the journal, what the interpreter opens
    assert others + count_connections() + 3 * count_accepts() < files


REQUESTS = st.one_of(
    st.just(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"),
    st.just(b"GET /%d HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n"),
    st.binary(max_size=3000).map(
        lambda body: (
            b"POST /%%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body.replace(b"%", b"%%")
        )
    ),
    st.lists(st.binary(min_size=1, max_size=300), max_size=5).map(
        lambda chunks: (
            b"POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"%x;a=b\r\n" % len(chunk) + chunk.replace(b"%", b"%%") + b"\r\n" for chunk in chunks)
            + b"0\r\nX-Trailer: 1\r\n\r\n"
        )
    ),
)


@settings(max_examples=150, deadline=None)
@given(requests=st.lists(REQUESTS, min_size=1, max_size=6), cuts=st.lists(st.integers(0, 4000), max_size=8))
def test_requests_are_answered_in_turn_however_they_arrive(requests: list[bytes], cuts: list[int]) -> None:
    words = b"".join(request % number for number, request in enumerate(requests))
    said = asyncio.run(talk(words, cuts))
    assert [int(piece) for piece in re.findall(rb"\r\n\r\n/(\d+)", said)] == list(range(len(requests)))


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 4000), max_size=4),
    flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_whatever_arrives_is_answered_or_refused(
    requests: list[bytes], cuts: list[int], flips: list[tuple[int, int]]
) -> None:
    words = bytearray(b"".join(request % number for number, request in enumerate(requests)))
    for place, value in flips:
        words[place % len(words)] = value
    said = asyncio.run(talk(bytes(words), cuts))
    assert all(status in (b"200", b"400", b"408", b"431", b"501", b"505") for status in statuses(said))


async def talk(words: bytes, cuts: list[int]) -> bytes:
    """What a client hears that sends `words` in pieces to a server whose application returns the path."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        path = scope["path"].encode("utf-8", "replace")
        headers = [(b"content-length", b"%d" % len(path))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": path})

    class NoDoor(Door):
        def __init__(self) -> None:
            pass

        def refuse(self, method: bytes, target: bytes, scope: Any) -> None:
            return None

        def reject(self, error: Any, client: Any) -> bytes:
            return b"HTTP/1.1 %d X\r\nconnection: close\r\n\r\n" % error.http_status

    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off")
    config.load()
    failures: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    limits = {"door": NoDoor(), "turns": PipelineTurns(), "receive_s": 5.0, "max_bytes": 10_000, "max_connections": 10}
    state = ServerState()
    make = partial(Connection, config=config, server_state=state, app_state={}, **limits)
    server = await loop.create_server(make, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    edges = [0, *sorted(cut % (len(words) + 1) for cut in cuts), len(words)]
    with suppress(OSError):  # the server may close the connection first
        for start, end in pairwise(edges):
            writer.write(words[start:end])
            await asyncio.sleep(0.001)
        writer.write_eof()
    said = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            said = await reader.read(-1)
    server.close()
    for transport in (writer.transport, *(each.transport for each in state.connections)):
        transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not failures
    return said
