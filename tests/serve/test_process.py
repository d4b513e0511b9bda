"""`lesion serve` in a process of its own: over the wire, over TLS, and to its end."""

import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.conftest import PATIENCE_S
from tests.serve.changing import wait_until
from tests.serve.conftest import FORM, PICTURE, TINY, Served, encode, form, problem, serving

HALF = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nx"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("serve.max_upload_mb=1") as server:
        yield server


@pytest.fixture
def web(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=PATIENCE_S) as client:
        yield client


def test_the_server_answers_and_refuses_over_the_wire(web: httpx.Client) -> None:
    assert web.post("/v1/predict", files={"file": ("lesion.jpg", PICTURE, "image/jpeg")}).status_code == 200
    problem(web.post("/predict", files={"file": ("lesion.jpg", b"text")}), 415)
    problem(web.post("/predict", files={"file": ("lesion.jpg", PICTURE[:900])}), 422)
    problem(web.post("/predict", files={"file": ("a.jpg", bytes(2 * 2**20))}), 413)
    problem(web.post("/predict"), 415)
    problem(web.get("/predict"), 405)
    problem(web.get("/nowhere"), 404)
    response = web.get("/readyz")
    assert response.json()["status"] == "ready"
    assert "server" not in response.headers


def test_the_server_answers_many_at_once(web: httpx.Client) -> None:
    def ask(number: int) -> Any:
        answer = web.post("/v1/predict", files={"file": (f"{number}.jpg", PICTURE)}).json()
        return answer.pop("source"), answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    assert [source for source, _ in answers] == [f"{number}.jpg" for number in range(40)]
    assert all(answer == answers[0][1] for _, answer in answers)


def flood(pieces: int) -> Iterator[bytes]:
    yield form(b'name="file"; filename="a.jpg"', b"")[:-9]
    for _ in range(pieces):
        yield bytes(2**16)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_flood_without_its_length_does_not_fill_the_memory(served: Served, web: httpx.Client) -> None:
    assert web.post("/predict", files={"file": ("a.jpg", PICTURE)}).status_code == 200
    before = served.memory("VmHWM")
    with suppress(httpx.HTTPError):  # the server may hang up while this client, which does not listen, still sends
        problem(web.post("/predict", content=flood(1024), headers=FORM), 413)
    assert served.memory("VmHWM") - before < 16_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_bomb_is_refused_at_its_header(served: Served, web: httpx.Client) -> None:
    assert web.post("/predict", files={"file": ("a.jpg", PICTURE)}).status_code == 200
    bomb = encode(Image.new("1", (13_000, 13_000)))
    before = served.memory("VmHWM")
    problem(web.post("/predict", files={"file": ("a.png", bomb)}), 413)
    assert served.memory("VmHWM") - before < 16_000


