"""Decoding and inference, off the event loop, in threads that finish what was begun before they begin more.

A thread runs the decoded images that wait, as many as a batch may have; if there are none, it decodes the next image.
So nothing ever waits for others to come: batches form by themselves while all lanes to the model are taken, and a lone
image goes through one thread without a hop.
"""

import asyncio
import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import numpy as np
import numpy.typing as npt

from lesion.errors import LesionError
from lesion.inference.explain import to_heat
from lesion.inference.predictor import Answers, Predictor
from lesion.records import Prediction
from lesion.serve.overlay import Explanation, explain
from lesion.serve.slot import Serving

NICE = 5  # more than the process': an event loop that is ready takes the processor from a decoder at once
MEMORY = 0.95  # of the estimated service time, per image
LEAP = 10  # times the estimate that an image counts for at most


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer for one image."""

    prediction: Prediction
    checks: list[float]
    """Measures of the image, in the order of the manifest's checks."""
    explanation: Explanation | None
    """If asked for."""
    digest: str
    """SHA-256 of the image file."""
    stages: dict[str, tuple[float, float]]
    """When "queue", "decode", "wait" (for a lane) and "infer" began and ended, in seconds of `perf_counter`."""
    batch: int
    """Images that were run together, in the outcome of the first of them; 0 in the others'."""


@dataclass(slots=True, eq=False)
class Job:
    """One image on its way; nothing more is done for it once its future is done."""

    content: bytes
    name: str
    serving: Serving
    explain: bool
    future: "asyncio.Future[Outcome]"
    pixels: npt.NDArray[np.uint8] | None = None
    digest: str = ""
    times: list[float] = field(default_factory=list)
    """When it came, when its decoding began and ended, when its run began."""


class Pipeline:
    """The threads between jobs and their futures."""

    def __init__(self, threads: int, lanes: int, max_batch: int) -> None:
        """Args: threads; lanes, inferences at once, at most as many; max_batch, images of one inference."""
        self.threads, self.lanes, self.max_batch = threads, lanes, max_batch
        self.load = 0
        """Images that are not finished."""
        self.service_s = 0.0
        """Seconds from one image's end to the next one's while there is enough to do, as measured lately."""
        self._waiting: deque[Job] = deque()  # to be decoded
        self._ready: deque[Job] = deque()  # to be run
        self._running = 0  # lanes that are taken
        self._last_end = 0.0
        self._change = threading.Condition()
        self._started = self._closed = False

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take in jobs whose futures belong to the running event loop."""
        now = perf_counter()
        for job in jobs:
            job.times.append(now)
        with self._change:
            if self.load == 0:
                self._last_end = now
            self.load += len(jobs)
            self._waiting.extend(jobs)
            self._change.notify(len(jobs))
        if not self._started:
            self._start()

    def close(self) -> None:
        """Let each thread end after what it does now."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _start(self) -> None:
        self._started = True
        for number in range(self.threads):
            threading.Thread(target=self._work, name=f"pipeline-{number}", daemon=True).start()

    def _work(self) -> None:
        _stand_back()
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        # In a function of its own: a thread that waits must not hold on to its last job, and so to a model.
        step = self._take()
        if step is not None:
            step()
        return step is not None

    def _take(self) -> Callable[[], None] | None:
        """The next step to do; None when closed."""
        with self._change:
            while not self._closed:
                if self._ready and self._running < self.lanes:
                    self._running += 1
                    return partial(self._run, self._take_batch(), self.load > max(1, self.threads // 2))
                if self._waiting:
                    return partial(self._decode, self._waiting.popleft())
                self._change.wait()
        return None

    def _take_batch(self) -> list[Job]:
        """The first job and those right behind it that the same model can answer in the same way."""
        first = self._ready[0]
        batch: list[Job] = []
        while self._ready and len(batch) < self.max_batch:
            if (self._ready[0].serving, self._ready[0].explain) != (first.serving, first.explain):
                break
            batch.append(self._ready.popleft())
        return batch

    def _decode(self, job: Job) -> None:
        if job.future.done():  # nobody waits for it any more
            return self._finish([job], {})
        job.times.append(perf_counter())
        try:
            job.digest = hashlib.sha256(job.content).hexdigest()
            job.pixels = job.serving.wide.read(job.content)
        except Exception as error:
            return self._finish([job], {job: error})
        job.content = b""
        job.times.append(perf_counter())
        with self._change:
            self._ready.append(job)
        return None

    def _run(self, batch: list[Job], crowded: bool) -> None:
        wanted = [job for job in batch if not job.future.done()]
        results: dict[Job, Outcome | Exception] = {}
        try:
            if wanted:
                results = _answer(wanted, crowded)
        except Exception as error:
            results = dict.fromkeys(wanted, error)
        with self._change:
            self._running -= 1
        self._finish(batch, results)

    def _finish(self, jobs: list[Job], results: "dict[Job, Outcome | Exception]") -> None:
        now = perf_counter()
        with self._change:
            self.load -= len(jobs)
            if results:
                per_image = (now - self._last_end) / len(jobs)
                if self.service_s:
                    # A process that slept, or its machine, did not get slower: one such time must not close the gate.
                    per_image = min(per_image, LEAP * self.service_s)
                self.service_s += (per_image - self.service_s) * (1 - MEMORY if self.service_s else 1)
                self._last_end = now
        for job, result in results.items():
            with suppress(RuntimeError):  # its loop was closed
                job.future.get_loop().call_soon_threadsafe(_settle, job.future, result)


def _stand_back() -> None:
    """Let the event loop go first when this thread is ready to run, too: it needs little, and others wait for it."""
    if sys.platform == "linux":  # elsewhere a priority is the process'
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


def _answer(jobs: list[Job], crowded: bool) -> "dict[Job, Outcome | Exception]":
    predictor = jobs[0].serving.narrow if crowded else jobs[0].serving.wide
    start = perf_counter()
    answers = predictor.run(np.stack([job.pixels for job in jobs if job.pixels is not None]), maps=jobs[0].explain)
    end = perf_counter()
    results: dict[Job, Outcome | Exception] = {}
    for i, job in enumerate(jobs):
        came, began, decoded = job.times
        stages = {
            "queue": (came, began), "decode": (began, decoded), "wait": (decoded, start), "infer": (start, end)
        }  # fmt: skip
        try:
            prediction, explanation = _describe(predictor, answers, i, job.name)
        except LesionError as error:  # of this image alone
            results[job] = error
        else:
            batch = len(jobs) if i == 0 else 0
            results[job] = Outcome(prediction, answers.checks[i].tolist(), explanation, job.digest, stages, batch)
    return results


def _describe(predictor: Predictor, answers: Answers, i: int, name: str) -> tuple[Prediction, Explanation | None]:
    """Image i of a batch by itself, so that none suffers for another one's sake."""
    maps = None if answers.maps is None else answers.maps[i : i + 1]
    one = Answers(answers.logits[i : i + 1], answers.checks[i : i + 1], maps)
    (prediction,) = predictor.decide(one, [name])
    if maps is None:
        return prediction, None
    (heat,) = to_heat(maps, one.logits, predictor.manifest)
    return prediction, explain(heat, predictor.manifest.preprocess.size)


def _settle(future: "asyncio.Future[Outcome]", result: Outcome | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
