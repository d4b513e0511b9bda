from pathlib import Path

import pytest

from lesion.machine import INSTRUCTIONS, UNKNOWN, find_instructions, name_processor, peak_memory


@pytest.mark.parametrize(
    ("flags", "best"),
    [
        ("flags\t\t: fpu sse4_1 avx avx2 fma", "avx2"),
        ("flags\t\t: avx2 avx512f avx512_vnni", "avx512_vnni"),
        ("flags: avx2 avx_vnni", "avx_vnni"),
        ("Features\t: fp asimd asimddp", "asimddp"),
        ("flags: sse2", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_the_best_instructions_are_found(
    flags: str, best: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor: 0\nmodel name\t: Some CPU @ 3 GHz\n{flags}\n")
    assert find_instructions(path) == best
    assert name_processor(path) == "Some CPU @ 3 GHz"


def test_a_system_that_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert find_instructions(tmp_path / "none") == UNKNOWN
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert find_instructions(tmp_path / "none") == "asimddp"


def test_this_machine_is_one_of_them() -> None:
    assert find_instructions() in (*INSTRUCTIONS, UNKNOWN)


def test_the_peak_only_grows() -> None:
    before = peak_memory()
    if before is None:
        pytest.skip("the system does not tell")
    block = bytearray(50_000_000)
    block[::4096] = bytes(len(block[::4096]))
    after = peak_memory()
    assert after is not None
    assert after >= before > 10_000_000
