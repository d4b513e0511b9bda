"""Freed memory stays with the process; the peak does not grow."""

import os
import subprocess
import sys

import pytest

from lesion.engine.memory import keep_freed_memory

COUNT = """
import resource, sys
import numpy as np
from lesion.engine.memory import keep_freed_memory
keep = sys.argv[1] == "keep" and keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt  # of the start: with huge pages, more than all that follow
for _ in range(20):
    np.ones(2**23)  # 64 MiB, taken and freed
print(keep, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(word: str) -> tuple[bool, int]:
    small = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}  # huge pages need so few faults that there is nothing to see
    done = subprocess.run([sys.executable, "-c", COUNT, word], capture_output=True, text=True, check=True, env=small)
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_not_faulted_in_again() -> None:
    kept, faults = count_faults("keep")
    if not kept:
        pytest.skip("no glibc")
    assert faults < count_faults("give back")[1] / 3


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert keep_freed_memory() is False


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False
