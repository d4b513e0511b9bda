"""Rate limits: exact, bounded, shared through a real Redis, and never a reason for a request to fail or to hang."""

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesion.errors import ConfigError, MissingExtra, TooManyRequests
from lesion.serve import limits
from lesion.serve.limits import LocalLimiter, SharedLimiter, make_limiter, name_client
from tests.conftest import PATIENCE_S

MINUTE = 60.0


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The command line, run by other tests, keeps the log of lesion to itself."""
    monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)
    caplog.set_level(logging.INFO, "lesion")


def test_a_burst_is_admitted_and_then_the_rate() -> None:
    limiter = LocalLimiter(rate=0.5, burst=3)
    assert [limiter.count("a", 1, 100.0) for _ in range(4)] == [0, 0, 0, 2]
    assert limiter.count("a", 1, 101.9) == pytest.approx(0.1)
    assert limiter.count("a", 1, 102.0) == 0
    assert limiter.count("b", 3, 102.0) == 0
    assert [limiter.count("a", 1, 200.0) for _ in range(4)] == [0, 0, 0, 2]  # no more than the burst was saved up


def test_more_images_than_the_burst_need_a_full_bucket_and_leave_a_debt() -> None:
    limiter = LocalLimiter(rate=1, burst=10)
    assert limiter.count("a", 1, 100.0) == 0
    assert limiter.count("a", 32, 100.0) == 1
    assert limiter.count("a", 32, 101.0) == 0
    assert limiter.count("a", 1, 101.0) == 23


@given(
    st.integers(1, 20),
    st.floats(0.1, 50),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), min_size=1, max_size=60),
)
def test_no_stretch_of_time_holds_more_than_burst_and_rate(
    burst: int, rate: float, asked: list[tuple[float, int]]
) -> None:
    limiter, now, admitted = LocalLimiter(rate, burst), 1000.0, [(1000.0, 0)]
    for pause, images in asked:
        now += pause
        images = min(images, burst)
        wait = limiter.count("a", images, now)
        if not wait:
            admitted.append((now, images))
        else:
            assert limiter.count("a", images, now + wait * 0.99 - 1e-6) > 0
            now += wait + 1e-6
            assert limiter.count("a", images, now) == 0
            admitted.append((now, images))
    for start in range(len(admitted)):
        total = sum(images for _, images in admitted[start:])
        assert total <= burst + rate * (admitted[-1][0] - admitted[start][0]) + 1e-6
    assert all(a <= b for (a, _), (b, _) in pairwise(admitted))


@pytest.mark.slow
def test_a_million_clients_do_not_grow_the_memory_nor_free_an_offender() -> None:
    limiter = LocalLimiter(rate=1 / MINUTE, burst=2)
    assert [limiter.count("offender", 1, 50.0) for _ in range(3)] == [0, 0, MINUTE]
    for number in range(1_000_000):
        limiter.count(f"2001:db8::{number:x}", 1, 51.0)
    assert len(limiter._full) == limits.CLIENTS
    assert "offender" not in limiter._full
    assert limiter.count("offender", 1, 52.0) > 0
    assert limiter.count("offender", 1, 50.0 + 2 * MINUTE) == 0


def test_a_flood_of_others_hardly_touches_a_newcomer() -> None:
    limiter = LocalLimiter(rate=1 / MINUTE, burst=5, clients=1000)
    for number in range(20_000):
        limiter.count(f"flood{number}", 1, 50.0)
    admitted = [limiter.count(f"new{number}", 1, 51.0) == 0 for number in range(500)]
    assert all(admitted)


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (61.5, "62")])
def test_the_wait_is_told_in_whole_seconds(seconds: float, told: str) -> None:
    error = TooManyRequests("too many", retry_after_s=seconds)
    assert (error.http_status, error.http_headers) == (429, {"Retry-After": told})


def test_a_rate_of_zero_admits_everything() -> None:
    async def ask() -> float:
        limiter = make_limiter(0, 1, "redis://nowhere.invalid")
        try:
            return sum([await limiter.take("a", 1000) for _ in range(100)])
        finally:
            await limiter.close()

    assert asyncio.run(ask()) == 0


def test_the_rate_is_per_minute() -> None:
    limiter = make_limiter(120, 7)
    assert isinstance(limiter, LocalLimiter)
    assert (limiter.rate, limiter.burst) == (2, 7)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("testclient", "unknown"),
        ("1.2.3.4\n", "unknown"),
        ("9" * 10**6, "unknown"),
        ("\ud800", "unknown"),
    ],
    ids=range(10),
)
def test_one_client_cannot_have_many_names(address: str, client: str) -> None:
    assert name_client(address) == client


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://h:port", "redis://u:pw@h/0?colour=red"])
def test_what_is_no_redis_is_refused_at_the_start(url: str) -> None:
    pytest.importorskip("redis", reason="needs the 'redis' extra")
    with pytest.raises(ConfigError, match=r"serve\.redis") as caught:
        make_limiter(1, 1, url)
    assert "pw" not in caught.value.message


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        make_limiter(1, 1, "redis://localhost")
    assert caught.value.hint == 'pip install "lesion[redis]"'


@contextmanager
def run_redis(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis of the test's own that keeps nothing; killed at the end."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen([program, *words], stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with socket.socket() as attempt:
                    if attempt.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.fixture
def port() -> int:
    """A port of this machine that nobody listens on."""
    pytest.importorskip("redis", reason="needs the 'redis' extra")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def shared(port: int, rate: float = 1.0, burst: int = 10) -> SharedLimiter:
    return SharedLimiter(LocalLimiter(rate / MINUTE, burst), f"redis://127.0.0.1:{port}/0")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things may answer late."""
    monkeypatch.setattr(limits, "TIMEOUT_S", 20.0)


