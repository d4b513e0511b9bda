"""The shadow: another model that is asked, too. Whoever asked never waits for it, sees its answer or its failure.

An image that takes longer than the limit is given up, and another thread goes on, as in the pipeline.
"""

import logging
import math
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Full, Queue
from threading import Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING

import onnxruntime as ort

from lesion.errors import brief
from lesion.inference.session import make_options
from lesion.inference.watchdog import Step, Watchdog
from lesion.serve.metrics import Metrics
from lesion.serve.pipeline import Pipeline
from lesion.serve.slot import SHADOW, Serving, Slot
from lesion.taxonomy import MALIGNANT

if TYPE_CHECKING:
    from lesion.serve.journal import Journal

log = logging.getLogger(__name__)
WAITING = 4  # images
HANGING = 4  # threads at most: beyond that the shadow is asked no more until one returns


@dataclass(slots=True, eq=False)
class Asking(Step):
    """One image that the shadow is asked about."""

    options: ort.RunOptions = field(default_factory=make_options)
    is_over: bool = False
    is_lost: bool = False


class Shadow:
    """A thread that begins an image only while the pipeline has nothing to do; what comes too fast is dropped."""

    def __init__(
        self,
        slot: Slot,
        pipeline: Pipeline,
        metrics: Metrics,
        journal: "Journal | None",
        limit_s: float = math.inf,
        watchdog: Watchdog | None = None,
    ) -> None:
        """Args as of `Service`; limit_s, seconds after which an image is given up, measured by `watchdog`."""
        self._slot, self._pipeline, self._metrics, self._journal = slot, pipeline, metrics, journal
        self._limit_s, self._watchdog = limit_s, watchdog or Watchdog()
        self._lock = Lock()
        self._lost = 0  # threads that hang
        self._alive = 0  # threads that take images: one, or none while too many hang
        self._queue: Queue[tuple[bytes, str, str]] = Queue(WAITING)
        self._asking = False
        self._failed = ""  # the last model that failed: it is said once

    def offer(self, content: bytes, digest: str, request: str) -> None:
        """Take an answered image with its SHA-256 and its request's id, or drop it; returns at once."""
        if self._slot.find(SHADOW) is None:
            return
        with suppress(Full):
            self._queue.put_nowait((content, digest, request))
        if not self._alive:
            self._start()

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work, or hangs."""
        return self._lost > 0 or self._asking

    def _start(self) -> None:
        with self._lock, suppress(RuntimeError):  # no more threads now: the next image tries again
            if not self._alive and self._lost < HANGING:
                Thread(target=self._run, name="shadow", daemon=True).start()
                self._alive = 1

    def _run(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """Take an image; False when the thread is to end."""
        # In a function of its own: a thread that waits must not hold on to an image, nor to a model.
        item, serving = self._queue.get(), self._slot.find(SHADOW)
        if serving is None or self._pipeline.load:
            return True
        asking = Asking("shadow", self._limit_s, self._give_up)
        self._asking = True
        self._watchdog.begin(asking)
        try:
            self._ask(asking, serving, *item)
        except Exception as error:  # whatever it is, nobody must notice
            self._fail(serving, error)
        return self._return(asking)

    def _return(self, asking: Asking) -> bool:
        self._watchdog.end(asking)
        with self._lock:
            asking.is_over = True
            if asking.is_lost:
                self._lost -= 1
            else:
                self._asking = False
        return not asking.is_lost

    def _give_up(self, asking: Step) -> bool:
        assert isinstance(asking, Asking)
        with self._lock:
            if asking.is_over:
                return False
            asking.is_lost, self._asking = True, False
            self._lost += 1
            self._alive = 0
        asking.options.terminate = True
        self._start()
        return True

    def _fail(self, serving: Serving, error: Exception) -> None:
        self._metrics.count_failure(SHADOW)
        if self._failed != serving.identity:
            self._failed = serving.identity
            log.warning("the shadow %s has no answer: %s", serving.identity, brief(error))

    def _ask(self, asking: Asking, serving: Serving, content: bytes, digest: str, request: str) -> None:
        predictor, start = serving.narrow, perf_counter()
        pixels = predictor.read(content)
        decoded = perf_counter()
        answers = predictor.run(pixels[None], options=asking.options)
        end = perf_counter()
        (prediction,) = predictor.decide(answers, ["the image"])
        if asking.is_lost:
            return
        self._metrics.time_stage("decode", decoded - start, SHADOW)
        self._metrics.time_stage("infer", end - decoded, SHADOW)
        self._metrics.count_prediction(prediction, SHADOW)
        malignant = prediction.class_probabilities[MALIGNANT]
        serving.drift.add(malignant, answers.checks[0].tolist(), prediction.decision)
        if self._journal:
            self._journal.record(prediction, digest, (end - start) * 1000, request, SHADOW)
