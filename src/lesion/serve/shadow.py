"""The shadow: another model that is asked, too. Whoever asked never waits for it, sees its answer or its failure."""

import logging
from contextlib import suppress
from queue import Full, Queue
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING

from lesion.errors import brief
from lesion.serve.metrics import Metrics
from lesion.serve.pipeline import Pipeline
from lesion.serve.slot import SHADOW, Serving, Slot
from lesion.taxonomy import MALIGNANT

if TYPE_CHECKING:
    from lesion.serve.journal import Journal

log = logging.getLogger(__name__)
WAITING = 4  # images


class Shadow:
    """A thread that begins an image only while the pipeline has nothing to do; what comes too fast is dropped."""

    def __init__(self, slot: Slot, pipeline: Pipeline, metrics: Metrics, journal: "Journal | None") -> None:
        self._slot, self._pipeline, self._metrics, self._journal = slot, pipeline, metrics, journal
        self._queue: Queue[tuple[bytes, str, str]] = Queue(WAITING)
        self._failed = ""  # the last model that failed: it is said once
        self._started = False

    def offer(self, content: bytes, digest: str, request: str) -> None:
        """Take an answered image with its SHA-256 and its request's id, or drop it; returns at once."""
        if self._slot.find(SHADOW) is None:
            return
        with suppress(Full):
            self._queue.put_nowait((content, digest, request))
        if not self._started:
            self._started = True
            Thread(target=self._run, name="shadow", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._do_next()

    def _do_next(self) -> None:
        # In a function of its own: a thread that waits must not hold on to an image, nor to a model.
        item, serving = self._queue.get(), self._slot.find(SHADOW)
        if serving is None or self._pipeline.load:
            return
        try:
            self._ask(serving, *item)
        except Exception as error:  # whatever it is, nobody must notice
            self._metrics.count_failure(SHADOW)
            if self._failed != serving.identity:
                self._failed = serving.identity
                log.warning("the shadow %s has no answer: %s", serving.identity, brief(error))

    def _ask(self, serving: Serving, content: bytes, digest: str, request: str) -> None:
        predictor, start = serving.narrow, perf_counter()
        pixels = predictor.read(content)
        decoded = perf_counter()
        answers = predictor.run(pixels[None])
        end = perf_counter()
        (prediction,) = predictor.decide(answers, [""])
        self._metrics.time_stage("decode", decoded - start, SHADOW)
        self._metrics.time_stage("infer", end - decoded, SHADOW)
        self._metrics.count_prediction(prediction, SHADOW)
        malignant = prediction.class_probabilities[MALIGNANT]
        serving.drift.add(malignant, answers.checks[0].tolist(), prediction.decision)
        if self._journal:
            self._journal.record(prediction, digest, (end - start) * 1000, request, SHADOW)
