"""The gate before the pipeline."""

import pytest

from lesion.errors import Overloaded
from lesion.serve.admission import Draining, Gate
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
