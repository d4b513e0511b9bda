"""The threads between a request and its answer: nothing waits for nothing, nothing is done for nobody."""

import asyncio
import gc
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from lesion.config.serving import ServeConfig
from lesion.errors import NotAnImage, Overloaded
from lesion.inference.predictor import Predictor
from lesion.inference.watchdog import Watchdog
from lesion.serve.jobs import Job, Outcome
from lesion.serve.pipeline import LEAP, MEMORY, NICE, Pipeline
from lesion.serve.slot import Serving, Slot
from tests.serve.conftest import PICTURE, TINY


def jobs(serving: Serving, *names: str, content: bytes = PICTURE, explain: bool = False) -> list[Job]:
    loop = asyncio.get_running_loop()
    return [Job(content, name, serving, explain, loop.create_future()) for name in names]


def run(pipeline: Pipeline, work: Callable[[], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        return await asyncio.wait_for(work(), 20)  # type: ignore[arg-type]

    try:
        return asyncio.run(go())
    finally:
        pipeline.close()


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (2, 2), (4, 1)])
def test_every_job_gets_its_own_answer(tiny_serving: Serving, threads: int, lanes: int) -> None:
    pipeline = Pipeline(threads, lanes, max_batch=8)

    async def work() -> list[Outcome]:
        batch = jobs(tiny_serving, *map(str, range(40)))
        pipeline.submit(batch)
        return await asyncio.gather(*(job.future for job in batch))

    outcomes = run(pipeline, work)
    expected = tiny_serving.wide.predict(PICTURE, "0")
    assert [outcome.prediction.source for outcome in outcomes] == [str(i) for i in range(40)]
    assert all(outcome.prediction.class_probabilities == expected.class_probabilities for outcome in outcomes)
    assert sum(outcome.batch for outcome in outcomes) == 40
    assert max(outcome.batch for outcome in outcomes) <= 8
    assert (pipeline.load, pipeline.service_s > 0) == (0, True)
    for outcome in outcomes:
        moments = [moment for stage in outcome.stages.values() for moment in stage]
        assert moments == sorted(moments)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is the process'")
def test_the_event_loop_goes_before_the_threads(tiny_serving: Serving) -> None:
    pipeline = Pipeline(2, 2, max_batch=1)

    async def work() -> list[int]:
        batch = jobs(tiny_serving, *map(str, range(8)))
        pipeline.submit(batch)
        await asyncio.gather(*(job.future for job in batch))
        threads = [thread for thread in threading.enumerate() if thread.name == "pipeline"]
        return [os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) for thread in threads]

    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert max(run(pipeline, work)) == min(ours + NICE, 19)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is not set, the model's runs do not end; how large they were is in `sizes`."""
    release, compute = threading.Event(), Predictor.run

    def hold(self: Predictor, pixels: Any, maps: bool = False, options: Any = None) -> Any:
        release.sizes.append((self, len(pixels)))  # type: ignore[attr-defined]
        assert release.wait(20)
        return compute(self, pixels, maps, options)

    release.sizes = []  # type: ignore[attr-defined]
    monkeypatch.setattr(Predictor, "run", hold)
    return release


def test_what_waits_for_the_lane_is_run_together(tiny_serving: Serving, held: Any) -> None:
    pipeline = Pipeline(threads=3, lanes=1, max_batch=4)

    async def work() -> None:
        first, rest = jobs(tiny_serving, "first"), jobs(tiny_serving, *"abcdef")
        pipeline.submit(first)
        while not held.sizes:  # a lone one is run at once
            await asyncio.sleep(0.001)
        pipeline.submit(rest)
        while len(pipeline._ready) < 6:  # decoded meanwhile by the other threads
            await asyncio.sleep(0.001)
        held.set()
        await asyncio.gather(*(job.future for job in first + rest))

    run(pipeline, work)
    assert [size for _, size in held.sizes] == [1, 4, 2]


