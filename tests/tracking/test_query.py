import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from lesion.cli.runs.tables import print_detail
from lesion.errors import ConfigError, NotFoundError
from lesion.records import to_json
from lesion.run import now
from lesion.tracking.entries import find_best, find_differences, is_less_better
from lesion.tracking.page import render_page
from lesion.tracking.query import find_run, list_runs, rank_runs, read_detail
from lesion.tracking.store import Store
from lesion.tracking.tables import runs


def add(store: Store, name: str, status: str = "finished", tier: str = "baseline", **figures: float) -> int:
    run = store.start(Path("runs") / name, tier, {"name": name, "seed": 0}, {"split": "0a1b"})
    if status != "running":
        store.finish(run, status, figures)
    return run


def names(entries: object) -> list[str]:
    return [entry.name for entry in entries]  # type: ignore[attr-defined]


def test_runs_are_listed_newest_first_and_filtered(store: Store) -> None:
    for name, status, tier in (
        ("a", "finished", "baseline"),
        ("b", "failed", "resnet"),
        ("c", "finished", "resnet"),
        ("d", "running", "resnet"),
    ):
        add(store, name, status, tier)
    assert names(list_runs(store)) == ["d", "c", "b", "a"]
    assert names(list_runs(store, limit=2)) == ["d", "c"]
    assert names(list_runs(store, status="finished")) == ["c", "a"]
    assert names(list_runs(store, status="finished", limit=1)) == ["c"]
    assert names(list_runs(store, tier="resnet")) == ["d", "c", "b"]
    assert names(list_runs(store, status="died")) == []


def test_a_run_whose_process_is_gone_has_died_and_keeps_the_time_it_ran(store: Store) -> None:
    run = add(store, "a", "running")
    with store.transaction() as connection:
        gone = {"pid": 2**22 + 1, "started": "2026-11-23T10:00:00+00:00", "updated": "2026-11-23T10:05:00+00:00"}
        connection.execute(runs.update().where(runs.c.id == run).values(gone))
    (entry,) = list_runs(store, status="died")
    assert (entry.status, entry.ended, entry.seconds) == ("died", None, 300)
    with store.transaction() as connection:
        connection.execute(runs.update().where(runs.c.id == run).values(host="elsewhere"))
    assert list_runs(store)[0].status == "running"


def test_figures_without_a_record_are_those_of_the_kept_epoch(store: Store) -> None:
    run = add(store, "a", "interrupted")
    epochs = [(0.9, 0.6), (0.5, 0.8), (0.5, 0.85), (0.7, 0.9)]  # of two equal losses the first is kept
    for epoch, (loss, auroc) in enumerate(epochs):
        rows = [("val_loss", 10 * epoch, epoch, loss), ("val_auroc", 10 * epoch, epoch, auroc)]
        store.log(
            run,
            [
                *rows,
                ("f1", 10 * epoch, epoch, 1.0),
                ("f1", 10 * epoch + 1, epoch, 2.0),
                ("x_step", epoch, epoch, 0),
                ("lr-AdamW", epoch, epoch, 0),
            ],
        )
    (entry,) = list_runs(store, names=None)
    assert entry.kept_epoch == 2
    assert entry.figures == {"val_loss": 0.5, "val_auroc": 0.8, "f1": 2.0}
    store.finish(run, "finished", {"val_auroc": 0.81})
    assert list_runs(store)[0].figures == {"val_loss": 0.5, "val_auroc": 0.81}


@pytest.mark.parametrize(
    "word", ["20261123-1-baseline", "20261123-1", "runs/20261123-1-baseline", "elsewhere/20261123-1-baseline", "1"]
)
def test_a_run_is_found_by_what_one_would_type(word: str, store: Store) -> None:
    add(store, "20261123-1-baseline")
    add(store, "20261123-2-resnet")
    assert find_run(store, word).id == 1
    assert find_run(store, str(Path("runs/20261123-1-baseline").resolve())).id == 1
    assert find_run(store, "latest").id == 2


def test_a_whole_name_goes_before_the_beginning_of_another(store: Store) -> None:
    add(store, "first")
    add(store, "first-again")
    assert find_run(store, "first").name == "first"


def test_a_word_that_means_several_runs_is_refused_with_all_of_them(store: Store) -> None:
    for index in range(7):
        add(store, f"20261123-{index}")
    with pytest.raises(ConfigError, match=r"'2026' means 7 runs: 20261123-6 \(id 7\), .* and 2 more"):
        find_run(store, "2026")
    add(store, "same")
    add(store, "same")
    with pytest.raises(ConfigError, match=r"same \(id 9\), same \(id 8\)"):
        find_run(store, "same")
    assert find_run(store, "9").id == 9


@pytest.mark.parametrize("word", ["20261123-1-basline", "", "%", "_", "'", "2", "/", "."])
def test_a_word_that_means_no_run_is_refused(word: str, store: Store) -> None:
    add(store, "a-20261123-1-baseline")
    with pytest.raises(NotFoundError, match="no run ") as caught:
        find_run(store, word)
    assert "lesion runs list" in caught.value.hint
    if "basline" in word:
        assert "did you mean 'a-20261123-1-baseline'?" in caught.value.message