def test_sigterm_ends_the_server_in_order() -> None:
    with serving("serve.drain_s=600") as server, httpx.Client(trust_env=False) as client:
        assert client.get(f"{server.url}/livez").status_code == 200  # and keeps its connection
        code, seconds, said = server.stop(signal.SIGTERM)
        assert code == 0
        assert seconds < PATIENCE_S
        assert "Traceback" not in said
        with pytest.raises(httpx.ConnectError):
            client.get(f"{server.url}/livez")


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGHUP")
@pytest.mark.parametrize("workers", [1, 2])
def test_hang_ups_while_it_starts_do_not_end_the_server(workers: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    # As soon as the command runs, which is before any of its modules is loaded.
    code = (
        "import os, signal, sys, threading, time\n"
        "from lesion.cli import serve\n"
        "from lesion.cli.app import main\n"
        "def hang_up():\n"
        "    for _ in range(200):\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "        for child in psutil.Process().children():\n"
        "            child.send_signal(signal.SIGHUP) if 'spawn_main' in str(child.cmdline()) else None\n"
        "        time.sleep(0.02)\n"
        "import lesion.cli.settings, psutil\n"
        "merge = lesion.cli.settings.merge\n"
        "def start(*words, **more):\n"
        "    threading.Thread(target=hang_up, daemon=True).start()\n"
        "    return merge(*words, **more)\n"
        "if __name__ == '__main__':\n"
        "    lesion.cli.settings.merge = start\n"
        "    sys.exit(main())\n"
    )
    script = tmp_path / "start.py"
    script.write_text(code)
    words = [sys.executable, str(script), "serve", "--port", "0", "--model", str(TINY), f"serve.workers={workers}"]
    with log.open("w") as file, subprocess.Popen(words, stderr=file, stdout=file) as process:
        try:
            wait_until(lambda: "listening on" in log.read_text() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
            assert "ended with exit code" not in log.read_text()
        finally:
            process.kill()


def test_a_log_that_nobody_reads_stops_neither_answers_nor_the_end() -> None:
    words = [sys.executable, "-m", "lesion", "serve", "--port", "0", "--model", str(TINY), "serve.drain_s=600"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            while not (found := re.search(r"listening on (https?://[^\s,]+:\d+)", process.stderr.readline())):
                assert process.poll() is None
            with httpx.Client(base_url=found[1], trust_env=False, timeout=PATIENCE_S) as client:
                for _ in range(1200):  # each with a line; a pipe holds some 450
                    assert client.get("/v1/model").status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def test_ctrl_c_ends_the_server_without_a_traceback() -> None:
    with serving("serve.drain_s=600") as server:
        assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200
        code, seconds, said = server.stop(signal.SIGINT)
        assert code == 130
        assert seconds < PATIENCE_S
        assert "Traceback" not in said


def slow_picture() -> bytes:
    """Takes a good while to decode."""
    return encode(Image.new("RGB", (5000, 4800), "pink"), "JPEG", quality=30)


@pytest.mark.slow
def test_what_is_in_flight_is_answered_before_the_end() -> None:
    picture = slow_picture()
    with (
        serving("serve.threads=1", "serve.drain_s=600", "serve.deadline_s=300") as server,
        ThreadPoolExecutor(8) as pool,
    ):
        half_open = [socket.create_connection(server.address) for _ in range(9)]
        for number, client in enumerate(half_open):
            client.sendall((b"", b"GET /livez HT", HALF)[number % 3])

        def ask(_: int) -> int:
            return httpx.post(
                f"{server.url}/v1/predict", content=picture, headers={"content-type": "image/jpeg"}, timeout=PATIENCE_S,
                trust_env=False,
            ).status_code  # fmt: skip

        answers = [pool.submit(ask, number) for number in range(6)]
        while "lesion_queue_images 6.0" not in httpx.get(f"{server.url}/metrics", trust_env=False).text:
            time.sleep(0.02)
        stopping = pool.submit(server.stop, signal.SIGTERM)
        while (ready := httpx.get(f"{server.url}/readyz", trust_env=False)).status_code == 200:
            time.sleep(0.02)
        assert ready.json()["status"] == "draining"
        assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200
        refused = httpx.post(f"{server.url}/predict", files={"file": PICTURE}, trust_env=False)
        assert problem(refused, 503)["code"] == "draining"
        assert refused.headers["connection"] == "close"
        assert [answer.result() for answer in answers] == [200] * 6
        code, seconds, said = stopping.result()
        for client in half_open:
            client.close()
    assert code == 0
    assert seconds < PATIENCE_S
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_end_does_not_wait_for_a_client_that_never_ends() -> None:
    with serving("serve.drain_s=3") as server, socket.create_connection(server.address) as half:
        half.sendall(HALF)
        assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200
        code, seconds, _ = server.stop(signal.SIGTERM)
    assert code == 0
    assert seconds < PATIENCE_S


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with serving("--host", "::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert httpx.get(f"{server.url}/livez", trust_env=False).json() == {"status": "live"}


def test_tls_by_certificate(certificate: tuple[str, str]) -> None:
    chain, key = certificate
    with serving(f"serve.certificate={chain}", f"serve.key={key}", "serve.receive_s=2") as server:
        assert server.url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=chain)
        answer = httpx.post(f"{server.url}/v1/predict", files={"file": PICTURE}, verify=trusting, trust_env=False)
        assert answer.status_code == 200
        with socket.create_connection(server.address) as silent:  # says nothing, not even hello
            silent.settimeout(15)
            assert silent.recv(1) == b""


def test_a_second_signal_hurries() -> None:
    with serving("serve.drain_s=600") as server, socket.create_connection(server.address) as half:
        half.sendall(HALF)
        assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200
        threading.Timer(1.0, server.process.send_signal, [signal.SIGINT]).start()
        code, seconds, _ = server.stop(signal.SIGINT)
    assert code == 130
    assert seconds < PATIENCE_S
