"""Decoding and inference, off the event loop, in threads that finish what was begun before they begin more.

A thread runs the decoded images that wait, as many as a batch may have; if there are none, it decodes the next image.
So nothing ever waits for others to come: batches form by themselves while all lanes to the model are taken, and a lone
image goes through one thread without a hop.

A step that takes longer than its limit is given up: its place in the queue and its lane are free again, and another
thread takes over. Its own thread ends as soon as the step returns, if it ever does.
"""

import asyncio
import hashlib
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, perf_counter

import onnxruntime as ort

from lesion.errors import Overloaded
from lesion.inference.session import make_options
from lesion.inference.watchdog import Step, Watchdog
from lesion.serve.jobs import Job, Outcome, answer_batch

NICE = 5  # more than the process': an event loop that is ready takes the processor from a decoder at once
MEMORY = 0.95  # of the estimated service time, per image
LEAP = 10  # times the estimate that an image counts for at most
STUCK_S = 30.0  # that as many threads as the pipeline has may hang, before the process is to be replaced
DECODE, INFER = "decode", "infer"


@dataclass(slots=True, eq=False)
class Work(Step):
    """The decoding of one image, or the inference of a batch, in one thread."""

    jobs: list[Job] = field(default_factory=list)
    crowded: bool = False
    """Whether there is enough to do for one thread per image."""
    options: ort.RunOptions | None = None
    """Of an inference: ends it early."""
    is_over: bool = False
    is_lost: bool = False
    """Whether it was given up; its thread may still be in it."""


