import os
import subprocess
import sys

import pytest

from lesion.tracking.process import describe_process, has_died

HERE = describe_process()
HOST = str(HERE["host"])


def test_this_process_lives() -> None:
    assert HERE["pid"] == os.getpid()
    assert not has_died(HOST, os.getpid(), float(HERE["born"]))


def test_a_process_that_ended_is_dead_even_when_nobody_waited_for_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()  # until its end
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_died(HOST, child.pid, __import__("psutil").Process(child.pid).create_time())
    child.wait()
    child.stdout.close()
    assert has_died(HOST, child.pid, 0.0)


def test_an_id_that_went_to_another_process_does_not_count() -> None:
    assert has_died(HOST, os.getpid(), float(HERE["born"]) - 60)


def test_a_clock_that_was_set_a_little_does_not_kill() -> None:
    assert not has_died(HOST, os.getpid(), float(HERE["born"]) + 1)


@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["lives", "dead"])
def test_runs_of_other_hosts_are_not_judged(pid: int) -> None:
    assert not has_died(f"not-{HOST}", pid, 0.0)
