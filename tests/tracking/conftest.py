"""A store that a test may fill, and a PostgreSQL server of the tests' own where one is installed."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from lesion.tracking.database import store_url
from lesion.tracking.store import Store

PASSWORD = "s3cr3t/x"


@pytest.fixture
def url(tmp_path: Path) -> URL:
    """Where the store of a folder of runs is, or will be."""
    return store_url(None, tmp_path / "runs")


@pytest.fixture
def store(url: URL) -> Iterator[Store]:
    """An empty store."""
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def team(postgres: URL) -> URL:
    """An empty database of the test's own on the PostgreSQL server."""
    name = f"t{uuid4().hex}"
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
    engine.dispose()
    return postgres.set(database=name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    """A fresh PostgreSQL server on a free port of this machine, with a password."""
    pytest.importorskip("psycopg", reason="needs the 'postgres' extra")
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    programs = next((Path(path).parent for path in found if path), None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    # The server refuses to run as root.
    runuser = shutil.which("runuser", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin") or "runuser"
    user = [runuser, "-u", "nobody", "--"] if os.name == "posix" and os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="lesion-postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, "nobody")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        init = ["-D", str(folder / "data"), "-U", "lesion", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
        subprocess.run(
            [*user, str(programs / "initdb"), *init, "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -c unix_socket_directories="
        control = [*user, str(programs / "pg_ctl"), "-D", str(folder / "data")]
        start = ["-w", "-l", str(folder / "log"), "-o", options, "start"]
        subprocess.run([*control, *start], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            yield URL.create("postgresql+psycopg", "lesion", PASSWORD, "127.0.0.1", port, "postgres")
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    finally:
        shutil.rmtree(folder)