def test_models_and_explanations_are_not_mixed_in_a_batch(tiny_serving: Serving, held: Any) -> None:
    other = Serving.load(TINY, ServeConfig())
    pipeline = Pipeline(threads=3, lanes=1, max_batch=10)

    async def work() -> list[Outcome]:
        first = jobs(tiny_serving, "first")
        pipeline.submit(first)
        while not held.sizes:
            await asyncio.sleep(0.001)
        kinds = [(tiny_serving, False), (tiny_serving, False), (other, False), (other, True)]
        rest = [jobs(serving, str(i), explain=explain)[0] for i, (serving, explain) in enumerate(kinds)]
        for job in rest:  # one by one, so that they are decoded in order
            before = len(pipeline._ready)
            pipeline.submit([job])
            while len(pipeline._ready) == before:
                await asyncio.sleep(0.001)
        held.set()
        return await asyncio.gather(*(job.future for job in first + rest))

    outcomes = run(pipeline, work)
    assert [size for _, size in held.sizes] == [1, 2, 1, 1]
    assert [outcome.explanation is not None for outcome in outcomes] == [False, False, False, False, True]


def test_one_long_sleep_does_not_pass_for_slowness(tiny_serving: Serving, held: Any) -> None:
    pipeline = Pipeline(threads=1, lanes=1, max_batch=1)
    pipeline.service_s = 0.001

    async def work() -> None:
        batch = jobs(tiny_serving, "one")
        pipeline.submit(batch)
        await asyncio.sleep(0.2)
        held.set()
        await batch[0].future

    run(pipeline, work)
    assert pipeline.service_s == pytest.approx(0.001 * (MEMORY + LEAP * (1 - MEMORY)))


def test_a_thread_that_hangs_is_replaced_and_changes_nothing_when_it_comes_back(tiny_serving: Serving) -> None:
    release, counted, loads = threading.Event(), list[str](), list[int]()
    hanging = replace(tiny_serving, wide=HangingPredictor(tiny_serving.wide, release))
    watchdog = Watchdog(counted.append)
    pipeline = Pipeline(1, 1, 1, 10.0, watchdog, loads.append)
    pipeline.service_s = 0.001

    async def work() -> None:
        (stuck,) = jobs(hanging, "stuck")
        pipeline.submit([stuck])
        while not hanging.wide.is_entered:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        (behind,) = jobs(tiny_serving, "behind")
        pipeline.submit([behind])
        watchdog.look(11.0)
        assert pipeline.is_stuck
        with pytest.raises(Overloaded):
            await stuck.future
        assert (await behind.future).prediction.source == "behind"
        while pipeline.load:
            await asyncio.sleep(0.001)
        release.set()
        while pipeline.lost:
            await asyncio.sleep(0.001)
        (after,) = jobs(tiny_serving, "after")
        pipeline.submit([after])
        await after.future

    run(pipeline, work)
    assert pipeline.join(20)
    assert (pipeline.load, pipeline.lost, pipeline._running, pipeline._alive) == (0, 0, 0, 1)
    assert counted == ["decode"]
    assert loads[-1] == 0
    assert pipeline.service_s < 1  # not the time for which it hung


class HangingPredictor:
    """The wide predictor of a model, whose decoding waits for an event."""

    def __init__(self, inner: Predictor, release: threading.Event) -> None:
        self._inner, self._release, self.is_entered = inner, release, False

    def read(self, source: Any) -> Any:
        self.is_entered = True
        assert self._release.wait(20)
        return self._inner.read(source)


def test_threads_that_could_not_start_are_started_with_the_next_image(
    tiny_serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, start = Pipeline(2, 2, 1), threading.Thread.start
    failures = [None, RuntimeError("can't start new thread")]

    def start_some(thread: threading.Thread) -> None:
        if thread.name == "pipeline" and failures and (error := failures.pop(0)):
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)

    async def work() -> Outcome:
        with pytest.raises(RuntimeError):
            pipeline.submit(jobs(tiny_serving, "first"))
        assert pipeline.load == 0
        (job,) = jobs(tiny_serving, "second")
        pipeline.submit([job])
        return await job.future

    assert run(pipeline, work).prediction.source == "second"
    assert pipeline._alive == 2


