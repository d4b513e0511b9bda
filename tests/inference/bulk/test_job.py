"""The work as a whole: counted, resumed and stopped in order."""

import csv
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from lesion.errors import Interrupted, OutputError, Terminated
from lesion.inference.bulk.items import Answer, Item, Unreadable, to_item
from lesion.inference.bulk.job import SHOWN, Answering, Job
from lesion.inference.bulk.outputs import FileOutput, StreamOutput
from lesion.inference.bulk.pipeline import answer
from lesion.inference.predictor import Predictor
from lesion.records import Prediction
from tests.inference.bulk.conftest import paint


@dataclass
class Kept:
    """An output that keeps answers, and fails when it is told to."""

    answers: list[Answer] = field(default_factory=list)
    finished: bool = False
    room: int = 1000

    def write(self, answer: Answer) -> None:
        if len(self.answers) == self.room:
            raise OutputError("full")
        self.answers.append(answer)

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None: ...


@dataclass
class Counter:
    steps: int = 0
    said: list[object] = field(default_factory=list)

    def begin(self, label: str, total: int, unit: str = "") -> None:
        self.said.append(total)

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.steps += steps

    def end(self) -> None:
        self.said.append("end")


@pytest.fixture
def answering(predictor: Predictor) -> Answering:
    return partial(answer, model=predictor, threads=2, batch=4)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return [to_item(str(paint(tmp_path / "in" / f"{number:02}.png", number))) for number in range(20)]


def test_all_are_answered_and_counted(answering: Answering, items: list[Item]) -> None:
    output, progress = Kept(), Counter()
    job = Job(answering, output, progress=progress)
    job.run([*items, to_item("none.png")], 21)
    report = job.report("out.csv", "m@1")
    assert [each.source for each in output.answers] == [*(item.name for item in items), "none.png"]
    assert output.finished
    assert (report.images, report.unreadable, report.earlier, job.stopped) == (21, 1, 0, None)
    assert report.images_per_second == pytest.approx(21 / report.seconds)
    assert (progress.steps, progress.said) == (21, [21, "end"])


def test_what_is_there_is_not_answered_again(
    answering: Answering, items: list[Item], template: Prediction, tmp_path: Path
) -> None:
    for round_, given in enumerate((items[:7], items, items[::-1])):
        output = FileOutput(str(tmp_path / "a.jsonl"), "jsonl", template, resume=True)
        job = Job(answering, output, output.earlier, progress := Counter())
        job.run([*given, to_item("none.png")] if round_ else given, 1)
        output.close()
        report = job.report("a.jsonl", "m")
        assert (report.images, report.earlier, report.unreadable) == [(7, 0, 0), (14, 7, 1), (0, 21, 1)][round_]
        assert progress.steps == len(given) + (round_ > 0)
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 21


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, Terminated)])
def test_a_signal_ends_it_in_order(
    number: signal.Signals, kind: type[Interrupted], answering: Answering, items: list[Item]
) -> None:
    def come() -> Iterator[Item | None]:
        yield from (*items[:10], None)
        os.kill(os.getpid(), number)
        yield from items[10:]

    before = signal.getsignal(signal.SIGTERM)
    output = Kept()
    job = Job(answering, output)
    job.run(come())
    assert type(job.stopped) is kind
    assert (len(output.answers), output.finished) == (10, False)
    assert "stopped after 10 images" in str(job.stopped)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_a_signal_during_a_write_waits_until_the_answer_is_counted(answering: Answering, items: list[Item]) -> None:
    @dataclass
    class Slow(Kept):
        signals: int = 1

        def write(self, answer: Answer) -> None:
            if len(self.answers) == 7:
                for _ in range(self.signals):
                    os.kill(os.getpid(), signal.SIGINT)
            Kept.write(self, answer)

    job = Job(answering, output := Slow())
    job.run(items)
    assert (len(output.answers), job.images, type(job.stopped)) == (8, 8, Interrupted)

    job = Job(answering, output := Slow(signals=2))  # who is in a hurry need not wait for a write that hangs
    job.run(items)
    assert (len(output.answers), job.images, type(job.stopped)) == (7, 7, Interrupted)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_ctrl_c_that_was_ignored_stays_ignored(answering: Answering, items: list[Item]) -> None:
    def come() -> Iterator[Item]:
        os.kill(os.getpid(), signal.SIGINT)
        yield from items

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        job = Job(answering, Kept())
        job.run(come())
        assert job.stopped is None
        assert job.images == len(items)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_output_that_fails_stops_the_work(answering: Answering, items: list[Item]) -> None:
    output, progress = Kept(room=5), Counter()
    with pytest.raises(OutputError, match="full"):
        Job(answering, output, progress=progress).run(items, 20)
    assert (len(output.answers), output.finished, progress.said[-1]) == (5, False, "end")


def test_many_unreadable_images_do_not_flood_the_log(
    answering: Answering, caplog: pytest.LogCaptureFixture, template: Prediction
) -> None:
    with caplog.at_level(logging.WARNING, "lesion"):
        Job(answering, StreamOutput(io.StringIO(), "jsonl", template)).run([to_item(f"{n}.png") for n in range(100)])
    assert len(caplog.messages) == SHOWN + 1
    assert caplog.messages[0] == "no answer: no such image: 0.png"


def test_nobody_else_waits_for_a_bar(answering: Answering, items: list[Item]) -> None:
    progress = Counter()
    Job(answering, Kept(), progress=progress).run(iter(items))
    assert progress.said == ["end"]
    assert isinstance(next(answering([to_item("none")])), Unreadable)


def test_an_image_that_can_be_read_later_gets_its_answer(
    answering: Answering, items: list[Item], template: Prediction, tmp_path: Path
) -> None:
    path, late = tmp_path / "a.csv", to_item(str(tmp_path / "late.png"))
    for round_ in range(4):
        if round_ == 2:
            paint(tmp_path / "late.png", 3)
        output = FileOutput(str(path), "csv", template, resume=True)
        job = Job(answering, output, output.earlier)
        job.run([*items, late])
        output.close()
        report = job.report("a.csv", "m")
        expected = [(21, 0, 1), (0, 21, 1), (1, 20, 0), (0, 21, 0)][round_]
        assert (report.images, report.earlier, report.unreadable) == expected
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["error.code"] for row in rows if row["source"] == late.name] == ["NotFoundError", ""]


def test_an_image_that_comes_again_is_written_again_only_when_it_can_be_read(
    answering: Answering, tmp_path: Path
) -> None:
    path, told = tmp_path / "a.png", list[str]()
    item = to_item(str(path))

    def come() -> Iterator[Item | None]:
        for round_ in range(4):
            if round_ == 2:
                paint(path)
            if round_ < 3:
                yield item
            yield None

    output = Kept()
    job = Job(answering, output, on_unreadable=told.append)
    job.run(come())
    assert told == [str(path)] * 2
    assert [isinstance(each, Unreadable) for each in output.answers] == [True, False]
    report = job.report(None, "m")
    assert (report.images, report.unreadable) == (1, 0)
