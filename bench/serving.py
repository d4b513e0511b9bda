"""Requests per second and latency of `lesion serve` against other servers of the same file, with wrk.

The others run in an environment of their own: `uv venv P`, then `uv pip install -p P/bin/python litserve bentoml
onnxruntime pillow fastapi uvicorn[standard] python-multipart`, then `--peers P`.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, takewhile
from os import environ
from pathlib import Path
from statistics import median
from urllib.request import Request, urlopen

import psutil

from lesion.errors import NotFoundError
from lesion.inference.predictor import Predictor
from lesion.inference.threads import usable_cpus

HERE = Path(__file__).parent / "peers"
SCRIPT = Path(__file__).with_name("post.lua")
PORT = 8299  # of the first server; the others follow
KIND = "multipart/form-data; boundary=x"
CLIENTS = (16, 1)
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Load:
    """What wrk measured."""

    rate: float
    """Answers per second."""
    p50: float
    """Milliseconds."""
    p99: float
    cpu: float
    """Milliseconds of processor time per answer, of all processes of the server."""
    failed: int
    """Answers that are not 200, and errors of sockets."""


def measure(
    commands: Mapping[str, Sequence[str]], native: Path, model: Path, seconds: int, rounds: int, theirs: Path
) -> Iterator[str]:
    """The servers in turn, each for `seconds` a round; medians, and medians of each round's ratios.

    All are started once and wait stopped for their turns, so that the rounds are short: the speed of a shared machine
    drifts within a minute. The servers of others serve `theirs`.
    """
    if shutil.which("wrk") is None:
        raise NotFoundError("wrk is not installed", hint="apt-get install wrk")
    found: dict[tuple[str, int], list[Load]] = {}
    alone: list[float] = []
    with ExitStack() as stack:
        servers = {}
        for port, (name, command) in enumerate(commands.items(), PORT):
            servers[name] = server = stack.enter_context(_serving(command, port, theirs, native))
            _press(native, 4, 2, server)  # warm-up
            server.stop()
        for _ in range(rounds):
            alone.append(_answer_alone(model, native, seconds))
            for name, server in servers.items():
                with server.running():
                    for clients in CLIENTS:
                        found.setdefault((name, clients), []).append(_press(native, clients, seconds, server))
    for clients in CLIENTS:
        yield f"{clients} client{'s' * (clients > 1)}:"
        for name in servers:
            yield _describe(name, found[name, clients], found["lesion serve", clients])
    yield f"the same threads without a server: {median(alone):.1f}/s"
    yield "from the start to the first answer:"
    for name, server in servers.items():
        yield f"  {name:<24} {server.start_s:7.2f} s"


def _answer_alone(model: Path, native: Path, seconds: int) -> float:
    """Answers per second of one thread per processor, with nothing but the model: what no server can exceed."""
    predictor, threads = Predictor.load(model, threads=1), usable_cpus()
    images, end = [path.read_bytes() for path in sorted(native.glob("*.jpg"))], time.perf_counter() + seconds

    def work(first: int) -> int:
        own = takewhile(lambda _: time.perf_counter() < end, cycle(images[first:] + images[:first]))
        return sum(1 for image in own if predictor.predict(image))

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads))) / seconds


def find_servers(model: Path, peers: Path | None, before: Path | None) -> dict[str, list[str]]:
    """The commands of the servers to compare, without their port: this checkout's, another one's, those of `peers`."""
    words = ["-m", "lesion", "serve", "--model", str(model.absolute()), "--port"]
    lesion = {"lesion serve": [sys.executable, *words]}
    if before is not None:
        lesion["lesion serve, before"] = [str((before / ".venv" / "bin" / "python").absolute()), *words]
    if peers is None:
        return lesion
    python, bento = str((peers / "bin" / "python").absolute()), str((peers / "bin" / "bentoml").absolute())
    return {
        **lesion,
        "FastAPI, async handler": [python, "plain.py"],
        "LitServe, batches of 8": [python, "lit.py"],
        "BentoML, batches of 8": [bento, "serve", "bento:Service", "-p"],
    }


@dataclass
class Server:
    """A server and its children."""

    process: psutil.Process
    url: str
    start_s: float = 0.0
    """From the start to the first answer."""

    @property
    def family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    @property
    def cpu_s(self) -> float:
        times = [each.cpu_times() for each in self.family]
        return sum(each.user + each.system for each in times)

    def stop(self) -> None:
        """Let it wait, without a look at the clock."""
        for each in self.family:
            each.suspend()

    def go_on(self) -> None:
        for each in self.family:
            each.resume()

    @contextmanager
    def running(self) -> Iterator[None]:
        self.go_on()
        try:
            yield
        finally:
            time.sleep(0.5)  # for what is still in flight
            self.stop()


@contextmanager
def _serving(command: Sequence[str], port: int, model: Path, native: Path) -> Iterator[Server]:
    env = {**environ, "MODEL": str(model.absolute()), "BENTOML_DO_NOT_TRACK": "true"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, str(port)], cwd=HERE, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = Server(psutil.Process(process.pid), f"http://127.0.0.1:{port}")
    try:
        _await(process, server.url, native)
        server.start_s = time.perf_counter() - start
        yield server
    finally:
        family = server.family if process.poll() is None else []
        for each in family:
            each.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], url: str, native: Path) -> None:
    """Until an image is answered: a server may listen long before its model is loaded."""
    image = next(native.glob("*.jpg")).read_bytes()
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="lesion.jpg"\r\n\r\n'
    request = Request(f"{url}/predict", head + image + b"\r\n--x--\r\n", {"Content-Type": KIND})
    for _ in range(600):
        try:
            urlopen(request, timeout=10).close()
            return
        except OSError:
            if process.poll() is not None:
                raise
            time.sleep(0.1)
    raise TimeoutError(f"not ready: {process.args}")


def _press(native: Path, clients: int, seconds: int, server: Server) -> Load:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", str(SCRIPT)]
    before = server.cpu_s
    done = subprocess.run(
        [*command, f"{server.url}/predict"], env={**environ, "JPEGS": str(native)}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    text, used = done.stdout, server.cpu_s - before
    answers = int(re.search(r"(\d+) requests in", text)[1])
    p50, p99 = (_milliseconds(re.search(rf" {share}%\s+([\d.]+)(us|ms|s)", text)) for share in (50, 99))
    errors = [int(number) for number in re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", text)]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    return Load(rate, p50, p99, 1000 * used / max(answers, 1), sum(errors))


def _milliseconds(match) -> float:
    return float(match[1]) * UNITS[match[2]]


def _middle(loads: Sequence[Load]) -> Load:
    columns = zip(*((each.rate, each.p50, each.p99, each.cpu) for each in loads), strict=True)
    return Load(*(median(column) for column in columns), sum(each.failed for each in loads))


def _describe(name: str, loads: Sequence[Load], ours: Sequence[Load]) -> str:
    load, ratio = _middle(loads), median(our.rate / their.rate for our, their in zip(ours, loads, strict=True))
    return (
        f"  {name:<24} {load.rate:7.1f}/s   p50 {load.p50:7.1f} ms   p99 {load.p99:7.1f} ms   "
        f"cpu {load.cpu:5.1f} ms   failed {load.failed}   ours {ratio:.2f}×"
    )
