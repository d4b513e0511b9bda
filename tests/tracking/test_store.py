import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError

from lesion.errors import OutputError
from lesion.records import Estimate
from lesion.tracking.database import store_url
from lesion.tracking.query import find_run, list_runs, read_curves, read_detail
from lesion.tracking.store import Store, digest, record_evaluation
from lesion.tracking.tables import facts, metrics, parameters, runs

CONFIG = {"seed": 0, "model": {"tier": "resnet"}, "data": {"malignant": ["mel"], "processed": None}}


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, url: URL) -> Iterator[Store]:
    """An empty store of either kind."""
    with Store.open(url if request.param == "sqlite" else request.getfixturevalue("team")) as opened:
        yield opened


def start(store: Store, name: str = "first", resume: bool = False) -> int:
    return store.start(Path("runs") / name, "resnet", CONFIG, {"split": "0a1b"}, resume)


def test_what_was_recorded_is_read_back(store: Store) -> None:
    run = start(store)
    store.log(run, [("val_loss", 10, 0, 0.5), ("val_loss", 20, 1, 0.25), ("train_loss_step", 1, 0, 2.0)])
    store.add_artifact(run, "model.onnx", "model", "ab" * 32, 2**40)
    store.finish(run, "finished", {"val_auroc": 0.75, "val_f1": None})
    detail = read_detail(store, find_run(store, "first"))
    entry = detail.entry
    assert (entry.name, entry.tier, entry.status, entry.epochs, entry.split) == (
        "first",
        "resnet",
        "finished",
        2,
        "0a1b",
    )
    assert entry.path == (Path.cwd() / "runs" / "first").as_posix()
    assert entry.kept_epoch == 2
    assert entry.figures == {"val_loss": 0.25, "val_auroc": 0.75}
    assert detail.config == CONFIG
    assert detail.parameters == {
        "seed": "0", "model.tier": '"resnet"', "data.malignant": '["mel"]', "data.processed": "null",
    }  # fmt: skip
    assert detail.facts == {"split": "0a1b"}
    (file,) = detail.artifacts
    assert (file.path, file.kind, file.sha256, file.bytes) == ("model.onnx", "model", "ab" * 32, 2**40)
    curve = detail.curves["val_loss"]
    assert (curve.steps, curve.epochs, curve.values) == ([10, 20], [0, 1], [0.5, 0.25])


def test_a_value_at_the_same_step_replaces_the_first(store: Store) -> None:
    run = start(store)
    store.log(run, [("val_loss", 10, 0, 0.5)])
    store.log(run, [("val_loss", 10, 0, 0.4), ("val_loss", 10, 0, 0.3)])
    assert read_curves(store, run)["val_loss"].values == [0.3]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_becomes_a_gap(store: Store, value: float) -> None:
    run = start(store)
    store.log(run, [("val_loss", 1, 0, value), ("val_loss", 2, 1, 0.5)])
    store.finish(run, "failed", {"val_auroc": value})
    assert read_curves(store, run)["val_loss"].values == [None, 0.5]
    assert find_run(store, "first").figures == {"val_loss": 0.5}


def test_an_epoch_is_one_transaction_and_one_statement_for_all_its_values(store: Store) -> None:
    run = start(store)
    commits: list[object] = []
    statements: list[tuple[str, bool]] = []
    event.listen(store.engine, "commit", commits.append)
    event.listen(
        store.engine, "before_cursor_execute", lambda c, k, statement, p, x, many: statements.append((statement, many))
    )
    store.log(run, [("train_loss_step", step, 0, 1.0) for step in range(500)])
    assert len(commits) == 1
    assert [many for statement, many in statements if statement.startswith("INSERT INTO metrics")] == [True]


def test_a_failing_write_leaves_nothing_half(store: Store) -> None:
    run = start(store)
    with pytest.raises(IntegrityError):
        store.log(run, [("val_loss", 1, 0, 0.5), ("val_loss", None, 0, 0.5)])  # type: ignore[list-item]
    assert read_curves(store, run) == {}


def test_no_secret_is_recorded(store: Store) -> None:
    config = {"tracking": {"store": "postgresql://me:hunter2@host/db?password=hunter3"}, "urls": ["https://hunter4@x"]}
    store.start(Path("runs/first"), "resnet", config, {})
    with store.transaction() as connection:
        stored = str(connection.execute(select(runs)).all()) + str(connection.execute(select(parameters)).all())
    assert "host/db" in stored
    assert "hunter" not in stored
    assert "me:" not in stored


def test_a_resumed_run_goes_on_where_it_was(store: Store) -> None:
    run = start(store)
    store.log(run, [("val_loss", 10, 0, 0.5), ("val_loss", 20, 1, 0.4)])
    store.finish(run, "interrupted")
    assert start(store, resume=True) == run
    store.log(run, [("val_loss", 20, 1, 0.3), ("val_loss", 30, 2, 0.2)])
    (entry,) = list_runs(store)
    assert (entry.status, entry.ended, entry.epochs) == ("running", None, 3)
    assert read_curves(store, run)["val_loss"].values == [0.5, 0.3, 0.2]


