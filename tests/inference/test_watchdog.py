"""Time limits of steps: given up once, in every process, and not while the process stands still."""

import os
import subprocess
import sys
import threading

import pytest

from lesion.inference.watchdog import LOOK_S, Step, Watchdog
from tests.conftest import PATIENCE_S


def test_a_step_is_given_up_once_after_its_limit() -> None:
    counted: list[str] = []
    given_up: list[Step] = []
    watchdog = Watchdog(counted.append)

    def give_up(step: Step) -> bool:
        given_up.append(step)
        return True

    slow, quick = Step("decode", 2.0, give_up), Step("infer", 2.0, give_up)
    watchdog.begin(slow)
    watchdog.begin(quick)
    watchdog.look(1.5)
    watchdog.end(quick)
    assert counted == []
    watchdog.look(1.0)
    watchdog.look(9.0)
    watchdog.close()
    assert counted == ["decode"]
    assert given_up == [slow]


def test_a_step_that_ended_meanwhile_is_not_counted_and_an_error_stops_nothing() -> None:
    counted: list[str] = []
    watchdog = Watchdog(counted.append)

    def fail(step: Step) -> bool:
        raise RuntimeError("can't start new thread")

    watchdog.begin(Step("decode", 1.0, lambda step: False))
    watchdog.begin(Step("infer", 1.0, fail))
    watchdog.look(2.0)
    watchdog.close()
    assert counted == ["infer"]


def test_time_in_which_the_process_stood_still_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *(1000.0 * number for number in range(1, 1000))])
    looked = threading.Event()
    ages: list[float] = []
    watchdog = Watchdog()

    def look(seconds: float) -> None:
        ages.append(seconds)
        looked.set()

    monkeypatch.setattr("lesion.inference.watchdog.LOOK_S", 0.01)
    monkeypatch.setattr("lesion.inference.watchdog.monotonic", lambda: next(clock))
    monkeypatch.setattr(watchdog, "look", look)
    watchdog.begin(Step("decode", 1e9, lambda step: True))
    assert looked.wait(PATIENCE_S)
    watchdog.close()
    assert max(ages) <= 0.02 < LOOK_S


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_was_forked_gives_its_steps_up_too() -> None:
    program = """
import os, sys
from lesion.inference.watchdog import Step, Watchdog
from time import sleep
watchdog, given_up = Watchdog(), []
watchdog.begin(Step("infer", 60, given_up.append))
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
watchdog.begin(Step("infer", 0.1, given_up.append))
while not given_up:
    sleep(0.05)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_S)
