"""Requests per second and latency of `lesion serve` against other servers of the same file, with wrk.

The others run in an environment of their own: `uv venv P`, then `uv pip install -p P/bin/python litserve bentoml
onnxruntime pillow fastapi uvicorn[standard] python-multipart`, then `--peers P`.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
PORT = 8299
URL = f"http://127.0.0.1:{PORT}"
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
    native: Path, model: Path, peers: Path | None, seconds: int, rounds: int, theirs: Path | None = None
) -> Iterator[str]:
    """Each server in turn, several rounds, so that a machine whose speed drifts slows all; medians.

    The others serve `theirs`, or the same `model`.
    """
    if shutil.which("wrk") is None:
        raise NotFoundError("wrk is not installed", hint="apt-get install wrk")
    servers = _commands(model, peers)
    found: dict[tuple[str, int], list[Load]] = {}
    starts: dict[str, list[float]] = {}
    alone: list[float] = []
    for _ in range(rounds):
        alone.append(_answer_alone(model, native, seconds))
        for name, command in servers.items():
            start = time.perf_counter()
            with _serving(command, theirs or model, native) as process:
                starts.setdefault(name, []).append(time.perf_counter() - start)
                _press(native, 4, 2, process)  # warm-up
                for clients in CLIENTS:
                    found.setdefault((name, clients), []).append(_press(native, clients, seconds, process))
    for clients in CLIENTS:
        yield f"{clients} client{'s' * (clients > 1)}:"
        ours = _middle(found["lesion serve", clients])
        for name in servers:
            yield _describe(name, _middle(found[name, clients]), ours)
    yield f"the same threads without a server: {median(alone):.1f}/s"
    yield "from the start to the first answer:"
    for name in servers:
        yield f"  {name:<24} {median(starts[name]):7.2f} s"


def _answer_alone(model: Path, native: Path, seconds: int) -> float:
    """Answers per second of one thread per processor, with nothing but the model: what no server can exceed."""
    predictor, threads = Predictor.load(model, threads=1), usable_cpus()
    images, end = [path.read_bytes() for path in sorted(native.glob("*.jpg"))], time.perf_counter() + seconds

    def work(first: int) -> int:
        own = takewhile(lambda _: time.perf_counter() < end, cycle(images[first:] + images[:first]))
        return sum(1 for image in own if predictor.predict(image))

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads))) / seconds


def _commands(model: Path, peers: Path | None) -> dict[str, list[str]]:
    lesion = [sys.executable, "-m", "lesion", "serve", "--port", str(PORT), "--model", str(model)]
    if peers is None:
        return {"lesion serve": lesion}
    python, bento = str((peers / "bin" / "python").absolute()), str((peers / "bin" / "bentoml").absolute())
    return {
        "lesion serve": lesion,
        "FastAPI, async handler": [python, "plain.py", str(PORT)],
        "LitServe, batches of 8": [python, "lit.py", str(PORT)],
        "BentoML, batches of 8": [bento, "serve", "bento:Service", "-p", str(PORT)],
    }


@contextmanager
def _serving(command: Sequence[str], model: Path, native: Path) -> Iterator[psutil.Process]:
    env = {**environ, "MODEL": str(model.absolute()), "BENTOML_DO_NOT_TRACK": "true"}
    process = subprocess.Popen(command, cwd=HERE, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(process, native)
        yield psutil.Process(process.pid)
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        for each in psutil.wait_procs(family, 10)[1]:
            each.kill()
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], native: Path) -> None:
    """Until an image is answered: a server may listen long before its model is loaded."""
    image = next(native.glob("*.jpg")).read_bytes()
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="lesion.jpg"\r\n\r\n'
    request = Request(f"{URL}/predict", head + image + b"\r\n--x--\r\n", {"Content-Type": KIND})
    for _ in range(600):
        try:
            urlopen(request, timeout=10).close()
            return
        except OSError:
            if process.poll() is not None:
                raise
            time.sleep(0.1)
    raise TimeoutError(f"not ready: {process.args}")


def _press(native: Path, clients: int, seconds: int, process: psutil.Process) -> Load:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", str(SCRIPT)]
    before = _cpu(process)
    done = subprocess.run(
        [*command, f"{URL}/predict"], env={**environ, "JPEGS": str(native)}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    text, used = done.stdout, _cpu(process) - before
    answers = int(re.search(r"(\d+) requests in", text)[1])
    p50, p99 = (_milliseconds(re.search(rf" {share}%\s+([\d.]+)(us|ms|s)", text)) for share in (50, 99))
    errors = [int(number) for number in re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", text)]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    return Load(rate, p50, p99, 1000 * used / max(answers, 1), sum(errors))


def _cpu(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _milliseconds(match) -> float:
    return float(match[1]) * UNITS[match[2]]


def _middle(loads: Sequence[Load]) -> Load:
    columns = zip(*((each.rate, each.p50, each.p99, each.cpu) for each in loads), strict=True)
    return Load(*(median(column) for column in columns), sum(each.failed for each in loads))


def _describe(name: str, load: Load, ours: Load) -> str:
    return (
        f"  {name:<24} {load.rate:7.1f}/s   p50 {load.p50:7.1f} ms   p99 {load.p99:7.1f} ms   "
        f"cpu {load.cpu:5.1f} ms   failed {load.failed}   ours {ours.rate / load.rate:.2f}×"
    )
