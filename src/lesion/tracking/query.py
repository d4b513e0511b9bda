"""What `lesion runs` asks the store."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, tuple_

from lesion.errors import ConfigError, NotFoundError
from lesion.records import Estimate
from lesion.run import FINISHED
from lesion.suggest import nearest
from lesion.tracking.database import is_sqlite
from lesion.tracking.entries import ArtifactEntry, Curve, RunDetail, RunEntry, is_less_better, is_per_step, is_quality
from lesion.tracking.process import has_died
from lesion.tracking.sound import is_json, keep_sound
from lesion.tracking.store import RUNNING, Store
from lesion.tracking.tables import artifacts, facts, figures, metrics, parameters, runs

DIED = "died"
LATEST = "latest"
STATUSES = (RUNNING, FINISHED, "failed", "interrupted", DIED)
LISTED = ("val_loss", "val_auroc", "test_auroc")
Figures = dict[int, dict[str, float]]  # id of a run → figure → value


def list_runs(
    store: Store,
    status: str | None = None,
    tier: str | None = None,
    limit: int | None = None,
    names: Sequence[str] | None = LISTED,
) -> list[RunEntry]:
    """Runs, newest first, with those of their figures that are among `names` (None: all)."""
    with store.transaction() as connection:
        rows = _read_runs(store, connection, *((runs.c.tier == tier,) if tier else ()))
        chosen = [row for row in rows if status in (None, _judge(row))][:limit]
        return _to_entries(store, connection, chosen, names)


def find_run(store: Store, word: str) -> RunEntry:
    """The run that `word` means: "latest", a name, the beginning of only one name, a run folder, or an id.

    Raises NotFoundError with what is nearest, ConfigError when several runs are meant.
    """
    with store.transaction() as connection:
        rows = _read_runs(store, connection)
        if not rows:
            raise NotFoundError("no runs are recorded yet", hint="`lesion train` records them")
        return _to_entries(store, connection, [_choose(rows, word)], None)[0]


def read_detail(store: Store, entry: RunEntry) -> RunDetail:
    """All that is recorded of a run."""
    with store.transaction() as connection:

        def of(table: Any, *order: Any) -> Sequence[Row[Any]]:
            found = connection.execute(select(table).where(table.c.run == entry.id).order_by(*order))
            return keep_sound(store, table, found)

        text = connection.scalar(select(runs.c.config).where(runs.c.id == entry.id))
        config = json.loads(str(text)) if is_json(text) else None
        return RunDetail(
            entry=entry,
            intervals={row.name: Estimate(row.value, row.low, row.high) for row in of(figures, figures.c.name)},
            config=config if isinstance(config, dict) else {},
            parameters={row.key: row.value for row in of(parameters, parameters.c.key)},
            facts={row.key: row.value for row in of(facts, facts.c.key)},
            artifacts=[
                ArtifactEntry(row.path, row.kind, row.bytes, row.sha256) for row in of(artifacts, artifacts.c.path)
            ],
            curves=_read_curves(store, connection, entry.id),
        )


def read_curves(store: Store, run: int, names: Sequence[str] | None = None) -> dict[str, Curve]:
    """Metric → its values in the order of steps; only `names` when given."""
    with store.transaction() as connection:
        return _read_curves(store, connection, run, names)


def rank_runs(store: Store, metric: str) -> list[RunEntry]:
    """Finished runs that have the figure `metric`, best first; equal ones newest first.

    Raises NotFoundError when no finished run has it; the error names the figures there are.
    """
    entries = list_runs(store, status=FINISHED, names=(metric, "val_loss"))
    having = [entry for entry in entries if metric in entry.figures]
    if not having:
        with store.transaction() as connection:
            tables = (figures, metrics)
            names = {str(name) for table in tables for name in connection.scalars(select(table.c.name).distinct())}
        known = sorted(name for name in names if is_quality(name) and not is_per_step(name))
        close = nearest(metric, known)
        raise NotFoundError(
            f"no finished run has a figure {metric!r}" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"there are: {', '.join(known) or 'none; `lesion train` records them'}",
        )
    return sorted(having, key=lambda entry: entry.figures[metric], reverse=not is_less_better(metric))


def _read_runs(store: Store, connection: Connection, *where: ColumnElement[bool]) -> Sequence[Row[Any]]:
    """The runs that fit all of `where`, newest first, without their configurations, which are most of the table."""
    columns = [column for column in runs.c if column is not runs.c.config]
    order = select(*columns).where(*where).order_by(runs.c.started.desc(), runs.c.id.desc())
    return keep_sound(store, runs, connection.execute(order))


def _choose(rows: Sequence[Row[Any]], word: str) -> Row[Any]:
    if word == LATEST:
        return rows[0]
    folder = Path(word)
    tests = (
        lambda row: row.name == word,
        lambda row: row.path == folder.resolve().as_posix(),
        lambda row: len(folder.parts) > 1 and row.name == folder.name,
        lambda row: word != "" and row.name.startswith(word),
        lambda row: str(row.id) == word,
    )
    for test in tests:
        if len(found := [row for row in rows if test(row)]) == 1:
            return found[0]
        if found:
            shown = ", ".join(f"{row.name} (id {row.id})" for row in found[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise ConfigError(
                f"{word!r} means {len(found)} runs: {shown}{more}", hint="give more of the name, or the id"
            )
    close = nearest(word, [row.name for row in rows])
    raise NotFoundError(
        f"no run {word!r}" + (f"; did you mean {close!r}?" if close else ""),
        hint="`lesion runs list` shows them; 'latest' is the newest",
    )


def _to_entries(
    store: Store, connection: Connection, rows: Sequence[Row[Any]], names: Sequence[str] | None
) -> list[RunEntry]:
    ids = [row.id for row in rows]
    kept = _find_kept(store, connection, ids)
    found = _read_figures(store, connection, ids, kept, names)
    split = select(facts).where(facts.c.key == "split", facts.c.run.in_(ids))
    splits: dict[int, str] = {row.run: row.value for row in keep_sound(store, facts, connection.execute(split))}
    return [
        RunEntry(
            id=row.id,
            name=row.name,
            path=_locate(store, row),
            tier=row.tier,
            status=_judge(row),
            started=row.started,
            ended=row.ended,
            seconds=_count_seconds(row.started, row.ended or row.updated),
            epochs=row.epochs,
            split=splits.get(row.id, ""),
            kept_epoch=kept[row.id] + 1 if row.id in kept else None,
            figures=found.get(row.id, {}),
        )
        for row in rows
    ]


def _find_kept(store: Store, connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Run → the epoch, from 0, with the lowest validation loss; of equal ones the first."""
    losses = (
        select(metrics.c.run, metrics.c.epoch, metrics.c.value)
        .where(metrics.c.run.in_(ids), metrics.c.name == "val_loss", metrics.c.value.is_not(None))
        .order_by(metrics.c.run, metrics.c.value.desc(), metrics.c.step.desc())
    )
    return {row.run: row.epoch for row in keep_sound(store, metrics, connection.execute(losses))}


