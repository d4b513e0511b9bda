import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from lesion.errors import ConfigError, MissingExtra, RemoteError, StoreError
from lesion.tracking.database import store_url
from lesion.tracking.query import list_runs, read_curves
from lesion.tracking.store import Store
from tests.tracking.conftest import PASSWORD


def test_two_that_open_a_new_store_at_once_make_it_once(team: URL) -> None:
    stores: list[Store] = []
    errors: list[Exception] = []

    def open_store() -> None:
        try:
            stores.append(Store.open(team))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_store) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert errors == []
    assert len(stores) == 6


def test_connections_are_pooled_and_a_lost_one_is_replaced(team: URL) -> None:
    with Store.open(team) as store:
        assert isinstance(store.engine.pool, QueuePool)
        with store.transaction() as connection:
            first = connection.scalar(text("SELECT pg_backend_pid()"))
        admin = create_engine(team, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": first})
        admin.dispose()
        with store.transaction() as connection:
            assert connection.scalar(text("SELECT pg_backend_pid()")) != first


def test_a_team_sees_the_runs_of_two_processes(team: URL, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lesion.tracking.database import store_url\n"
        "from lesion.tracking.store import Store\n"
        "with Store.open(store_url(sys.argv[1], Path())) as store:\n"
        "    run = store.start(Path(sys.argv[2]), 'resnet', {}, {})\n"
        "    for epoch in range(20):\n"
        "        store.log(run, [('loss_step', epoch * 50 + i, epoch, 1.0) for i in range(50)])\n"
        "    store.finish(run, 'finished')\n"
    )
    words = [sys.executable, "-c", code, team.render_as_string(hide_password=False)]
    both = [subprocess.Popen([*words, str(tmp_path / name)]) for name in ("one", "two")]
    assert [process.wait(60) for process in both] == [0, 0]
    with Store.open(team, "read") as store:
        entries = list_runs(store)
        assert {entry.name for entry in entries} == {"one", "two"}
        assert all(len(read_curves(store, entry.id)["loss_step"].steps) == 1000 for entry in entries)


def test_a_wrong_password_is_not_repeated(postgres: URL) -> None:
    with pytest.raises(RemoteError, match="password authentication failed") as caught:
        Store.open(postgres.set(password="wr0ng"))
    assert "wr0ng" not in caught.value.message + caught.value.hint


def test_tables_of_another_program_are_left_alone(team: URL) -> None:
    engine = create_engine(team)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE runs (run_uuid text)"))
        connection.execute(text("CREATE TABLE experiments (id int)"))
    engine.dispose()
    with pytest.raises(StoreError, match=re.escape("tables of another program (runs)")):
        Store.open(team)


def test_a_newer_store_is_refused(team: URL) -> None:
    with Store.open(team) as store, store.transaction() as connection:
        connection.execute(text("UPDATE lesion_schema SET version = 99"))
    with pytest.raises(StoreError, match="schema 99") as caught:
        Store.open(team)
    assert PASSWORD not in caught.value.message


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="needs the 'postgres' extra")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        url = store_url(f"postgresql://me:hun/ter2@127.0.0.1:{port}/team", Path())
        with pytest.raises(RemoteError, match=f"127.0.0.1:{port}/team does not answer") as caught:
            Store.open(url)
    assert "ter2" not in caught.value.message


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="needs the 'postgres' extra")
    monkeypatch.setattr("lesion.tracking.database.TIMEOUT", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = store_url(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/team", Path())
        with pytest.raises(RemoteError, match="does not answer"):
            Store.open(url)


def test_without_its_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="psycopg not installed") as caught:
        Store.open(store_url("postgresql://host/team", Path()))
    assert caught.value.hint == 'pip install "lesion[postgres]"'


@pytest.mark.parametrize(
    "store", ["mysql://me:hunter2@host/x", "sqlite://", "sqlite:///:memory:", "post gres://x", "://"]
)
def test_what_is_no_store_is_refused(store: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.store") as caught:
        store_url(store, Path())
    assert "hunter2" not in caught.value.message
    assert "postgresql://" in caught.value.hint


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_postgresql_means_the_same(scheme: str) -> None:
    assert store_url(f"{scheme}://host/team", Path()).drivername == "postgresql+psycopg"


@pytest.mark.parametrize("store", ["team.db", f"folder{os.sep}team.db", "sqlite:///folder/team.db"])
def test_a_file_can_be_named(store: str) -> None:
    assert Path(store_url(store, Path("runs")).database or "").name == "team.db"
    assert store_url(None, Path("runs")).database == str(Path("runs") / "runs.db")
