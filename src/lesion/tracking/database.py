"""The database under the store: its URL, its connection, its schema, and its failures in the user's words."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool

from lesion.errors import ConfigError, LesionError, NotFoundError, OutputError, RemoteError, StoreError, brief
from lesion.extras import need
from lesion.files import expand_home, is_writable
from lesion.redaction import redact
from lesion.tracking.tables import METADATA, VERSION, schema

Mode = Literal["create", "write", "read"]
FILE = "runs.db"
TIMEOUT = 5  # seconds to wait for another writer's lock, or for a server to answer
MOVE = "move the file away (a new one is made by the next training), or name another with tracking.store"


def store_url(store: str | None, runs: Path) -> URL:
    """The URL that `tracking.store` means: a PostgreSQL URL, a SQLite URL or file, or when None `runs`/runs.db.

    Raises ConfigError when it is none of these.
    """
    if store is None or "://" not in store:
        return URL.create("sqlite", database=str(Path(store) if store else runs / FILE))
    try:
        url = make_url(store)
    except (ArgumentError, ValueError) as error:
        raise _unusable(store) from error
    backend = url.get_backend_name()
    if backend in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not url.database or url.database == ":memory:":
        raise _unusable(store)
    return url.set(database=expand_home(url.database))


def show_url(url: URL) -> str:
    """The URL without its password; of SQLite the file alone."""
    return url.database or "" if is_sqlite(url) else str(redact(url.render_as_string(hide_password=False)))


def is_sqlite(url: URL) -> bool:
    """Whether the store is a file."""
    return url.get_backend_name() == "sqlite"


def open_engine(url: URL, mode: Mode) -> Engine:
    """A pool of connections to a store whose schema is known to fit; tables that METADATA knows are made if missing.

    Args:
        url: of `store_url`.
        mode: "create" makes a missing store; "write" and "read" do not. "read" changes nothing.

    Raises:
        NotFoundError: there is no store, and `mode` is not "create".
        StoreError: the store is damaged, of another program, or of a newer lesion.
        OutputError: the file cannot be written or stays locked.
        RemoteError: the server does not answer within 5 s, or refuses.
        MissingExtra: PostgreSQL without its driver.
    """
    with explain(url):
        engine = _open_sqlite(url, mode) if is_sqlite(url) else _open_postgresql(url)
        try:
            with engine.begin() as connection:
                _prepare(connection, url, mode)
        except BaseException:
            engine.dispose()
            raise
    return engine


@contextmanager
def explain(url: URL) -> Iterator[None]:
    """Turn what a database driver raises into an error of lesion's; a violated constraint stays: it is a bug."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        cause = error.orig or error
        raise (_explain_file(url, cause) if is_sqlite(url) else _explain_server(url, cause)) from error
    except sqlite3.Error as error:
        raise _explain_file(url, error) from error
    except PoolTimeout as error:  # all connections are in use, and wait for the server
        raise _explain_server(url, error) from error


def _open_sqlite(url: URL, mode: Mode) -> Engine:
    path = Path(url.database or "")
    if mode == "create":
        _create_file(path)
    if not path.is_file():
        raise NotFoundError(
            f"no store of runs: {path} does not exist", hint="`lesion train` makes it; or name the folder with --runs"
        )
    flags = "mode=rw"
    if not (is_writable(path) and is_writable(path.parent)):
        if mode != "read":
            raise OutputError(
                f"the store {path} is read-only", hint="change its permissions, or name another with tracking.store"
            )
        log = path.with_name(f"{path.name}-wal")
        if log.is_file() and log.stat().st_size:
            raise StoreError(
                f"the store {path} is read-only, but its last changes still lie in {log.name}",
                hint="copy both into a folder that you may write to, and name that one with --runs",
            )
        flags = "mode=ro&immutable=1"  # the only way to read a write-ahead log's database without writing beside it
    # No pool: a connection opens in under a millisecond, and none is carried over a fork.
    engine = create_engine("sqlite://", creator=lambda: _connect(path, flags), poolclass=NullPool)
    begin = "BEGIN" if mode == "read" else "BEGIN IMMEDIATE"  # to wait for the lock here, not fail in the middle

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _connect(path: Path, flags: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{flags}", uri=True, timeout=TIMEOUT, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=NORMAL")  # safe with a write-ahead log; saves a flush per epoch
    except BaseException:
        connection.close()
        raise
    return connection


