import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lesion.data import cache as module
from lesion.data.cache import open_cache
from lesion.data.index import Row, read_index
from lesion.data.pixels import decode_rows
from lesion.errors import ImageError, OutputError
from lesion.preprocess import PreprocessSpec
from tests.conftest import PATIENCE_S

SPEC = PreprocessSpec(32, "bilinear")


@pytest.fixture
def rows(ham_copy: Path) -> list[Row]:
    return read_index(ham_copy)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The image ids decoded so far."""
    seen: list[str] = []
    honest = module.decode_in_order

    def watch(rows: list[Row], *rest: object) -> object:
        seen.extend(row.image_id for row in rows)
        return honest(rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "decode_in_order", watch)
    return seen


def test_the_cache_holds_the_pixels_of_the_files(rows: list[Row], tmp_path: Path) -> None:
    for _ in range(2):
        np.testing.assert_array_equal(open_cache(rows, SPEC, tmp_path).take(rows), decode_rows(rows, SPEC))


def test_a_second_opening_decodes_nothing(rows: list[Row], tmp_path: Path, decoded: list[str]) -> None:
    open_cache(rows, SPEC, tmp_path)
    assert len(decoded) == len(rows)
    decoded.clear()
    open_cache(rows, SPEC, tmp_path)
    assert decoded == []


def test_any_rows_can_be_taken_in_any_order(rows: list[Row], tmp_path: Path) -> None:
    chosen = rows[7:2:-1]
    np.testing.assert_array_equal(open_cache(rows, SPEC, tmp_path).take(chosen), decode_rows(chosen, SPEC))


def test_exactly_the_changed_image_is_decoded_again(rows: list[Row], tmp_path: Path, decoded: list[str]) -> None:
    open_cache(rows, SPEC, tmp_path)
    decoded.clear()
    rows[3].path.write_bytes(rows[4].path.read_bytes())
    cache = open_cache(rows, SPEC, tmp_path)
    assert decoded == [rows[3].image_id]
    np.testing.assert_array_equal(cache.take(rows), decode_rows(rows, SPEC))


def test_a_file_that_was_only_touched_is_not_decoded_again(rows: list[Row], tmp_path: Path, decoded: list[str]) -> None:
    open_cache(rows, SPEC, tmp_path)
    decoded.clear()
    os.utime(rows[3].path, (1, 1))
    open_cache(rows, SPEC, tmp_path)
    assert decoded == []


@pytest.mark.parametrize(
    "spec",
    [PreprocessSpec(24, "bilinear"), PreprocessSpec(32, "bicubic"), PreprocessSpec(32, "bilinear", reduce=True)],
    ids=["size", "filter", "reduce"],
)
def test_another_geometry_has_a_file_of_its_own(
    spec: PreprocessSpec, rows: list[Row], tmp_path: Path, decoded: list[str]
) -> None:
    open_cache(rows, SPEC, tmp_path)
    np.testing.assert_array_equal(open_cache(rows, spec, tmp_path).take(rows), decode_rows(rows, spec))
    decoded.clear()
    open_cache(rows, SPEC, tmp_path)
    assert decoded == []


def test_rows_that_came_or_went_change_only_themselves(rows: list[Row], tmp_path: Path, decoded: list[str]) -> None:
    open_cache(rows[:-2], SPEC, tmp_path)
    decoded.clear()
    np.testing.assert_array_equal(open_cache(rows[1:], SPEC, tmp_path).take(rows[1:]), decode_rows(rows[1:], SPEC))
    assert decoded == [row.image_id for row in rows[-2:]]


def test_a_flipped_byte_is_found_repaired_and_said(
    rows: list[Row], tmp_path: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    open_cache(rows, SPEC, tmp_path)
    decoded.clear()
    path = tmp_path / "32-bilinear.npy"
    content = bytearray(path.read_bytes())
    content[-32 * 32 * 3 * 2 - 5] ^= 1  # in the third image from the end
    path.write_bytes(content)
    cache = open_cache(rows, SPEC, tmp_path)
    assert decoded == [rows[-3].image_id]
    assert f"1 damaged, decoded again: {rows[-3].image_id}" in caplog.text
    np.testing.assert_array_equal(cache.take(rows), decode_rows(rows, SPEC))


@pytest.mark.parametrize("name", ["32-bilinear.npy", "32-bilinear.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "garbled", "removed"])
def test_a_ruined_file_is_made_anew(name: str, damage: str, rows: list[Row], tmp_path: Path) -> None:
    open_cache(rows, SPEC, tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "emptied":
            path.write_bytes(b"")
        case "garbled":
            path.write_bytes(bytes(reversed(content)))
        case "removed":
            path.unlink()
    np.testing.assert_array_equal(open_cache(rows, SPEC, tmp_path).take(rows), decode_rows(rows, SPEC))


def test_another_pillow_decodes_anew(
    rows: list[Row], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_cache(rows, SPEC, tmp_path)
    decoded.clear()
    monkeypatch.setattr(module.PIL, "__version__", "99.0")
    open_cache(rows, SPEC, tmp_path)
    assert len(decoded) == len(rows)


def test_an_unusable_image_is_named_and_leaves_the_old_cache(rows: list[Row], tmp_path: Path) -> None:
    open_cache(rows, SPEC, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("32-*")}
    rows[5].path.write_bytes(rows[5].path.read_bytes()[:-300])
    with pytest.raises(ImageError, match=rows[5].path.name):
        open_cache(rows, SPEC, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*-*") if path.is_file()} == before


def test_a_disk_that_fills_up_is_said_and_leaves_nothing(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.np.lib.format, "write_array_header_1_0", refuse)
    folder = tmp_path / "cache"
    with pytest.raises(OutputError, match="No space left") as caught:
        open_cache(rows, SPEC, folder)
    assert caught.value.exit_code == 74
    assert "data.processed" in caught.value.hint
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_too_little_space_is_said_before_anything_is_decoded(
    rows: list[Row], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match=r"need 0\.0 GB"):
        open_cache(rows, SPEC, tmp_path)


def test_two_builders_at_once_both_get_the_right_pixels(rows: list[Row], tmp_path: Path) -> None:
    expected = decode_rows(rows, SPEC)
    code = (
        "import sys; from pathlib import Path; from lesion.data.cache import open_cache; "
        "from lesion.data.index import read_index; from lesion.preprocess import PreprocessSpec; "
        "rows = read_index(Path(sys.argv[1])); "
        "cache = open_cache(rows, PreprocessSpec(32, 'bilinear'), Path(sys.argv[2])); "
        "sys.stdout.buffer.write(cache.take(rows).tobytes())"
    )
    root = rows[0].path.parents[1]
    words = [sys.executable, "-c", code, str(root), str(tmp_path)]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate(timeout=PATIENCE_S)[0] for process in running]
    assert outputs == [expected.tobytes()] * 3
    np.testing.assert_array_equal(open_cache(rows, SPEC, tmp_path).take(rows), expected)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_builder_that_is_killed_leaves_nothing_wrong(rows: list[Row], tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lesion.data import cache; "
        "from lesion.data.index import read_index; from lesion.preprocess import PreprocessSpec; "
        "honest = cache.decode_in_order\n"
        "def slow(*words):\n"
        "    for pixels in honest(*words):\n"
        "        print('x', flush=True); time.sleep(0.02); yield pixels\n"
        "cache.decode_in_order = slow\n"
        "cache.open_cache(read_index(Path(sys.argv[1])), PreprocessSpec(32, 'bilinear'), Path(sys.argv[2]))"
    )
    words = [sys.executable, "-c", code, str(rows[0].path.parents[1]), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.glob(".*.npy.*")
    np.testing.assert_array_equal(open_cache(rows, SPEC, tmp_path).take(rows), decode_rows(rows, SPEC))
    assert left.exists()  # it may belong to a process that still writes
    os.utime(left, (time.time() - 2 * module.ABANDONED_S,) * 2)
    open_cache(rows[:-1], SPEC, tmp_path)
    assert not left.exists()


def test_threads_of_one_process_may_build_at_once(rows: list[Row], tmp_path: Path) -> None:
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(open_cache(rows, SPEC, tmp_path).take(rows))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(result, results[0]) for result in results)
