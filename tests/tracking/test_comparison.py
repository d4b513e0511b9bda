"""The page that compares runs: complete in itself, well-formed, and deaf to what strangers write."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lesion.tracking.entries import Curve, RunDetail
from lesion.tracking.page import render_page, to_letter, to_points, to_title
from lesion.tracking.query import find_run, read_detail
from lesion.tracking.store import Store

EVIL = "<script>alert(1)</script>\"'&{style}\x1b[31m"


class Reader(HTMLParser):
    """Collects tags and attributes, and checks that what is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def record(store: Store, name: str, lr: float, split: str = "0a1b", epochs: int = 4) -> RunDetail:
    run = store.start(
        Path("runs") / name, "resnet", {"optim": {"lr": lr}, "seed": 0}, {"split": split, "commit": "c0ffee"}
    )
    for epoch in range(epochs):
        end = 10 * (epoch + 1)
        rows = [("train_loss_step", end - 10 + i, epoch, 2.0 / (end + i)) for i in range(10)]
        found = {
            "train_loss": 1 / end,
            "val_loss": 2 / end + lr,
            "val_auroc": 0.5 + epoch / 10 - lr,
            "lr-AdamW": lr / end,
        }
        store.log(run, rows + [(key, end, epoch, value) for key, value in found.items()])
    store.add_artifact(run, "model.onnx", "model", "ab" * 32, 1234567)
    store.finish(run, "finished", {"test_auroc": 0.9 - lr})
    return read_detail(store, find_run(store, str(run)))


def test_the_page_shows_figures_curves_differences_and_files(store: Store) -> None:
    page = Reader(render_page([record(store, "one", 0.1), record(store, "two", 0.2)]))
    for word in ("one", "two", "0.800", "0.700", "optim.lr", "c0ffee", "1,234,567", "ab" * 32, "not a medical device"):
        assert word in page.text, word
    for title in ("Training loss", "Validation loss", "Validation AUROC", "Learning rate"):
        assert f"{title}: A from " in page.text
    assert "Images per second" not in page.text  # not recorded
    assert "seed" not in page.text
    assert "different splits" not in page.text
    assert page.tags.count("svg") == 4
    assert page.text.index("test AUROC") < page.text.index("Curves")


def test_the_page_loads_nothing_and_runs_nothing(store: Store) -> None:
    page = render_page([record(store, "one", 0.1)])
    reader = Reader(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(reader.tags)
    assert not {name for name, _ in reader.attributes} & {"src", "href", "onload", "onclick", "style"}
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_the_best_is_bold(store: Store) -> None:
    page = render_page([record(store, "one", 0.1), record(store, "two", 0.2)])
    assert re.findall(r'<td class="number best">([^<]*)</td>', page)[:3] == ["0.700", "0.150", "0.800"]


def test_what_strangers_wrote_cannot_become_markup(store: Store) -> None:
    run = store.start(Path("runs") / EVIL.replace("/", "|"), EVIL, {EVIL: {EVIL: EVIL}, "b": [EVIL]}, {EVIL: EVIL})
    store.log(run, [(EVIL, 1, 0, 0.5), (f"val_{EVIL}", 1, 0, 0.5), ("val_loss", 1, 0, 0.5)])
    store.add_artifact(run, EVIL, EVIL, EVIL, 1)
    store.finish(run, EVIL, {EVIL: 0.5})
    details = [read_detail(store, find_run(store, "latest")), record(store, "two", 0.2)]
    for everything in (False, True):
        reader = Reader(render_page(details, everything))
        assert "script" not in reader.tags
        assert "alert(1)" in reader.text
        assert "\x1b" not in reader.text


def test_odd_runs_do_not_break_the_page(store: Store) -> None:
    bare = store.start(Path("runs/bare"), "resnet", {}, {})
    nan = store.start(Path("runs/nan"), "resnet", {"seed": 1}, {"split": "ffff"})
    store.log(nan, [("val_loss", 1, 0, math.nan), ("val_auroc", 1, 0, 0.5), ("val_f1", 1, 0, 0.0)])
    details = [read_detail(store, find_run(store, str(run))) for run in (bare, nan)]
    page = Reader(render_page([*details, record(store, "two", 0.2)]))
    assert "3 different splits" in page.text
    assert "Validation F1: B from 0 to 0" in page.text
    assert "nan" not in page.text.replace("nan</", "").replace("runs/nan", "").replace("nan", "", 1)
    assert Reader(render_page(details[:1])).tags.count("svg") == 0


def test_all_parameters_are_shown_when_asked_for(store: Store) -> None:
    details = [record(store, "one", 0.1), record(store, "two", 0.2)]
    assert "seed" in Reader(render_page(details, all_parameters=True)).text
    same = [details[0], details[0]]
    assert "All are the same." in Reader(render_page(same)).text


def test_many_long_runs_make_a_small_page(store: Store) -> None:
    detail = record(store, "one", 0.1, epochs=60)
    steps = list(range(20000))
    detail.curves["train_loss_step"] = Curve(
        steps, [step // 400 for step in steps], [1.0 / (1 + step) for step in steps]
    )
    page = render_page([detail] * 30)
    assert len(page) < 1_000_000
    assert ">D1<" in page


def test_of_many_parameter_groups_the_one_with_the_highest_rate_is_drawn(store: Store) -> None:
    run = store.start(Path("runs/groups"), "resnet", {}, {})
    store.log(run, [(f"lr-AdamW/pg{i}", epoch, epoch, i / 10) for i in range(12) for epoch in range(2)])
    page = render_page([read_detail(store, find_run(store, "groups"))])
    assert page.count('class="line') == 1
    assert "Learning rate: A from 1.100 to 1.100" in page


def test_steps_lie_within_their_epoch() -> None:
    assert to_points(Curve([1, 2, 3], [0, 0, 1], [0.1, 0.2, None])) == [(0.5, 0.1), (1.0, 0.2), (2.0, None)]


@pytest.mark.parametrize(
    ("name", "title"), [("val_f1", "Validation F1"), ("gpu_memory_mb", "GPU memory MB"), ("x_step", "X"), ("", "")]
)
def test_metrics_have_readable_names(name: str, title: str) -> None:
    assert to_title(name) == title


def test_every_run_has_a_letter_of_its_own() -> None:
    assert len({to_letter(index) for index in range(100)}) == 100
    assert to_letter(0) == "A"
