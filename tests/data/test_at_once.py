"""Commands that write into one dataset at once: one does, the others are refused or wait; nothing is mixed or lost."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lesion.config.schema import DataConfig
from lesion.data import split as splits
from lesion.data.importing import ImportSpec, import_dataset
from lesion.data.index import IMAGES, METADATA
from lesion.data.layout import LOCK
from lesion.data.quarantine import add_to_quarantine, read_quarantine, restore
from lesion.data.split import open_dataset
from lesion.data.synth import SynthSpec, synthesize
from lesion.errors import DataError, LesionError, OutputError
from lesion.files import hold_lock
from tests.conftest import PATIENCE_S, Cli

SMALL = SynthSpec(lesions=21, width=32, height=32)


@pytest.fixture
def photos(ham_root: Path, tmp_path: Path) -> Path:
    """Four images in two class folders."""
    files = sorted((ham_root / IMAGES).iterdir())[:4]
    for number, file in enumerate(files):
        folder = tmp_path / "photos" / ("mel" if number % 2 else "nv")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    return tmp_path / "photos"


def read_files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_who_writes_a_dataset_locks_the_others_out(photos: Path, cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    commands = (
        ("data", "synth", root, "--lesions", 21, "--width", 32, "--height", 32),
        ("data", "import", photos, root),
    )
    with hold_lock(root / LOCK, "write"):
        for words in commands:
            outcome = cli(*words)
            assert outcome.code == 74
            assert f"cannot write the dataset {root}: another process does so now" in outcome.err
            assert "wait until it ends" in outcome.err
        assert [path.name for path in root.iterdir()] == [LOCK]
    assert cli(*commands[0]).code == 0
    assert sorted(path.name for path in root.iterdir()) == [IMAGES, METADATA]


def test_of_two_that_draw_into_one_folder_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second: list[LesionError] = []

    def track(items: object, *_: object) -> object:
        if not second:
            with pytest.raises(OutputError, match="another process does so now") as caught:
                synthesize(tmp_path / "root", SynthSpec(22, 32, 32, seed=2))
            second.append(caught.value)
        return items

    synthesize(tmp_path / "root", SMALL, track)  # type: ignore[arg-type]
    synthesize(tmp_path / "alone", SMALL)
    assert second
    assert read_files(tmp_path / "root") == read_files(tmp_path / "alone")


def test_of_two_imports_into_one_folder_one_is_whole(photos: Path, tmp_path: Path) -> None:
    start = threading.Barrier(2)

    def work(_: int) -> str:
        start.wait(PATIENCE_S)
        try:
            import_dataset(photos, tmp_path / "root", ImportSpec())
        except OutputError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(work, range(2)))
    import_dataset(photos, tmp_path / "alone", ImportSpec())
    assert said[0] == ""
    assert "another process does so now" in said[1] or "holds a whole dataset" in said[1]
    found, alone = read_files(tmp_path / "root"), read_files(tmp_path / "alone")
    found.pop("import.json")
    alone.pop("import.json")
    assert found == alone


def test_what_a_killed_import_left_is_named_and_the_hint_works(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    import_dataset(photos, root, ImportSpec())
    with pytest.raises(OutputError, match="holds a whole dataset") as caught:
        import_dataset(photos, root, ImportSpec())
    assert "use that one" in caught.value.hint
    (root / METADATA).unlink()  # as if it had been killed before its last step
    with pytest.raises(OutputError, match=f"{IMAGES} exists, without {METADATA}") as caught:
        import_dataset(photos, root, ImportSpec())
    assert f"delete {root / IMAGES}" in caught.value.hint
    shutil.rmtree(root / IMAGES)
    assert import_dataset(photos, root, ImportSpec()).images == 4


def test_of_two_prepares_with_other_seeds_the_later_one_is_told_the_seed(
    ham_copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    caplog.set_level("INFO")
    first, waiting, draw = threading.Event(), threading.Event(), splits.draw_split
    monkeypatch.setattr("lesion.files.log.info", lambda *_: waiting.set())

    def slow(*words: object, **more: object) -> object:
        first.set()
        assert waiting.wait(PATIENCE_S)
        return draw(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(splits, "draw_split", slow)

    def prepare(seed: int) -> str:
        return open_dataset(DataConfig(root=str(ham_copy), split_seed=seed, near_duplicates=False)).fingerprint

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(prepare, 1)
        assert first.wait(PATIENCE_S)
        two = pool.submit(prepare, 2)
        fingerprint = one.result(PATIENCE_S)
        with pytest.raises(DataError, match="was drawn for seed 1, not 2"):
            two.result(PATIENCE_S)
    assert prepare(1) == fingerprint


def test_a_split_that_another_draws_for_ever_is_not_waited_for_for_ever(
    ham_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "WAIT_S", 0.1)
    (ham_copy / "processed").mkdir()
    config = DataConfig(root=str(ham_copy), near_duplicates=False)
    with hold_lock(ham_copy / "processed" / splits.LOCK, "draw"), pytest.raises(OutputError, match="draw the split"):
        open_dataset(config)
    open_dataset(config)


@pytest.mark.parametrize("change", ["add", "restore"])
def test_changes_of_the_quarantine_at_once_are_all_kept(change: str, tmp_path: Path) -> None:
    names = [f"image{number}" for number in range(8)]
    start = threading.Barrier(len(names))
    if change == "restore":
        add_to_quarantine(tmp_path, dict.fromkeys([*names, "stays"], "blurred"))

    def work(name: str) -> None:
        start.wait(PATIENCE_S)
        act: Callable[[], object] = (
            (lambda: add_to_quarantine(tmp_path, {name: "blurred"}))
            if change == "add"
            else (lambda: restore(tmp_path, [name]))
        )
        act()

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(work, names))
    assert sorted(read_quarantine(tmp_path)) == (names if change == "add" else ["stays"])
    assert [path.name for path in tmp_path.iterdir()] == ["quarantine.csv"]
