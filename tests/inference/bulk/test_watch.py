"""Images that appear: answered once, and only when they are complete."""

import itertools
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lesion.errors import LesionError, NotFoundError
from lesion.inference.bulk.items import Item, to_item
from lesion.inference.bulk.watch import Watcher
from tests.conftest import PATIENCE_S
from tests.inference.bulk.conftest import names, paint

PAUSE = 0.01


def watch(folder: str, patience: float = 0.0) -> Iterator[Item | None]:
    return Watcher(folder, PAUSE, patience).find()


def look(items: Iterator[Item | None]) -> list[str]:
    """What one look finds."""
    return [Path(name).name for name in names(list(itertools.takewhile(lambda item: item is not None, items)))]


def test_images_are_given_once_as_they_appear(tmp_path: Path) -> None:
    items = watch(str(tmp_path))
    assert look(items) == []
    paint(tmp_path / "a.png")
    assert look(items) == ["a.png"]
    paint(tmp_path / "sub" / "b.png")
    paint(tmp_path / "c.png")
    (tmp_path / "note.txt").touch()
    assert look(items) == ["c.png", "b.png"]
    paint(tmp_path / "a.png", 7)  # a name is answered once
    assert look(items) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_one_that_grows_waits_until_it_is_complete(suffix: str, tmp_path: Path) -> None:
    content = paint(tmp_path / "whole" / f"a{suffix}").read_bytes()
    shutil.rmtree(tmp_path / "whole")
    items, path = watch(str(tmp_path)), tmp_path / f"a{suffix}"
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(content) - 2, 40):
            file.write(content[at : at + 40][: len(content) - 2 - at])
            assert look(items) == []
        file.write(content[-2:])
    assert look(items) == [path.name]
    assert path.read_bytes() == content


def test_one_that_was_renamed_is_given_at_once(tmp_path: Path) -> None:
    items = watch(str(tmp_path))
    paint(tmp_path / "a.png").rename(tmp_path / ".a.upload")
    assert look(items) == []
    (tmp_path / ".a.upload").rename(tmp_path / "a.png")
    assert look(items) == ["a.png"]


def test_one_that_does_not_end_like_an_image_is_given_when_it_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    items = watch(str(tmp_path))
    assert look(items) == []
    path.write_bytes(b"no imagE")
    os.utime(path, ns=(1, 1))
    assert look(items) == []
    assert look(items) == ["a.png"]


def test_one_that_goes_away_again_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"half")
    items = watch(str(tmp_path))
    assert look(items) == []
    path.unlink()
    assert look(items) == []


def test_a_folder_that_goes_away_is_told_once_and_may_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    items = watch(str(folder))
    assert look(items) == []
    folder.rmdir()
    (gone,) = itertools.takewhile(lambda item: item is not None, items)
    assert gone is not None
    assert isinstance(gone.source, LesionError)
    assert look(items) == []
    paint(folder / "a.png")
    assert look(items) == ["a.png"]


def test_a_busy_folder_loses_nothing(tmp_path: Path) -> None:
    def drop() -> None:
        for number in range(150):
            paint(tmp_path / f"{number}.png", number)

    thread = threading.Thread(target=drop)
    thread.start()
    found: list[str] = []
    items, until = watch(str(tmp_path)), time.monotonic() + 60
    while len(found) < 150 and time.monotonic() < until:
        found += look(items)
    thread.join()
    assert sorted(found) == sorted(f"{number}.png" for number in range(150))


def test_a_folder_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        next(watch(str(tmp_path / "none")))


def test_a_copy_that_pauses_and_an_empty_file_are_waited_for(tmp_path: Path) -> None:
    content = paint(tmp_path / "whole" / "a.png").read_bytes()
    shutil.rmtree(tmp_path / "whole")
    items = watch(str(tmp_path), patience=PATIENCE_S)
    (tmp_path / "half.png").write_bytes(content[:40])
    (tmp_path / "empty.png").touch()
    (tmp_path / "allocated.png").write_bytes(bytes(len(content)))
    assert [look(items) for _ in range(5)] == [[]] * 5
    for name in ("half.png", "empty.png", "allocated.png"):
        (tmp_path / name).write_bytes(content)
    assert look(items) == ["allocated.png", "empty.png", "half.png"]


def test_one_that_could_not_be_read_is_given_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    watcher = Watcher(str(tmp_path), PAUSE, patience=0)
    items = watcher.find()
    path.write_bytes(b"half")
    assert look(items) == []
    assert next(items) == to_item(str(path))
    watcher.try_again(str(path))
    assert [look(items) for _ in range(3)] == [[]] * 3
    paint(path)
    assert look(items) == ["a.png"]
    paint(path, 7)
    assert look(items) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
def test_a_pipe_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0pipe.png")
    paint(tmp_path / "a.png")
    watcher = Watcher(str(tmp_path), PAUSE)
    items = watcher.find()
    assert [Path(item.name).name for item in (next(items), next(items)) if item] == ["0pipe.png", "a.png"]
    watcher.try_again(str(tmp_path / "0pipe.png"))
    assert [look(items) for _ in range(3)] == [[]] * 3
    (tmp_path / "0pipe.png").unlink()
    paint(tmp_path / "0pipe.png")
    assert look(items) == ["0pipe.png"]


def test_the_pause_is_that_of_the_walk_and_not_of_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = 0.0, list[float]()
    monkeypatch.setattr("lesion.inference.bulk.watch.time.monotonic", lambda: clock)
    monkeypatch.setattr("lesion.inference.bulk.watch.time.sleep", slept.append)
    paint(tmp_path / "a.png")
    for item in itertools.islice(Watcher(str(tmp_path), PAUSE).find(), 3):
        if item is not None:
            clock += 100  # the answer takes so long
    assert slept == [PAUSE]


def test_images_of_a_large_folder_are_answered_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.inference.bulk.watch.PART", 2)
    for number in range(5):
        paint(tmp_path / f"{number}.png")
    items = watch(str(tmp_path))
    assert [look(items) for _ in range(3)] == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png"]]
