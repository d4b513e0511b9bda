import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from lesion.errors import NotFoundError, OutputError, StoreError
from lesion.tracking.database import open_engine
from lesion.tracking.query import list_runs, read_curves
from lesion.tracking.store import Store


def path_of(url: URL) -> Path:
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def fill(url: URL, epochs: int = 3) -> None:
    with Store.open(url) as store:
        run = store.start(path_of(url).parent / "first", "baseline", {}, {})
        for epoch in range(epochs):
            store.log(run, [("loss_step", epoch * 100 + step, epoch, 1.0) for step in range(100)])


def test_the_file_is_set_up_for_several_writers_and_sudden_ends(store: Store) -> None:
    with store.transaction() as connection:
        found = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert found == {"journal_mode": "wal", "busy_timeout": 5000, "foreign_keys": 1, "synchronous": 1}


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_store_that_is_not_there_is_not_made_by_looking(mode: str, url: URL) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        open_engine(url, mode)  # type: ignore[arg-type]
    assert not path_of(url).exists()


def test_a_file_without_content_becomes_a_store(url: URL) -> None:
    path_of(url).touch()
    with pytest.raises(NotFoundError, match="no runs are recorded"):
        open_engine(url, "read")
    fill(url)
    with Store.open(url, "read") as store:
        assert len(list_runs(store)) == 1


def test_a_path_with_odd_characters_works(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "a b%20#c ü" / "runs.db"))
    fill(url)
    assert [path.name for path in (tmp_path / "a b%20#c ü").iterdir()] == ["runs.db"]


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 8000])
def test_what_is_no_database_is_refused_and_kept(content: bytes, url: URL) -> None:
    path_of(url).write_bytes(content)
    with pytest.raises(StoreError, match="is damaged") as caught:
        open_engine(url, "create")
    assert "move the file away" in caught.value.hint
    assert path_of(url).read_bytes() == content


def test_a_store_cut_short_is_refused(url: URL) -> None:
    fill(url, epochs=30)
    whole = path_of(url).read_bytes()
    path_of(url).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="is damaged"), Store.open(url) as store:
        read_curves(store, 1)


def test_a_store_that_was_scribbled_over_is_said_to_be_damaged_where_it_is_read(url: URL) -> None:
    fill(url, epochs=60)
    with path_of(url).open("r+b") as file:
        for page in range(12, path_of(url).stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with pytest.raises(StoreError, match=r"is damaged: .*[Pp]age"), Store.open(url, "read") as store:
        read_curves(store, 1)


def test_a_database_of_another_program_is_left_as_it_is(url: URL) -> None:
    with closing(sqlite3.connect(path_of(url))) as connection:
        connection.execute("CREATE TABLE experiments (id)")
        connection.commit()
    before = path_of(url).read_bytes()
    with pytest.raises(StoreError, match=r"tables of another program \(experiments\)"):
        open_engine(url, "create")
    assert path_of(url).read_bytes() == before


def test_a_store_of_a_newer_lesion_is_refused(url: URL) -> None:
    fill(url)
    with closing(sqlite3.connect(path_of(url))) as connection:
        connection.execute("UPDATE lesion_schema SET version = 99")
        connection.commit()
    with pytest.raises(StoreError, match="schema 99, but this lesion knows up to 1") as caught:
        open_engine(url, "read")
    assert "upgrade" in caught.value.hint


def test_a_store_with_other_columns_is_refused(url: URL) -> None:
    fill(url)
    with closing(sqlite3.connect(path_of(url))) as connection:
        connection.execute("ALTER TABLE runs RENAME COLUMN tier TO level")
    with pytest.raises(StoreError, match="does not fit this lesion: no such column"), Store.open(url, "read") as store:
        list_runs(store)


def test_a_folder_in_place_of_the_store_is_refused(url: URL) -> None:
    path_of(url).mkdir()
    with pytest.raises(OutputError, match="cannot use the store"):
        open_engine(url, "create")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no read-only folders")
def test_a_read_only_folder_is_read_but_not_written(url: URL) -> None:
    fill(url)
    folder = path_of(url).parent
    folder.chmod(0o555)
    try:
        with Store.open(url, "read") as store:
            assert [entry.epochs for entry in list_runs(store)] == [3]
        with pytest.raises(OutputError, match="is read-only"):
            open_engine(url, "create")
        with pytest.raises(OutputError, match="its folder is read-only"):
            open_engine(url.set(database=str(folder / "other.db")), "create")
        assert [path.name for path in folder.iterdir()] == ["runs.db"]
    finally:
        folder.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no read-only folders")
def test_changes_that_a_read_only_folder_hides_are_not_overlooked(url: URL, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    with closing(sqlite3.connect(path_of(url))):  # as long as one is open, the log stays
        fill(url)
        with Store.open(url, "read") as store, store.transaction():
            fill(url)
            shutil.copytree(path_of(url).parent, folder)
    assert (folder / "runs.db-wal").stat().st_size
    folder.chmod(0o555)
    try:
        with pytest.raises(StoreError, match=r"still lie in runs\.db-wal"):
            open_engine(url.set(database=str(folder / "runs.db")), "read")
    finally:
        folder.chmod(0o755)


def test_a_lock_that_stays_is_an_error(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.tracking.database.TIMEOUT", 0.1)
    fill(url)
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutputError, match="stayed locked by another process"):
            fill(url)
        with Store.open(url, "read") as store:  # readers do not mind
            assert len(list_runs(store)) == 1


def test_two_trainings_write_at_once(url: URL) -> None:
    code = (
        "import sys; from pathlib import Path; from lesion.tracking.database import store_url\n"
        "from lesion.tracking.store import Store\n"
        "with Store.open(store_url(None, Path(sys.argv[1]))) as store:\n"
        "    run = store.start(Path(sys.argv[1]) / sys.argv[2], 'baseline', {}, {})\n"
        "    for epoch in range(30):\n"
        "        store.log(run, [('loss_step', epoch * 50 + i, epoch, 1.0) for i in range(50)])\n"
        "    store.finish(run, 'finished')\n"
    )
    folder = str(path_of(url).parent)
    both = [subprocess.Popen([sys.executable, "-c", code, folder, name]) for name in ("one", "two")]
    assert [process.wait(120) for process in both] == [0, 0]
    with Store.open(url, "read") as store:
        assert [(entry.status, entry.epochs) for entry in list_runs(store)] == [("finished", 30)] * 2
        assert [len(read_curves(store, run)["loss_step"].steps) for run in (1, 2)] == [1500] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and SIGKILL are POSIX's")
def test_kill_at_any_moment_leaves_a_readable_store(tmp_path: Path) -> None:
    script = Path(__file__).with_name("kill.py")
    done = subprocess.run([sys.executable, script, str(tmp_path), "30"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = [int(line) for line in done.stdout.split()]
    assert len(counts) == 30
    assert counts[-1] >= 20 * 40  # each of the 20 that wrote to one store left an epoch or more
