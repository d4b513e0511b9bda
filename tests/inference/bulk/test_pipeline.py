"""Answers in order, whatever is wrong with some images, with as little in memory for many as for few."""

import os
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lesion.errors import CheckFailed, MissingExtra, NotFoundError
from lesion.inference.bulk.items import Item, Unreadable, to_item
from lesion.inference.bulk.pipeline import answer, form_batches
from lesion.inference.bulk.sources import find_items
from lesion.inference.predictor import Predictor
from lesion.records import Prediction
from tests.inference.bulk.conftest import paint

PIXELS = np.zeros((2, 2, 3), np.uint8)


class Fake:
    """Answers without an image; a path with "bad" in it does not exist."""

    def __init__(self, wait: float = 0) -> None:
        self.wait = wait
        self.sizes: list[int] = []
        self.read_so_far = 0

    def read(self, source: str | bytes) -> npt.NDArray[np.uint8]:
        self.read_so_far += 1
        time.sleep(random.random() * self.wait)
        if "bad" in str(source):
            raise NotFoundError(f"no such image: {source}")
        return PIXELS

    def predict_pixels(self, pixels: npt.NDArray[np.uint8], names: Sequence[str]) -> list[Prediction]:
        assert pixels.shape == (len(names), 2, 2, 3)
        self.sizes.append(len(names))
        return [Prediction(name, "benign", 1.0, "benign", (), {}, None, "fake") for name in names]


def make(count: int, bad: int = 0) -> Iterator[Item]:
    for number in range(count):
        yield to_item(f"{'bad' if bad and number % bad == 0 else 'good'}/{number}.png")


@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (2, 8), (5, 3), (3, 200)])
def test_every_item_is_answered_once_in_order(threads: int, batch: int) -> None:
    items = list(make(100, bad=7))
    found = list(answer(items, Fake(wait=0.002), threads, batch))
    assert [each.source for each in found] == [item.name for item in items]
    assert [isinstance(each, Unreadable) for each in found] == [number % 7 == 0 for number in range(100)]


def test_batches_are_of_the_size_asked_for() -> None:
    model = Fake()
    list(answer(make(50), model, 2, 8))
    assert sorted(model.sizes) == [2, 8, 8, 8, 8, 8, 8]


def test_a_batch_of_unreadable_images_never_meets_the_model() -> None:
    model = Fake()
    assert all(isinstance(each, Unreadable) for each in answer(make(9, bad=1), model, 2, 4))
    assert model.sizes == []


def test_a_pause_lets_nothing_wait() -> None:
    a, b, c = make(3)
    assert list(form_batches([a, None, None, b, c], 2)) == [[a], [], [], [b, c], []]
    answered: list[str] = []

    def live() -> Iterator[Item | None]:
        yield from (a, b, None)
        assert answered == [a.name, b.name]
        yield from (c, None)
        assert answered == [a.name, b.name, c.name]

    for each in answer(live(), Fake(), 2, 8):
        answered.append(each.source)


def test_only_some_batches_are_ahead() -> None:
    model, taken = Fake(), 0

    def count() -> Iterator[Item]:
        nonlocal taken
        for item in make(1000):
            taken += 1
            yield item

    answers = answer(count(), model, threads=2, batch=4)
    next(answers)
    assert taken <= (2 * 2 + 1) * 4
    answers.close()
    before = model.read_so_far
    time.sleep(0.05)
    assert model.read_so_far == before <= taken
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("predict")]


def write_table(path: Path, rows: int) -> str:
    with path.open("w") as file:
        file.write("id,path\n")
        file.writelines(f"{n},{'bad' if n % 100 == 0 else 'good'}/{n:08}.png\n" for n in range(rows))
    return str(path)


@pytest.mark.slow
def test_a_table_of_many_rows_of_which_some_are_bad_is_answered_row_by_row(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", 100_000)
    wrong = 0
    for number, each in enumerate(answer(find_items([path]), Fake(), 2, 64)):
        assert each.source.endswith(f"/{number:08}.png")
        wrong += isinstance(each, Unreadable)
    assert (number, wrong) == (99_999, 1000)


def test_many_rows_need_no_more_memory_than_few(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = write_table(tmp_path / f"{rows}.csv", rows)
        tracemalloc.start()
        for _ in answer(find_items([path]), Fake(), 2, 64):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(2_000), peak(10_000)
    assert many < 1.2 * few + 50_000  # a path has about a hundred bytes


def test_answers_are_the_same_to_the_bit_as_one_by_one(predictor: Predictor, tmp_path: Path) -> None:
    paths = [paint(tmp_path / f"{number:03}.png", number * 37) for number in range(40)]
    assert list(answer(find_items([str(tmp_path)]), predictor, 3, 7)) == [predictor.predict(path) for path in paths]


def test_each_bad_file_is_told_by_its_code(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "cut.png").write_bytes(paint(tmp_path / "ok.png").read_bytes()[:60])
    (tmp_path / "big.png").write_bytes(bytes(17 * 2**20))
    (tmp_path / "folder.png").mkdir()
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes have names here")
    os.mkfifo(tmp_path / "pipe.png")
    names = ("text.jpg", "cut.png", "big.png", "folder.png", "pipe.png", "none.png", "n" * 300, "ok.png")
    found = list(answer([to_item(str(tmp_path / name)) for name in names], predictor, 2, 3))
    codes = [each.error.code for each in found if isinstance(each, Unreadable)]
    assert codes == ["NotAnImage", "ImageError", "ImageTooLarge", *["ImageError"] * 2, "NotFoundError", "ImageError"]
    assert isinstance(found[-1], Prediction)
    assert all(str(tmp_path) in each.error.message for each in found if isinstance(each, Unreadable))


def test_files_that_change_and_vanish_while_they_are_read_get_an_answer_each(
    predictor: Predictor, tmp_path: Path
) -> None:
    paths = [paint(tmp_path / f"{number:03}.png", number) for number in range(60)]
    content, done = paths[0].read_bytes(), threading.Event()

    def disturb() -> None:
        while not done.is_set():
            path, what = random.choice(paths), random.randrange(3)
            if what:
                path.write_bytes(content[: len(content) // what])
            else:
                path.unlink(missing_ok=True)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(5):
            found = list(answer([to_item(str(path)) for path in paths], predictor, 2, 8))
            assert [each.source for each in found] == list(map(str, paths))
            whole = [each for each in found if isinstance(each, Prediction)]
            assert all(each.confidence > 0 for each in whole)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("error", [CheckFailed("no answer"), RuntimeError("a bug")])
def test_what_is_wrong_with_the_model_ends_it(error: Exception) -> None:
    class Broken(Fake):
        def predict_pixels(self, pixels: Any, names: Any) -> list[Prediction]:
            raise error

    with pytest.raises(type(error), match=str(error)):
        list(answer(make(100), Broken(), 2, 4))


def test_a_package_that_all_images_need_is_not_told_a_million_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra):
        list(answer([to_item("s3://bucket/a.png")] * 3, Fake(), 1, 1))
