"""Freed memory stays with the process, as much of it as was allowed."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lesion.memory import keep_freed_memory

MIB = 2**20
COUNT = """
import resource, sys
import numpy as np
from lesion.memory import keep_freed_memory
most, size = int(sys.argv[1]), int(sys.argv[2])
keep = most > 0 and keep_freed_memory(most)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt  # of the start: with huge pages, more than all that follow
for _ in range(20):
    [np.ones(size // 32) for _ in range(4)]  # taken and freed; by itself glibc keeps twice the largest
print(keep, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(most: int, size: int) -> tuple[bool, int]:
    small = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}  # huge pages need so few faults that there is nothing to see
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(most), str(size)], capture_output=True, text=True, check=True, env=small
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
@pytest.mark.parametrize(("most", "size"), [(2**31 - 1, 64 * MIB), (64 * MIB, 8 * MIB)])
def test_freed_memory_is_not_faulted_in_again(most: int, size: int) -> None:
    kept, faults = count_faults(most, size)
    if not kept:
        pytest.skip("no glibc")
    assert faults < count_faults(0, size)[1] / 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_no_more_is_kept_than_was_allowed() -> None:
    _, faults = count_faults(64 * MIB, 128 * MIB)
    assert faults > count_faults(0, 128 * MIB)[1] / 2


def test_less_is_not_asked_for_once_more_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *words: not asked.append(words))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _: library)
    monkeypatch.setattr("lesion.memory._kept", 0)
    assert keep_freed_memory(64 * MIB)
    assert keep_freed_memory()
    before = len(asked)
    assert keep_freed_memory(64 * MIB)
    assert (before, len(asked)) == (4, 4)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert keep_freed_memory() is False


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False
