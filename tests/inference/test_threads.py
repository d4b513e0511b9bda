"""How many processors may be used."""

import os
from pathlib import Path

import pytest

from lesion.inference.threads import usable_cpus


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("max 100000\n", 8),
        ("150000 100000", 2),
        ("100000 100000\n", 1),
        ("50000 100000", 1),
        ("400000 100000", 4),
        ("1600000 100000", 8),
        ("0 100000", 1),
        ("-1 100000", 1),
        ("100000 0", 8),
        ("100000", 8),
        ("1 2 3", 8),
        ("a lot", 8),
        ("1.5 1", 8),
        ("", 8),
    ],
    ids=repr,
)
def test_the_containers_quota_is_respected(tmp_path: Path, quota: str, expected: int) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota)
    assert usable_cpus(path) == expected


def test_without_a_quota_file_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none") == 8
    assert usable_cpus(tmp_path) == 8


def test_bytes_that_are_no_text_are_no_quota(tmp_path: Path) -> None:
    path = tmp_path / "cpu.max"
    path.write_bytes(b"\xff\xfe 100000")
    assert usable_cpus(path) == 8


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (None, 1)])
def test_without_affinity_the_processors_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cpus(tmp_path / "none") == expected


def test_this_machine_has_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
