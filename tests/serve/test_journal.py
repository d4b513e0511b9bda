"""The journal: what was answered is in the database, and whatever happens to that, nobody waits for it."""

import json
import logging
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from lesion.errors import ConfigError, MissingExtra, OutputError, StoreError
from lesion.records import Prediction
from lesion.serve import journal as module
from lesion.serve.journal import Journal, open_journal
from lesion.tracking.database import open_engine, store_url
from tests.tracking import conftest

postgres, team = conftest.postgres, conftest.team  # fixtures
LONG = 30.0


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, run by other tests, keeps the log of lesion to itself."""
    monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.05))


@pytest.fixture
def impatient(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor wait long for a lock."""
    monkeypatch.setattr("lesion.tracking.database.TIMEOUT", 0.05)


def answer(malignant: float = 0.75) -> Prediction:
    by_class = {"benign": 1 - malignant, "malignant": malignant}
    return Prediction(
        "mueller.jpg", "malignant", malignant, "refer", ("uncertain", "blurred"), by_class, {"mel": 0.5}, "m@1"
    )


def fill(journal: Journal, entries: int) -> None:
    for number in range(entries):
        journal.record(answer(), "ab" * 32, 12.5, f"r{number}")


def rows(path: Path) -> list[dict[str, object]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM predictions ORDER BY id")]


def test_an_answer_is_written_without_image_and_name(tmp_path: Path) -> None:
    journal = open_journal(str(tmp_path / "journal.db"))
    journal.record(answer(), "ab" * 32, 12.5, "r1")
    journal.record(answer(0.1), "cd" * 32, 3.0, "r2", role="shadow")
    journal.close(LONG)
    assert (journal.recorded, journal.written, journal.dropped) == (2, 2, 0)
    first, second = rows(tmp_path / "journal.db")
    assert str(first.pop("time")).endswith("+00:00")
    assert first == {
        "id": 1, "request": "r1", "image": "ab" * 32, "model": "m@1", "role": "live", "malignant": 0.75,
        "diagnoses": '{"mel": 0.5}', "prediction": "malignant", "decision": "refer",
        "flags": '["uncertain", "blurred"]', "latency_ms": 12.5,
    }  # fmt: skip
    assert second["role"] == "shadow"
    assert b"mueller" not in (tmp_path / "journal.db").read_bytes()


def test_a_journal_goes_on_where_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        journal = open_journal(str(tmp_path / "journal.db"))
        fill(journal, 600)  # more than one batch
        journal.close(LONG)
    found = rows(tmp_path / "journal.db")
    assert [row["request"] for row in found] == 2 * [f"r{number}" for number in range(600)]
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_locked_database_is_waited_for_by_nobody_else(
    tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    journal = open_journal(str(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        fill(journal, 1500)
        time.sleep(0.3)
        assert (journal.recorded, journal.written, journal.dropped) == (1500, 0, 0)
        other.execute("ROLLBACK")
    journal.close(LONG)
    assert (journal.written, journal.dropped) == (1500, 0)
    assert [row["request"] for row in rows(path)] == [f"r{number}" for number in range(1500)]
    (line,) = caplog.messages
    assert line.startswith("the journal waits: the store")


def move_away(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.rename(each.with_name(f"old-{each.name}"))


def remove(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def empty(path: Path) -> None:
    remove(path)
    path.touch()


def drop_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE predictions")
        other.commit()


@pytest.mark.skipif(os.name == "nt", reason="a file that is open cannot be moved")
@pytest.mark.parametrize("act", [move_away, remove, empty, drop_table], ids=lambda act: act.__name__)
def test_a_journal_that_is_gone_is_made_again(tmp_path: Path, hasty: None, act: Callable[[Path], None]) -> None:
    path = tmp_path / "journal.db"
    journal = open_journal(str(path))
    fill(journal, 3)
    wait_for(journal, 3)
    act(path)
    fill(journal, 5)
    wait_for(journal, 8)
    journal.close(LONG)
    assert [row["request"] for row in rows(path)] == [f"r{number}" for number in range(5)]


def test_what_is_dropped_at_the_end_is_said_in_spite_of_a_line_a_moment_before(
    tmp_path: Path, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    journal = open_journal(str(path))
    remove(path)
    path.mkdir()  # cannot be made again
    fill(journal, 4)
    while "the journal waits" not in caplog.text:
        time.sleep(0.01)
    journal.close(LONG)
    assert (journal.written, journal.dropped) == (0, 4)
    assert "the journal dropped entries, 4 by now" in caplog.text


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted(
    tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    url = store_url(str(tmp_path / "journal.db"), Path())
    journal = Journal(url, open_engine(url, "create"), size=10)
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        fill(journal, 1000)
        assert journal.dropped >= 1000 - 10 - module.BATCH
        other.execute("ROLLBACK")
    journal.close(LONG)
    assert journal.written + journal.dropped == 1000
    assert len(rows(tmp_path / "journal.db")) == journal.written >= 10
    assert len(caplog.messages) <= 2  # one line a minute, and not one per entry


def test_the_end_does_not_wait_for_a_database_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lesion.tracking.database.TIMEOUT", LONG)
    journal = open_journal(str(tmp_path / "journal.db"))
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        fill(journal, 5)
        start = time.perf_counter()
        journal.close(0.2)
        assert time.perf_counter() - start < LONG / 2
        assert (journal.written, journal.dropped) == (0, 5)
        assert caplog.messages[-1] == "the journal dropped entries, 5 by now: the server stops"
        journal.record(answer(), "ab" * 32, 12.5, "late")
        assert journal.dropped == 6
        other.execute("ROLLBACK")
    journal._thread.join(LONG)


def test_a_batch_that_will_never_be_taken_does_not_hold_up_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(str(tmp_path / "journal.db"))
    journal.record(answer(), "ab" * 32, 12.5, "\ud800")  # no text that a database could hold
    while not journal.dropped:
        time.sleep(0.01)
    fill(journal, 3)
    journal.close(LONG)
    assert (journal.written, journal.dropped) == (3, 1)
    assert "the journal dropped entries, 1 by now: " in caplog.text


@pytest.mark.parametrize("url", ["mysql://me:s3cret@h/x", "://", "sqlite://"])
def test_what_is_no_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"serve\.journal: .* is no database") as caught:
        open_journal(url)
    assert "s3cret" not in caught.value.message


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE theirs (id int)")
    with pytest.raises(StoreError, match=r"serve\.journal: .*tables of another program"):
        open_journal(str(tmp_path / "other.db"))
    (tmp_path / "text").write_text("no database at all, but long enough to look at" * 100)
    with pytest.raises(StoreError, match=r"serve\.journal: .*damaged"):
        open_journal(str(tmp_path / "text"))


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"serve\.journal: cannot make the folder") as caught:
        open_journal(str(tmp_path / "file" / "journal.db"))
    assert "serve.journal" in caught.value.hint


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        open_journal("postgresql://h/x")
    assert caught.value.hint == 'pip install "lesion[postgres]"'


WRITER = """
import itertools, sys, time
from lesion.serve.journal import open_journal
from tests.serve.test_journal import answer
journal = open_journal(sys.argv[1])
for number in itertools.count(int(sys.argv[2])):
    journal.record(answer(), "ab" * 32, 1.0, str(number))
    while number > journal.written + journal.dropped + int(sys.argv[2]) + 200:
        time.sleep(0.001)
    if journal.written and number % 50 == 0:
        print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_kill_9_leaves_an_intact_database(tmp_path: Path) -> None:
    path, draw, kept = tmp_path / "journal.db", random.Random(0), 0
    for _ in range(5):
        words = [sys.executable, "-c", WRITER, str(path), str(kept)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(draw.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait(LONG)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = [int(str(row["request"])) for row in rows(path)]
        assert found == list(range(len(found)))
        assert len(found) >= kept
        kept = len(found)
    assert kept


def count(url: URL) -> int:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return int(connection.scalar(text("SELECT count(*) FROM predictions")) or 0)
    finally:
        engine.dispose()


def wait_for(journal: Journal, entries: int) -> None:
    end = time.monotonic() + LONG
    while journal.written < entries:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def remote(team: URL) -> Iterator[Journal]:
    """A journal in PostgreSQL."""
    journal = open_journal(team.render_as_string(hide_password=False))
    yield journal
    journal.close(LONG)


def test_several_servers_write_to_one_postgresql(team: URL) -> None:
    journals = [open_journal(team.render_as_string(hide_password=False)) for _ in range(3)]
    for journal in journals:
        fill(journal, 700)
    for journal in journals:
        journal.close(LONG)
    assert [journal.written for journal in journals] == [700] * 3
    assert count(team) == 2100
    engine = create_engine(team)
    with engine.connect() as connection:
        row = connection.execute(text("SELECT flags, malignant FROM predictions LIMIT 1")).one()
    engine.dispose()
    assert (json.loads(row.flags), row.malignant) == (["uncertain", "blurred"], 0.75)


@pytest.mark.usefixtures("hasty")
def test_entries_survive_an_outage_of_postgresql(
    remote: Journal, team: URL, postgres: URL, caplog: pytest.LogCaptureFixture
) -> None:
    fill(remote, 10)
    wait_for(remote, 10)
    admin = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {team.database} ALLOW_CONNECTIONS false"))
        end = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(end, {"name": team.database})
        fill(remote, 300)
        time.sleep(0.3)
        assert (remote.written, remote.dropped) == (10, 0)
        connection.execute(text(f"ALTER DATABASE {team.database} ALLOW_CONNECTIONS true"))
    admin.dispose()
    wait_for(remote, 310)
    assert count(team) == 310
    assert [line.startswith("the journal waits: ") for line in caplog.messages] == [True]
    assert conftest.PASSWORD not in caplog.text


def test_a_table_that_is_locked_in_postgresql_delays_nobody(remote: Journal, team: URL) -> None:
    fill(remote, 1)
    wait_for(remote, 1)
    engine = create_engine(team)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE predictions"))
        fill(remote, 2000)
        assert remote.written == 1
    engine.dispose()
    wait_for(remote, 2001)


def test_a_server_that_says_nothing_does_not_delay_the_start_or_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("psycopg", reason="needs the 'postgres' extra")
    monkeypatch.setattr("lesion.tracking.database.TIMEOUT", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.perf_counter()
        journal = open_journal(f"postgresql://me:hunter2@127.0.0.1:{silent.getsockname()[1]}/team")
        fill(journal, 3)
        journal.close(0.1)
        assert time.perf_counter() - start < LONG / 2
        assert (journal.written, journal.dropped) == (0, 3)
        journal._thread.join(LONG)
    assert "hunter2" not in caplog.text
