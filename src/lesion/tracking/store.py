"""The store of runs, as trainings and evaluations write it; `lesion.tracking.query` reads it."""

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL

from lesion.errors import LesionError, NotFoundError, OutputError
from lesion.records import Estimate
from lesion.redaction import redact
from lesion.run import now
from lesion.tracking.database import Mode, explain, is_sqlite, open_engine, store_url
from lesion.tracking.process import describe_process
from lesion.tracking.tables import artifacts, facts, figures, metrics, parameters, runs

log = logging.getLogger(__name__)
RUNNING = "running"
Value = tuple[str, int, int, float]  # name, step, epoch, value


class Store:
    """One database of runs. Every method is one transaction, and raises what `open_engine` does."""

    def __init__(self, url: URL, mode: Mode) -> None:
        self.url = url
        self.engine = open_engine(url, mode)
        self.warned: set[str] = set()
        """Tables of which a warning has said that they hold malformed rows."""

    @classmethod
    def open(cls, url: URL, mode: Mode = "create") -> Self:
        """The store at a URL of `store_url`; for the modes and errors see `open_engine`."""
        return cls(url, mode)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection whose work is kept as a whole or not at all."""
        with explain(self.url), self.engine.begin() as connection:
            yield connection

    def start(
        self, path: Path, tier: str, config: Mapping[str, Any], about: Mapping[str, str], resume: bool = False
    ) -> int:
        """Record that the run in the folder `path` began, or goes on with `resume`; returns its id.

        Args:
            path: the run's folder; its name is the run's name.
            tier: model tier.
            config: the resolved configuration, nested; user info is taken out of URLs.
            about: commit, fingerprints, versions: what is known of the run besides its configuration.
            resume: go on with the newest run of that folder, if there is one.
        """
        time, clean, folder = now(), redact(dict(config)), _to_text(path.resolve().as_posix())
        values = {
            "tier": tier, "status": RUNNING, "updated": time, "ended": None,
            "config": json.dumps(clean), **describe_process(),
        }  # fmt: skip
        with self.transaction() as connection:
            run = connection.scalar(select(func.max(runs.c.id)).where(runs.c.path == folder)) if resume else None
            if run is None:
                new = insert(runs).values(name=_to_text(path.resolve().name), path=folder, started=time, **values)
                (run,) = connection.execute(new).inserted_primary_key or (None,)
            else:
                connection.execute(update(runs).where(runs.c.id == run).values(values))
            assert run is not None
            _upsert(connection, parameters, [{"run": run, "key": k, "value": v} for k, v in flatten(clean)])
            _upsert(connection, facts, [{"run": run, "key": k, "value": _to_text(v)} for k, v in about.items()])
        return int(run)

    def log(self, run: int, values: Iterable[Value]) -> None:
        """Record (name, step, epoch from 0, value); a value at a step that has one replaces it.

        NaN and infinity are stored as NULL, so that both databases treat them alike.
        """
        rows = [
            {"run": run, "name": name, "step": step, "epoch": epoch, "value": _to_number(value)}
            for name, step, epoch, value in values
        ]
        if not rows:
            return
        with self.transaction() as connection:
            _upsert(connection, metrics, rows)
            done = 1 + max(int(row["epoch"] or 0) for row in rows)
            connection.execute(update(runs).where(runs.c.id == run, runs.c.epochs < done).values(epochs=done))
            connection.execute(update(runs).where(runs.c.id == run).values(updated=now()))

    def add_artifact(self, run: int, path: str, kind: str, sha256: str, size: int) -> None:
        """Record a file of the run: its path within the run's folder, its kind, digest and bytes."""
        row = {"run": run, "path": path, "kind": kind, "sha256": sha256, "bytes": size, "recorded": now()}
        with self.transaction() as connection:
            _upsert(connection, artifacts, [row])

    def add_figures(self, run: int, found: Mapping[str, float | Estimate | None]) -> None:
        """Record results that belong to the run as a whole, with their intervals where they have some."""
        with self.transaction() as connection:
            _upsert(connection, figures, _to_rows(run, found))

    def finish(self, run: int, status: str, summary: Mapping[str, float | None] | None = None) -> None:
        """Record how the run ended ("finished", "failed" or "interrupted") and its figures."""
        end = now()
        with self.transaction() as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(status=status, ended=end, updated=end))
            _upsert(connection, figures, _to_rows(run, summary or {}))

    def find_at(self, path: Path) -> int | None:
        """The newest run that was recorded for the folder `path`, or in a moved folder of runs for its name."""
        folder = path.resolve()
        with self.transaction() as connection:
            same = select(func.max(runs.c.id)).where(runs.c.path == _to_text(folder.as_posix()))
            run: int | None = connection.scalar(same)
            if run is None and is_sqlite(self.url) and folder.parent == Path(self.url.database or "").resolve().parent:
                run = connection.scalar(select(func.max(runs.c.id)).where(runs.c.name == _to_text(folder.name)))
        return run


def record_evaluation(store: str | None, model: Path, split: str, found: Mapping[str, Estimate]) -> bool:
    """Record what `lesion eval` measured on `split` with the file `model` of a run, as "test_auroc" and so on.

    `store` is `tracking.store`. Figures of another file than model.onnx carry its name:
    "test_auroc@model.int8.onnx". A run that the store does not know is left alone. A store that fails costs a
    warning, not the evaluation. Returns whether it was recorded.
    """
    suffix = "" if model.name == "model.onnx" else f"@{model.name}"
    try:
        with Store.open(store_url(store, model.parent.parent), "write") as opened:
            if (run := opened.find_at(model.parent)) is None:
                return False
            opened.add_figures(run, {f"{split}_{name}{suffix}": value for name, value in found.items()})
    except NotFoundError:
        return False
    except LesionError as error:
        log.warning("the evaluation is not in the store of runs: %s", error.message)
        return False
    return True


def digest(path: Path) -> tuple[str, int]:
    """Hex SHA-256 and bytes of a file, read in pieces; OutputError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """("trainer.epochs", "25"), …: dotted key and JSON text of every leaf."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value)


def _to_rows(run: int, found: Mapping[str, float | Estimate | None]) -> list[dict[str, Any]]:
    rows = []
    for name, value in found.items():
        each = value if isinstance(value, Estimate) else Estimate(value, None, None)
        low, middle, high = (_to_number(part) for part in (each.low, each.value, each.high))
        rows.append({"run": run, "name": name, "value": middle, "low": low, "high": high})
    return rows


def _upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    statement = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    changes = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    keys = [column.name for column in table.primary_key]
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes), rows)


def _to_number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _to_text(text: str) -> str:
    """Text that a database takes: a file name need not be Unicode, and PostgreSQL has no character 0."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")