@pytest.mark.usefixtures("patient")
def test_two_servers_share_one_limit_exactly(port: int, tmp_path: Path) -> None:
    async def ask() -> tuple[list[float], float, int, list[float]]:
        one, other = shared(port), shared(port)
        waits = await asyncio.gather(*(each.take("a", 1) for _ in range(60) for each in (one, other)))
        alone = await other.take("b", 10)
        lives = await one._redis.pttl("lesion:images:a")
        more = [await one.take("c", 32), await other.take("c", 1)]
        await one.close()
        await other.close()
        return waits, alone, lives, more

    with run_redis(port, tmp_path):
        waits, alone, lives, more = asyncio.run(ask())
    assert waits.count(0) == 10
    assert all(0 < wait <= MINUTE for wait in waits if wait)
    assert alone == 0
    assert 0 < lives <= 10 * MINUTE * 1000 + 1
    assert more[0] == 0
    assert 22 * MINUTE < more[1] <= 23 * MINUTE


@pytest.mark.usefixtures("patient")
def test_two_processes_share_one_limit(port: int, tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from lesion.serve import limits; limits.TIMEOUT_S = 20.0\n"
        "async def ask():\n"
        "    limiter = limits.make_limiter(1, 10, sys.argv[1])\n"
        "    waits = await asyncio.gather(*(limiter.take('a', 1) for _ in range(40)))\n"
        "    await limiter.close()\n"
        "    print(waits.count(0))\n"
        "asyncio.run(ask())\n"
    )
    with run_redis(port, tmp_path):
        words = [sys.executable, "-c", code, f"redis://127.0.0.1:{port}/0"]
        both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        admitted = [int(process.communicate(timeout=PATIENCE_S)[0]) for process in both]
    assert sum(admitted) == 10


@pytest.mark.usefixtures("patient")
def test_waiting_as_long_as_told_is_enough(port: int, tmp_path: Path) -> None:
    async def ask() -> float:
        limiter = shared(port, rate=600, burst=1)
        assert await limiter.take("a", 1) == 0
        wait = await limiter.take("a", 1)
        assert 0 < wait <= 0.1
        await asyncio.sleep(wait)
        admitted = await limiter.take("a", 1)
        await limiter.close()
        return admitted

    with run_redis(port, tmp_path):
        assert asyncio.run(ask()) == 0