def test_a_run_of_the_same_folder_is_another_unless_it_is_resumed(store: Store) -> None:
    assert start(store) != start(store)
    assert start(store, "other", resume=True) == 3  # there is none to go on with
    assert store.find_at(Path("runs/first")) == 2


def test_odd_names_are_stored(store: Store) -> None:
    name = "a'b\"; drop table runs; \udcff ü 😀 %s :x"
    run = store.start(Path("runs") / name, "resnet", {"name": name}, {"commit": "a\0b"})
    store.log(run, [("loss ' %(x)s", 1, 0, 0.5)])
    detail = read_detail(store, list_runs(store)[0])
    assert detail.entry.name == name.replace("\udcff", "?")
    assert detail.facts == {"commit": "a?b"}
    assert detail.curves["loss ' %(x)s"].values == [0.5]


def test_a_deleted_run_takes_all_of_its_own_with_it(store: Store) -> None:
    run = start(store)
    store.log(run, [("val_loss", 1, 0, 0.5)])
    with store.transaction() as connection:
        connection.execute(runs.delete().where(runs.c.id == run))
        counts = [connection.scalar(select(func.count()).select_from(table)) for table in (metrics, parameters, facts)]
    assert counts == [0, 0, 0]


def test_curves_are_read_by_the_primary_key(url: URL) -> None:
    with Store.open(url) as store, store.transaction() as connection:
        plan = connection.execute(
            text("EXPLAIN QUERY PLAN SELECT * FROM metrics WHERE run = 1 AND name = 'x' ORDER BY name, step")
        ).all()
    assert [row.detail for row in plan] == ["SEARCH metrics USING PRIMARY KEY (run=? AND name=?)"]


def test_an_evaluation_lands_in_its_run(url: URL, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    with Store.open(url) as store:
        store.start(folder, "resnet", {}, {})
    found = {"auroc": Estimate(0.75, 0.5, 1.0), "f1": Estimate(None, None, None)}
    assert record_evaluation(None, folder / "model.onnx", "test", found)
    assert record_evaluation(None, folder / "model.int8.onnx", "test", found)
    with Store.open(url, "read") as store:
        detail = read_detail(store, find_run(store, "first"))
    assert detail.entry.figures == {"test_auroc": 0.75, "test_auroc@model.int8.onnx": 0.75}
    assert detail.intervals["test_auroc"] == Estimate(0.75, 0.5, 1.0)
    assert detail.intervals["test_f1"].value is None


def test_an_evaluation_in_a_moved_folder_of_runs_finds_its_run(url: URL, tmp_path: Path) -> None:
    with Store.open(url) as store:
        store.start(tmp_path / "runs" / "first", "resnet", {}, {})
    (tmp_path / "runs").rename(tmp_path / "moved")
    (tmp_path / "moved" / "first").mkdir()
    assert record_evaluation(
        None, tmp_path / "moved" / "first" / "model.onnx", "val", {"f1": Estimate(0.5, None, None)}
    )
    with Store.open(store_url(None, tmp_path / "moved"), "read") as store:
        entry = find_run(store, "first")
    assert entry.figures == {"val_f1": 0.5}
    assert entry.path == (tmp_path / "moved" / "first").as_posix()


def test_an_evaluation_of_an_unknown_run_or_without_a_store_is_left_alone(url: URL, tmp_path: Path) -> None:
    model = tmp_path / "runs" / "first" / "model.onnx"
    assert not record_evaluation(None, model, "test", {})
    assert not Path(url.database or "").exists()
    Store.open(url).close()
    assert not record_evaluation(None, model, "test", {})


def test_a_store_that_fails_costs_an_evaluation_a_warning(
    url: URL, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(url.database or "")
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    assert not record_evaluation(None, tmp_path / "runs" / "first" / "model.onnx", "test", {})
    assert not record_evaluation("mysql://me:hunter2@host/x", tmp_path / "runs" / "x" / "model.onnx", "test", {})
    assert "the evaluation is not in the store of runs" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_digest_is_that_of_the_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert digest(tmp_path / "file") == (hashlib.sha256(content).hexdigest(), len(content))
    with pytest.raises(OutputError, match="cannot read"):
        digest(tmp_path / "absent")


def test_the_tables_can_be_read_with_nothing_but_sql(url: URL) -> None:
    with Store.open(url) as store:
        start(store)
    connection = sqlite3.connect(url.database or "")
    (row,) = connection.execute("SELECT name, tier, status, config FROM runs").fetchall()
    connection.close()
    assert row[:3] == ("first", "resnet", "running")
    assert json.loads(row[3]) == CONFIG
