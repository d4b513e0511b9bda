"""The gate before the pipeline."""

import pytest

from lesion.errors import Overloaded
from lesion.serve.admission import RETRY_S, Draining, Gate
from lesion.serve.pipeline import Pipeline


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(threads=2, lanes=2, max_batch=1)


def test_the_queue_is_bounded(pipeline: Pipeline) -> None:
    gate = Gate(pipeline, queue=3, deadline_s=10)
    pipeline.load = 4
    gate.require_room()
    assert gate.is_open
    with pytest.raises(Overloaded):
        gate.require_room(2)
    pipeline.load = 5
    assert not gate.is_open
    with pytest.raises(Overloaded):
        gate.require_room()


def test_the_client_hears_when_to_ask_again(pipeline: Pipeline) -> None:
    gate = Gate(pipeline, queue=8, deadline_s=60)
    pipeline.load, pipeline.service_s = 10, 0.5
    with pytest.raises(Overloaded) as caught:
        gate.require_room()
    assert caught.value.http_headers == {"Retry-After": "6"}


def test_what_would_come_too_late_is_refused_at_once_unless_there_is_nothing_else(pipeline: Pipeline) -> None:
    gate = Gate(pipeline, queue=8, deadline_s=1)
    pipeline.service_s = 0.4
    pipeline.load = 1
    gate.require_room()
    pipeline.load = 2
    with pytest.raises(Overloaded):
        gate.require_room()
    pipeline.load, pipeline.service_s = 0, 100  # an estimate that nothing else could correct
    gate.require_room()


def test_nobody_comes_in_when_it_is_about_to_stop(pipeline: Pipeline) -> None:
    gate = Gate(pipeline, queue=8, deadline_s=10)
    gate.draining = True
    assert not gate.is_open
    with pytest.raises(Draining):
        gate.require_room()


def test_nobody_comes_in_while_all_threads_hang(pipeline: Pipeline) -> None:
    gate = Gate(pipeline, queue=8, deadline_s=10)
    pipeline.lost = 1
    gate.require_room()
    pipeline.lost = 2
    assert (gate.is_open, gate.is_stuck) == (False, True)
    with pytest.raises(Overloaded, match="hang"):
        gate.require_room()


def test_a_client_is_never_told_to_wait_for_hours(pipeline: Pipeline) -> None:
    gate = Gate(pipeline, queue=8, deadline_s=600)
    pipeline.load, pipeline.service_s = 10, 1e9
    with pytest.raises(Overloaded) as caught:
        gate.require_room()
    assert caught.value.http_headers == {"Retry-After": f"{RETRY_S:.0f}"}