@pytest.mark.usefixtures("patient")
def test_when_redis_dies_this_process_counts_and_when_it_is_back_all_do(
    port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        limiter = shared(port, burst=2)
        with run_redis(port, tmp_path):
            assert await limiter.take("a", 1) == 0
        assert [await limiter.take("a", 1) > 0 for _ in range(4)] == [False, False, True, True]
        monkeypatch.setattr(limits, "PAUSE_S", 0.0)
        limiter._next_try = 0.0
        assert [await limiter.take("a", 1) > 0 for _ in range(4)] == [True] * 4  # each of them tries again
        with run_redis(port, tmp_path):
            assert [await limiter.take("a", 1) > 0 for _ in range(3)] == [False, False, True]
            assert await limiter._redis.exists("lesion:images:a")
        await limiter.close()

    asyncio.run(ask())
    first, second = caplog.messages
    assert first.startswith("Redis does not answer, each server limits on its own: ")
    assert second == "Redis answers again: the limit is shared"


def test_a_redis_that_says_nothing_delays_one_request_by_little(port: int, caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> float:
        limiter = shared(port, burst=100)
        assert await limiter.take("a", 1) == 0
        start = time.perf_counter()
        assert sum([await limiter.take("a", 1) for _ in range(99)]) == 0
        assert await limiter.take("a", 1) > 0
        rest = time.perf_counter() - start
        await limiter.close()
        return rest

    with socket.create_server(("127.0.0.1", port)):
        assert asyncio.run(asyncio.wait_for(ask(), 30)) < 5
    assert len(caplog.messages) == 1


def test_a_redis_that_talks_nonsense_fails_nobody(port: int, caplog: pytest.LogCaptureFixture) -> None:
    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
        await writer.drain()
        writer.close()

    async def ask() -> float:
        limiter = shared(port)
        async with await asyncio.start_server(chatter, "127.0.0.1", port):
            wait = await limiter.take("a", 1)
            await limiter.close()
        return wait

    assert asyncio.run(asyncio.wait_for(ask(), 30)) == 0
    assert len(caplog.messages) == 1


ANSWERS = [b"$3\r\nabc\r\n", b"$0\r\n\r\n", b"*1\r\n:1\r\n", b"+OK\r\n", b"$-1\r\n", b"$3\r\ninf\r\n", b"$3\r\nnan\r\n"]
ANSWERS += [b"$2\r\n-1\r\n", b"$400\r\n" + b"9" * 400 + b"\r\n", b":-5\r\n"]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: repr(answer[:12]))
def test_a_redis_that_answers_no_number_of_seconds_fails_nobody(
    port: int, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    connections = []

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        while words := await reader.read(2**16):
            names = words.upper().count(b"CLIENT") + words.upper().count(b"HELLO")
            writer.write(b"+OK\r\n" * names or answer)
            await writer.drain()
        writer.close()

    async def ask() -> list[float]:
        limiter = shared(port, burst=1)
        server = await asyncio.start_server(lie, "127.0.0.1", port)
        waits = [await limiter.take("a", 1), await limiter.take("a", 1)]
        await limiter.close()
        await asyncio.gather(*connections)
        server.close()
        return waits

    first, second = asyncio.run(asyncio.wait_for(ask(), 30))
    assert first == 0
    assert 0 < second <= MINUTE
    assert caplog.messages[0].startswith("Redis does not answer")


@pytest.mark.usefixtures("patient")
def test_a_client_that_leaves_mixes_up_no_answers(port: int, tmp_path: Path) -> None:
    async def ask() -> list[float]:
        limiter = shared(port, burst=1000)
        for number in range(50):
            task = asyncio.create_task(limiter.take("leaves", 1))
            await asyncio.sleep(0.0002 * (number % 5))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await limiter.take("full", 1000)
        waits = [await limiter.take(name, 1) for name in ("stays", "full", "stays")]
        await limiter.close()
        return waits

    with run_redis(port, tmp_path):
        waits = asyncio.run(ask())
    assert (waits[0], waits[2]) == (0, 0)
    assert waits[1] > 0
