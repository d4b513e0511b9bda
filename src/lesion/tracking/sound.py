"""Which rows of the store are what a training writes: SQLite keeps any type in any column, whoever wrote it."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table

from lesion.escape import to_log
from lesion.tracking.database import show_url
from lesion.tracking.store import Store
from lesion.tracking.tables import artifacts, facts, figures, metrics, parameters, runs

log = logging.getLogger(__name__)
MOST_PID = 2**31


def is_time(value: object) -> bool:
    """Whether `value` is a time with its zone in ISO 8601."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def is_json(value: object) -> bool:
    """Whether `value` is a text of JSON."""
    try:
        json.loads(value if isinstance(value, str) else "")
    except (ValueError, RecursionError):
        return False
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer with hundreds of digits
        return False


def _or_null(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or fits(value)


COLUMNS: Mapping[Table, Mapping[str, Callable[[object], bool]]] = {
    runs: {
        **dict.fromkeys(("name", "path", "tier", "status", "host"), _is_text),
        **dict.fromkeys(("started", "updated"), is_time),
        "ended": _or_null(is_time),
        "epochs": _is_count,
        "pid": lambda value: isinstance(value, int) and 0 <= value < MOST_PID,
        "born": _is_number,
    },
    parameters: {"key": _is_text, "value": is_json},
    facts: {"key": _is_text, "value": _is_text},
    metrics: {"name": _is_text, "step": _is_count, "epoch": _is_count, "value": _or_null(_is_number)},
    figures: {"name": _is_text, **dict.fromkeys(("value", "low", "high"), _or_null(_is_number))},
    artifacts: {**dict.fromkeys(("path", "kind", "sha256"), _is_text), "bytes": _is_count},
}
"""Table → the columns that are looked at, and what each takes."""


def keep_sound(store: Store, table: Table, rows: Iterable[Row[Any]]) -> Sequence[Row[Any]]:
    """Return the rows of `table` whose values are of the kind that is written there.

    The others are left out, with one warning for each table and store.
    """
    kept, first, left = [], "", 0
    columns = COLUMNS[table]
    for row in rows:
        values = row._mapping
        wrong = next((name for name, fits in columns.items() if name in values and not fits(values[name])), None)
        if wrong is None:
            kept.append(row)
            continue
        left += 1
        where = f"run {to_log(values['run'], 40)}" if "run" in values else f"id {to_log(values['id'], 40)}"
        first = first or f"{where} with {wrong} {to_log(repr(values[wrong]), 80)}"
    if left and table.name not in store.warned:
        store.warned.add(table.name)
        log.warning(
            "%s: malformed rows of the table %s are left out: %d, the first of %s",
            show_url(store.url), table.name, left, first,
        )  # fmt: skip
    return kept