def test_an_empty_store_says_how_to_fill_it(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no runs are recorded yet"):
        find_run(store, "latest")
    assert list_runs(store) == []


@pytest.mark.parametrize(
    ("metric", "order"),
    [
        ("val_auroc", ["b", "a"]),
        ("val_loss", ["b", "a"]),
        ("epoch_seconds", ["a", "b"]),
        ("images_per_second", ["b", "a"]),
    ],
)
def test_the_best_is_the_highest_or_of_losses_and_times_the_lowest(metric: str, order: list[str], store: Store) -> None:
    add(store, "a", val_auroc=0.8, val_loss=0.5, epoch_seconds=10, images_per_second=100)
    add(store, "b", val_auroc=0.9, val_loss=0.4, epoch_seconds=20, images_per_second=200)
    add(store, "c", "failed", val_auroc=1.0, val_loss=0.1, epoch_seconds=1, images_per_second=900)
    assert names(rank_runs(store, metric)) == order


def test_a_figure_that_no_finished_run_has_is_refused_with_those_there_are(store: Store) -> None:
    store.log(add(store, "a", val_auroc=0.5), [("val_loss", 1, 0, 0.5), ("train_loss_step", 1, 0, 0.5)])
    with pytest.raises(NotFoundError, match="did you mean 'val_auroc'") as caught:
        rank_runs(store, "val_auc")
    assert caught.value.hint == "there are: val_auroc, val_loss"


@pytest.mark.parametrize(
    ("name", "less"),
    [("val_loss", True), ("test_brier", True), ("val_calibration_error", True), ("memory_mb", True),
     ("test_brier@model.int8.onnx", True), ("val_auroc", False), ("test_f1", False), ("images_per_second", False)],
)  # fmt: skip
def test_of_which_figures_less_is_better(name: str, less: bool) -> None:
    assert is_less_better(name) is less


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [("val_loss", [0.5, None, 0.4], {2}), ("val_f1", [0.5, 0.5, 0.4], {0, 1}), ("val_f1", [0.5, 0.5], set()),
     ("val_f1", [0.5, None], set()), ("memory_mb", [1.0, 2.0], set())],
)  # fmt: skip
def test_only_a_figure_of_quality_with_a_difference_has_a_best(
    name: str, values: list[float | None], best: set[int]
) -> None:
    assert find_best(name, values) == best


def test_the_parameters_that_differ(store: Store) -> None:
    def start(name: str, config: Mapping[str, object]) -> None:
        store.start(Path("runs") / name, "baseline", config, {})

    start("a", {"optim": {"lr": 0.1}, "seed": 0, "old": 1})
    start("b", {"optim": {"lr": 0.2}, "seed": 0})
    details = [read_detail(store, find_run(store, name)) for name in "ab"]
    assert find_differences(details) == {"old": ["1", ""], "optim.lr": ["0.1", "0.2"]}
    assert find_differences(details[:1]) == {}


def test_times_are_utc(store: Store) -> None:
    add(store, "a")
    (entry,) = list_runs(store)
    assert entry.started.endswith("+00:00")
    assert entry.started <= str(entry.ended) <= now()


ODD: list[tuple[str, dict[str, object]]] = [
    *(("runs", {column: value}) for column in ("name", "path", "tier", "status", "host") for value in (b"\xff",)),
    *(("runs", {column: value}) for column in ("started", "updated", "ended") for value in ("soon", "2026-01-01", b"")),
    *(("runs", {"epochs": value}) for value in ("x", -1)),
    *(("runs", {"pid": value}) for value in ("x", -1, 2**62)),
    ("runs", {"born": "x"}),
    *(("runs", {"config": value}) for value in ("{", "[1]", b"", "[" * 100_000)),
    *(("parameters", {"value": value}) for value in ("{", "", b"x", "9" * 5000)),
    *(("facts", {"value": value}) for value in (b"x",)),
    *(("metrics", {"value": value}) for value in ("x", b"", float("inf"))),
    *(("metrics", {"epoch": value}) for value in ("x", -1)),
    *(("figures", {column: value}) for column in ("value", "low", "high") for value in ("x", float("-inf"))),
    *(("artifacts", {column: value}) for column in ("path", "kind", "sha256") for value in (b"x",)),
    ("artifacts", {"bytes": "many"}),
]


@pytest.mark.parametrize(("table", "values"), ODD, ids=lambda value: repr(value)[:60])
def test_a_malformed_row_is_left_out_with_one_warning(
    table: str, values: dict[str, object], store: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for name in ("odd", "good"):
        run = add(store, name, val_auroc=0.8)
        store.log(run, [("val_loss", 1, 0, 0.5)])
        store.add_artifact(run, "model.onnx", "model", "0" * 64, 3)
    where = "id" if table == "runs" else "run"
    with sqlite3.connect(str(store.url.database)) as database:  # SQLAlchemy would refuse some of these values
        database.execute(
            "UPDATE " + table + " SET " + ", ".join(f"{key}=?" for key in values) + f" WHERE {where}=1",
            (*values.values(),),
        )
    database.close()
    assert names(list_runs(store)).count("good") == 1
    assert names(rank_runs(store, "val_auroc"))[0] in ("good", "odd")
    for name in names(list_runs(store, names=None)):
        detail = read_detail(store, find_run(store, name))
        assert to_json(asdict(detail))
        print_detail(detail, as_json=False)
        assert render_page([detail], all_parameters=True)
    if "config" not in values:
        (warning,) = caplog.messages
        assert f"malformed rows of the table {table} are left out: " in warning
    assert (names(list_runs(store)) == ["good"]) == (table == "runs" and "config" not in values)