def _read_figures(
    store: Store, connection: Connection, ids: Sequence[int], kept: dict[int, int], names: Sequence[str] | None
) -> Figures:
    epochs = select(metrics).where(tuple_(metrics.c.run, metrics.c.epoch).in_(list(kept.items())))
    whole = select(figures).where(figures.c.run.in_(ids))
    if names is None:
        # A learning rate is no result.
        epochs = epochs.where(metrics.c.name.not_like(r"%\_step", escape="\\"), metrics.c.name.not_like("lr%"))
    else:
        epochs, whole = epochs.where(metrics.c.name.in_(names)), whole.where(figures.c.name.in_(names))
    found: Figures = {}
    # Later wins: the last step, then what was recorded.
    for table, query in ((metrics, epochs.order_by(metrics.c.step)), (figures, whole)):
        for row in keep_sound(store, table, connection.execute(query)):
            if row.value is not None:
                found.setdefault(row.run, {})[row.name] = row.value
    return found


def _read_curves(
    store: Store, connection: Connection, run: int, names: Sequence[str] | None = None
) -> dict[str, Curve]:
    query = select(metrics).where(metrics.c.run == run).order_by(metrics.c.name, metrics.c.step)
    curves: dict[str, Curve] = {}
    found = connection.execute(query if names is None else query.where(metrics.c.name.in_(names)))
    for row in keep_sound(store, metrics, found):
        curve = curves.setdefault(row.name, Curve([], [], []))
        curve.steps.append(row.step)
        curve.epochs.append(row.epoch)
        curve.values.append(row.value)
    return curves


def _judge(row: Row[Any]) -> str:
    return DIED if row.status == RUNNING and has_died(row.host, row.pid, row.born) else str(row.status)


def _locate(store: Store, row: Row[Any]) -> str:
    """The run's folder; when that is gone, the one of its name beside the store, for a folder of runs that moved."""
    beside = Path(store.url.database or "").resolve().parent / row.name
    moved = is_sqlite(store.url) and not Path(row.path).is_dir() and beside.is_dir()
    return beside.as_posix() if moved else str(row.path)


def _count_seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