class Pipeline:
    """The threads between jobs and their futures."""

    def __init__(
        self,
        threads: int,
        lanes: int,
        max_batch: int,
        limit_s: float = math.inf,
        watchdog: Watchdog | None = None,
        show_load: Callable[[int], None] = lambda images: None,
    ) -> None:
        """Start nothing yet.

        Args:
            threads: To decode and to run images.
            lanes: Inferences at once, at most as many.
            max_batch: Images of one inference.
            limit_s: Seconds after which a step is given up; by then nobody waits for its answer.
            watchdog: Measures that.
            show_load: Told of each change of `load`; must take microseconds.
        """
        self.threads, self.lanes, self.max_batch = threads, lanes, max_batch
        self.load = 0
        """Images that are not finished."""
        self.service_s = 0.0
        """Seconds from one image's end to the next one's while there is enough to do, as measured lately."""
        self.lost = 0
        """Threads that still hang in a step that was given up."""
        self.on_stuck: Callable[[], None] = lambda: None
        """Called once when the pipeline is stuck for STUCK_S."""
        self._limit_s, self._watchdog, self._show_load = limit_s, watchdog or Watchdog(), show_load
        self._waiting: deque[Job] = deque()  # to be decoded
        self._ready: deque[Job] = deque()  # to be run
        self._running = 0  # lanes that are taken
        self._last_end = 0.0
        self._change = threading.Condition()
        self._closed = False
        self._alive = 0  # threads that take work
        self._all: set[threading.Thread] = set()  # those that hang, too
        self._stuck: Step | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether as many threads hang as the pipeline has."""
        return self.lost >= self.threads

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take in jobs whose futures belong to the running event loop."""
        if self._alive < self.threads:
            self._start()
        now = perf_counter()
        for job in jobs:
            job.times.append(now)
        with self._change:
            if self.load == 0:
                self._last_end = now
            self._add(len(jobs))
            self._waiting.extend(jobs)
            self._change.notify(len(jobs))

    def close(self) -> None:
        """Let each thread end after what it does now."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def join(self, seconds: float) -> bool:
        """Whether all threads have ended, for which it waits so long."""
        end = monotonic() + seconds
        for thread in tuple(self._all):
            thread.join(max(0.0, end - monotonic()))
        return not any(thread.is_alive() for thread in tuple(self._all))

    def _start(self) -> None:
        """Start the threads that are missing."""
        with self._change:
            for _ in range(0 if self._closed else self.threads - self._alive):
                thread = threading.Thread(target=self._work, name="pipeline", daemon=True)
                thread.start()
                self._all.add(thread)
                self._alive += 1

    def _add(self, images: int) -> None:
        self.load += images
        self._show_load(self.load)

    def _work(self) -> None:
        _stand_back()
        while self._do_next():
            pass
        with self._change:
            self._all.discard(threading.current_thread())

    def _do_next(self) -> bool:
        """Take a step; False when the thread is to end."""
        # In a function of its own: a thread that waits must not hold on to its last job, and so to a model.
        work = self._take()
        if work is None:
            return False
        return self._decode(work) if work.stage == DECODE else self._run(work)

    def _take(self) -> Work | None:
        """The next step to do; None when closed."""
        with self._change:
            while not self._closed:
                work = None
                if self._ready and self._running < self.lanes:
                    self._running += 1
                    crowded, options = self.load > max(1, self.threads // 2), make_options()
                    work = Work(INFER, self._limit_s, self._give_up, 0.0, self._take_batch(), crowded, options)
                elif self._waiting:
                    work = Work(DECODE, self._limit_s, self._give_up, 0.0, [self._waiting.popleft()])
                if work is not None:
                    self._watchdog.begin(work)
                    return work
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

    def _decode(self, work: Work) -> bool:
        (job,) = work.jobs
        if job.future.done():  # nobody waits for it any more
            return self._finish(work, {})
        job.times.append(perf_counter())
        try:
            job.digest = hashlib.sha256(job.content).hexdigest()
            job.pixels = job.serving.wide.read(job.content)
        except Exception as error:
            return self._finish(work, {job: error})
        job.content = b""
        job.times.append(perf_counter())
        with self._change:
            if not self._return(work):
                return False
            self._ready.append(job)
        return True

    def _run(self, work: Work) -> bool:
        wanted = [job for job in work.jobs if not job.future.done()]
        results: dict[Job, Outcome | Exception] = {}
        try:
            if wanted:
                results = answer_batch(wanted, work.crowded, work.options)
        except Exception as error:
            results = dict.fromkeys(wanted, error)
        return self._finish(work, results)

    def _finish(self, work: Work, results: "dict[Job, Outcome | Exception]") -> bool:
        """Settle jobs that are done with; False when the thread is to end."""
        now = perf_counter()
        with self._change:
            if not self._return(work):
                return False
            self._add(-len(work.jobs))
            if results:
                per_image = (now - self._last_end) / len(work.jobs)
                if self.service_s:
                    # A process that slept, or its machine, did not get slower: one such time must not close the gate.
                    per_image = min(per_image, LEAP * self.service_s)
                self.service_s += (per_image - self.service_s) * (1 - MEMORY if self.service_s else 1)
                self._last_end = now
        for job, result in results.items():
            _tell(job, result)
        return True

    def _return(self, work: Work) -> bool:
        """Note that a step is over, with the lock held; False when it was given up before."""
        self._watchdog.end(work)
        work.is_over = True
        if work.is_lost:
            self.lost -= 1
            if self._stuck is not None and not self.is_stuck:
                self._watchdog.end(self._stuck)
                self._stuck = None
            return False
        if work.stage == INFER:
            self._running -= 1
        return True

    def _give_up(self, work: Step) -> bool:
        """Go on without the thread that hangs in a step; see `Step`."""
        assert isinstance(work, Work)
        with self._change:
            if work.is_over:
                return False
            work.is_lost = True
            self.lost += 1
            self._alive -= 1
            if work.stage == INFER:
                self._running -= 1
            self._add(-len(work.jobs))
            self._last_end = perf_counter()  # the next image did not take so long
            if self.is_stuck and self._stuck is None:
                self._stuck = Step("stuck", STUCK_S, self._tell_stuck)
                self._watchdog.begin(self._stuck)
        if work.options is not None:
            work.options.terminate = True
        for job in work.jobs:
            _tell(job, Overloaded("no answer in time", hint="ask again later"))
        self._start()
        return True

    def _tell_stuck(self, step: Step) -> bool:
        self.on_stuck()
        return False


def _stand_back() -> None:
    """Let the event loop go first when this thread is ready to run, too: it needs little, and others wait for it."""
    if sys.platform == "linux":  # elsewhere a priority is the process'
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


def _tell(job: Job, result: Outcome | Exception) -> None:
    with suppress(RuntimeError):  # its loop was closed
        job.future.get_loop().call_soon_threadsafe(_settle, job.future, result)


def _settle(future: "asyncio.Future[Outcome]", result: Outcome | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