def test_a_lone_image_has_all_threads_and_a_crowd_one_each(held: Any) -> None:
    serving = Serving.load(TINY, ServeConfig(threads=2))
    assert serving.wide is not serving.narrow
    pipeline = Pipeline(threads=2, lanes=2, max_batch=1)

    async def work() -> None:
        first, second = jobs(serving, "first"), jobs(serving, "second")
        pipeline.submit(first)
        while not held.sizes:
            await asyncio.sleep(0.001)
        pipeline.submit(second)
        while len(held.sizes) < 2:
            await asyncio.sleep(0.001)
        held.set()
        await asyncio.gather(first[0].future, second[0].future)

    run(pipeline, work)
    assert [predictor for predictor, _ in held.sizes] == [serving.wide, serving.narrow]


def test_one_thread_needs_one_session() -> None:
    serving = Serving.load(TINY, ServeConfig(threads=1))
    assert serving.wide is serving.narrow


def test_nothing_is_done_for_who_is_gone(tiny_serving: Serving, held: Any) -> None:
    pipeline = Pipeline(threads=1, lanes=1, max_batch=1)

    async def work() -> None:
        first, rest = jobs(tiny_serving, "first"), jobs(tiny_serving, *"abc")
        pipeline.submit(first + rest)
        for job in rest:
            job.future.cancel()
        held.set()
        await first[0].future
        while pipeline.load:
            await asyncio.sleep(0.001)

    run(pipeline, work)
    assert len(held.sizes) == 1


def test_what_is_wrong_with_an_image_is_told_to_its_sender(tiny_serving: Serving) -> None:
    pipeline = Pipeline(threads=2, lanes=2, max_batch=1)

    async def work() -> list[Any]:
        batch = jobs(tiny_serving, "bad", content=b"text") + jobs(tiny_serving, "good")
        pipeline.submit(batch)
        return await asyncio.gather(*(job.future for job in batch), return_exceptions=True)

    bad, good = run(pipeline, work)
    assert isinstance(bad, NotAnImage)
    assert isinstance(good, Outcome)


def test_a_loop_that_ended_meanwhile_harms_nobody(tiny_serving: Serving, held: Any) -> None:
    pipeline = Pipeline(threads=1, lanes=1, max_batch=1)

    async def leave() -> None:
        pipeline.submit(jobs(tiny_serving, "gone"))
        while not held.sizes:
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    held.set()

    async def work() -> Outcome:
        (job,) = jobs(tiny_serving, "here")
        pipeline.submit([job])
        return await job.future

    assert run(pipeline, work).prediction.source == "here"


def test_a_model_that_was_replaced_is_let_go() -> None:
    slot = Slot(Serving.load(TINY, ServeConfig()))
    pipeline = Pipeline(threads=2, lanes=2, max_batch=1)

    async def ask() -> None:
        batch = jobs(slot.pick(), *"abcd")
        pipeline.submit(batch)
        await asyncio.gather(*(job.future for job in batch))

    async def work() -> bool:
        await ask()
        old = weakref.ref(slot.pick().wide)
        before = slot.put(Serving.load(TINY, ServeConfig()))
        assert before is not slot.pick()
        del before
        for _ in range(100):
            gc.collect()
            if old() is None:
                return True
            time.sleep(0.01)
        return False

    assert run(pipeline, work)


def test_a_library_for_gpus_without_one_runs_an_image_per_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        serving = Serving.load(TINY, ServeConfig(threads=2))
    assert not serving.wide.on_gpu
    assert serving.wide is not serving.narrow
