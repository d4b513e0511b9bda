"""Hostile clients beside ordinary ones: what they cost, and what the others notice; part of `make soak`."""

import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx
import psutil
import pytest

from tests import bombs
from tests.serve.conftest import PICTURE, Served, serving
from tests.serve.load import call_at_rates, get, post, quantile
from tests.serve.test_soak import say

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc"),
]
MB = 10**6
JPEG = {"content-type": "image/jpeg"}


def processor_s(served: Served) -> float:
    times = psutil.Process(served.process.pid).cpu_times()
    return float(times.user + times.system)


def peak_bytes(served: Served) -> int:
    return 1024 * served.memory("VmHWM")


def warm_up(served: Served) -> None:
    assert httpx.post(f"{served.url}/predict", content=PICTURE, headers=JPEG, timeout=60).status_code == 200


def forget_peak(served: Served) -> None:
    """Let the peak of the memory begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{served.process.pid}/clear_refs").write_text("5")


@pytest.fixture(scope="module")
def images(full: bool) -> dict[str, bytes]:
    """Images that cost much for their size, up to the largest size that is accepted."""
    side, size = (4992, bombs.MAX_BYTES - 4096) if full else (512, 2**19)
    return {
        "1,000 empty scans": bombs.scan_bomb(side, 1000),
        "scans within the limit": bombs.scan_bomb(side, 100),
        "refinements": bombs.refinement_bomb(side, 100),
        "bands": bombs.band_bomb(side),
        "missing data": bombs.missing_data_bomb(side, 100),
        "restart markers": bombs.restart_bomb(side, 100),
        "sequential scans": bombs.sequential_bomb(side, 100),
        "fill bytes": bombs.fill_bytes(size),
        "junk between segments": bombs.junk_bytes(size),
        "stuffed scan": bombs.stuffed_scan(size),
        "empty APP1 segments": bombs.empty_segments(0xE1, size // 4 - 1000),
        "empty comments": bombs.empty_segments(0xFE, size // 4 - 1000),
        "tables": bombs.table_flood(size),
        "EXIF entries": bombs.jpeg_with_exif(bombs.exif_entries(65_000 // 12, size=60_000)),
        "empty PNG chunks": bombs.empty_chunks(count=size // 12 - 100),
        "compressed text": bombs.text_bomb(),
        "overlong PNG pixels": bombs.overlong_pixels(),
        "empty deflate blocks": bombs.empty_blocks(side, size - 2**18),
    }


def test_a_costly_image_takes_little_time_and_memory(full: bool, images: dict[str, bytes]) -> None:
    with serving("serve.threads=1") as served:
        warm_up(served)
        costs = {}
        for name, image in images.items():
            forget_peak(served)
            before, began = 1024 * served.memory(), processor_s(served)
            status = httpx.post(f"{served.url}/v1/predict", content=image, headers=JPEG, timeout=60).status_code
            costs[name] = processor_s(served) - began, peak_bytes(served) - before
            say(f"{name:24} {len(image) / MB:5.1f} MB: {status}, {costs[name][0]:.2f} s, {costs[name][1] / MB:+.0f} MB")
            assert status in (200, 413, 415, 422)
        text = served.log.read_text()
    assert "Traceback" not in text
    assert len(text.splitlines()) < 3 * len(images) + 20
    if full:
        assert max(seconds for seconds, _ in costs.values()) <= 1
        assert max(size for _, size in costs.values()) <= 200 * MB


def attack(url: str, images: Sequence[bytes], ended: Event) -> None:
    """Send the images again and again. A process of its own: its work must not delay the client that is measured."""
    os.nice(10)  # an attacker has a processor of its own; here it shares the server's
    with httpx.Client(timeout=60) as client:
        while not ended.is_set():
            for image in images:
                client.post(f"{url}/v1/predict", content=image, headers=JPEG)
                if ended.wait(0.2):
                    return


def test_costly_images_do_not_slow_other_clients_down(full: bool, images: dict[str, bytes]) -> None:
    rounds, seconds, rate = (3, 15, 20) if full else (1, 2, 10)
    context, times, statuses = get_context("spawn"), {False: list[float](), True: list[float]()}, set()
    with serving() as served:
        warm_up(served)
        for _ in range(rounds):
            for beside in (False, True):
                ended = context.Event()
                attacker = context.Process(target=attack, args=(served.url, list(images.values()), ended))
                if beside:
                    attacker.start()
                    time.sleep(1)  # until it is ready
                (answers,) = call_at_rates(served.address, seconds, (post(PICTURE), rate))
                if beside:
                    ended.set()
                    attacker.join()
                times[beside] += [answer.seconds for answer in answers]
                statuses |= {answer.status for answer in answers}
    before, after = (1000 * quantile(times[beside], 0.99) for beside in (False, True))
    say(f"p99 of others {before:.1f} ms alone, {after:.1f} ms beside costly images: {after / before:.2f} times")
    assert statuses == {200}
    if full:
        assert after < 2 * before


@pytest.mark.parametrize(("connections", "burst"), [(250, 2**18), (20, 2**24)])
def test_pipelined_requests_do_not_fill_the_memory(full: bool, connections: int, burst: int) -> None:
    if not full:
        connections, burst = connections // 5, burst // 4
    words = get("/livez")
    with serving() as served:
        warm_up(served)
        before = served.memory()
        clients = [socket.create_connection(served.address) for _ in range(connections)]

        def send(client: socket.socket) -> None:
            client.settimeout(1)
            with suppress(OSError):
                client.sendall(words * (burst // len(words)))

        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(send, clients))
        with httpx.Client(timeout=60) as other:
            start = time.perf_counter()
            assert other.get(f"{served.url}/readyz").status_code == 200
            waited = time.perf_counter() - start
        grown = 1024 * (served.memory("VmHWM") - before)
        for client in clients:
            client.close()
    say(f"{connections} pipelining connections: {grown / MB:+.0f} MB, /readyz after {1000 * waited:.0f} ms")
    assert grown < (150 if full else 15) * MB
    if full:
        assert waited < 1