def _create_file(path: Path) -> None:
    """A new file with a write-ahead log; one that has content is left as it is: it may be someone else's."""
    if path.is_file() and path.stat().st_size:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {path.parent}: {error.strerror}", hint="name another with tracking.store"
        ) from error
    if not is_writable(path.parent):
        raise OutputError(
            f"cannot make the store {path}: its folder is read-only",
            hint="change its permissions, or name another folder with runs=FOLDER",
        )
    end = monotonic() + TIMEOUT
    with closing(_connect(path, "mode=rwc")) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait for a lock here.
                if error.sqlite_errorname != "SQLITE_BUSY" or monotonic() > end:
                    raise
                sleep(0.02)


def _open_postgresql(url: URL) -> Engine:
    need("runs", "psycopg", extra="postgres")
    # The second timeout ends a write to a server that went away, which otherwise takes a quarter of an hour.
    wait = {"connect_timeout": TIMEOUT, "tcp_user_timeout": TIMEOUT * 1000}
    return create_engine(
        url,
        connect_args={name: each for name, each in wait.items() if name not in url.query},
        pool_pre_ping=True,
        pool_size=5,
    )


def _prepare(connection: Connection, url: URL, mode: Mode) -> None:
    if not is_sqlite(url) and mode == "create":
        # Two that create the tables at once would fail; the number is arbitrary, but must stay.
        connection.execute(text("SELECT pg_advisory_xact_lock(7305809)"))
    present = set(inspect(connection).get_table_names())
    if schema.name in present:
        version = connection.scalar(select(schema.c.version)) or 0
        if not isinstance(version, int):
            raise StoreError(f"the store {show_url(url)} has schema {version!r}, a number expected", hint=MOVE)
        if version > VERSION:
            raise StoreError(
                f"the store {show_url(url)} has schema {version}, but this lesion knows up to {VERSION}",
                hint="it was written by a newer lesion: upgrade this one",
            )
    elif strange := sorted(present if is_sqlite(url) else present & set(METADATA.tables)):
        raise StoreError(
            f"{show_url(url)} is no store of runs: it holds tables of another program ({', '.join(strange[:5])})",
            hint="name a database of its own with tracking.store",
        )
    elif mode != "create":
        raise NotFoundError(f"no runs are recorded in {show_url(url)}", hint="`lesion train` records them")
    if mode != "read":
        METADATA.create_all(connection)
    if schema.name not in present:
        connection.execute(insert(schema).values(version=VERSION))


def _explain_file(url: URL, error: BaseException) -> LesionError:
    path, name = show_url(url), getattr(error, "sqlite_errorname", None) or ""
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return StoreError(f"the store {path} is damaged: {_check(Path(path)) or brief(error)}", hint=MOVE)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return OutputError(
            f"the store {path} stayed locked by another process for {TIMEOUT} s",
            hint="end the program that holds it, then try again",
        )
    if name.startswith("SQLITE_FULL"):
        return OutputError(f"cannot write the store {path}: the disk is full", hint="free some space")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR", "SQLITE_PROTOCOL")):
        return OutputError(
            f"cannot use the store {path}: {brief(error)}",
            hint="check permissions and free space; a network drive may not do for SQLite",
        )
    return StoreError(f"the store {path} does not fit this lesion: {brief(error)}", hint=MOVE)


def _check(path: Path) -> str:
    """The first finding of SQLite's own check; empty when there is none, or when not even that can run."""
    try:
        with closing(_connect(path, "mode=ro")) as connection:
            found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error:
        return ""
    return "" if found == "ok" else " ".join(found.split())


def _explain_server(url: URL, error: BaseException) -> RemoteError:
    return RemoteError(
        f"the store {show_url(url)} does not answer as expected: {redact(brief(error))}",
        hint="check the server, the database's name and the password (docs/runs.md); without tracking.store a file "
        "in the runs folder is used",
    )


def _unusable(store: str) -> ConfigError:
    return ConfigError(
        f"tracking.store: {redact(store)!r} is no store",
        hint="name a file, or postgresql://USER@HOST/DATABASE; null means runs.db in the runs folder",
    )
