"""Rows of the registry as versions and promotions; a malformed row is a StoreError that names it."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, select

from lesion.errors import StoreError
from lesion.escape import to_log
from lesion.tracking.registry_tables import aliases, evaluations, promotions, versions
from lesion.tracking.versions import ALIASES, NAME, Evaluation, Promotion, Version

T = TypeVar("T")
SHA256 = re.compile("[0-9a-f]{64}")


def read_versions(connection: Connection, place: str, *where: ColumnElement[bool]) -> list[Version]:
    """The versions that fit all of `where`, by name and newest first, in three queries.

    StoreError when a row of them is malformed; it names the row, and the store as `place`.
    """
    order = select(versions).where(*where).order_by(versions.c.name, versions.c.version.desc())
    rows = connection.execute(order).all()
    if not rows:
        return []
    names = select(versions.c.name).where(*where)
    pointing: dict[tuple[Any, Any], list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(select(aliases).where(aliases.c.name.in_(names))):
        pointing[row.name, row.version].append(row)
    files = select(versions.c.sha256).where(*where)
    query = select(evaluations).where(evaluations.c.sha256.in_(files))
    measured: dict[Any, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query.order_by(evaluations.c.split, evaluations.c.fingerprint)):
        measured[row.sha256].append(row)
    return [_to_version(row, pointing[row.name, row.version], measured[row.sha256], place) for row in rows]


def read_promotions(connection: Connection, place: str, name: str) -> list[Promotion]:
    """Every promotion of the model `name`, newest first; StoreError as in `read_versions`."""
    query = select(promotions).where(promotions.c.name == name).order_by(promotions.c.id.desc())
    return [_read(promotions, row, _to_promotion, place) for row in connection.execute(query)]


def to_number(value: object, column: str, least: int = 1) -> int:
    """A whole number of a column; ValueError when it is none, or is less than `least`."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{column}: a whole number from {least} expected")
    return value


def _to_version(row: Row[Any], pointing: list[Row[Any]], measured: list[Row[Any]], place: str) -> Version:
    names = [_read(aliases, each, _to_alias, place) for each in pointing]
    found = [_read(evaluations, each, _to_evaluation, place) for each in measured]

    def convert(row: Row[Any]) -> Version:
        return Version(
            _to_text(row.name, "name", NAME),
            to_number(row.version, "version"),
            _to_text(row.sha256, "sha256", SHA256),
            to_number(row.bytes, "bytes", 0),
            _to_text(row.registered, "registered"),
            sorted(names, key=ALIASES.index),
            {key: _to_text(value, "lineage") for key, value in _to_object(row.lineage, "lineage").items()},
            found,
        )

    return _read(versions, row, convert, place)


def _to_alias(row: Row[Any]) -> str:
    if row.alias not in ALIASES:
        raise ValueError(f"alias: one of {', '.join(ALIASES)} expected")
    return str(row.alias)


def _to_evaluation(row: Row[Any]) -> Evaluation:
    values = _to_object(row.figures, "figures")
    for value in values.values():
        # No float() of an integer: one with a thousand digits has none.
        if value is not None and not (type(value) is int and abs(value) < 2**53) and not _is_finite(value):
            raise ValueError("figures: finite numbers expected")
    figures = {name: None if value is None else float(value) for name, value in values.items()}
    return Evaluation(_to_text(row.split, "split"), _to_text(row.fingerprint, "fingerprint"), figures)


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _to_promotion(row: Row[Any]) -> Promotion:
    return Promotion(
        _to_text(row.name, "name", NAME),
        _to_text(row.alias, "alias"),
        None if row.previous is None else to_number(row.previous, "previous"),
        to_number(row.version, "version"),
        None if row.forced is None else _to_text(row.forced, "forced"),
        _to_text(row.promoted, "promoted"),
    )


def _read(table: Table, row: Row[Any], convert: Callable[[Row[Any]], T], place: str) -> T:
    try:
        return convert(row)
    except (ValueError, RecursionError) as error:
        key = ", ".join(f"{column.name} {to_log(repr(row._mapping[column]), 80)}" for column in table.primary_key)
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise StoreError(
            f"{place}: the row of {table.name} with {key} is malformed: {why}",
            hint="mend or delete this row in the database, or restore the store from a backup",
        ) from error


def _to_text(value: object, column: str, form: re.Pattern[str] | None = None) -> str:
    if not isinstance(value, str) or (form and not form.fullmatch(value)):
        raise ValueError(f"{column}: {'another form of text' if isinstance(value, str) else 'text'} expected")
    value.encode()  # UnicodeEncodeError, which is a ValueError, for half of a surrogate pair
    return value


def _to_object(value: object, column: str) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    try:
        found = json.loads(value if isinstance(value, str) else "", parse_constant=refuse)
    except ValueError as error:
        raise ValueError(f"{column}: a JSON object expected ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{column}: a JSON object expected")
    return {_to_text(key, column): each for key, each in found.items()}
