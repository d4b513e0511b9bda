"""Rows that another program, a newer version or a damaged disk left in the registry: an error that names them."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from lesion.errors import LesionError, StoreError
from lesion.tracking.registry import Registry
from lesion.tracking.store import Store
from tests.tracking.test_registry import write_model

TABLES = {
    "model_versions": ("name", "version", "sha256", "bytes", "registered", "lineage"),
    "model_aliases": ("name", "alias", "version"),
    "model_evaluations": ("sha256", "split", "fingerprint", "figures"),
    "model_promotions": ("name", "alias", "previous", "version", "forced", "promoted"),
}
DEEP = "[" * 20_000 + "]" * 20_000


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A registry with two versions of "ham", the second in production."""
    with Registry.open(None, tmp_path / "runs", "create") as registry:
        for number in (1, 2):
            registry.register(write_model(tmp_path / f"{number}.onnx", auroc=0.8 + number / 100), "ham")
            registry.promote("ham", str(number), "production")
    return tmp_path / "runs"


def change(runs: Path, table: str, column: str, value: Any) -> None:
    with closing(sqlite3.connect(runs / "runs.db")) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (value,))


def ask_everything(runs: Path) -> None:
    with Registry.open(None, runs, "read") as registry:
        for question in (
            lambda: registry.find("ham@production"),
            lambda: registry.find("ham@1"),
            lambda: registry.locate(registry.find("ham@2")),
            lambda: registry.list_promotions("ham"),
            registry.list_versions,
        ):
            with suppress(LesionError):
                question()


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("model_versions", "lineage", "no JSON", "lineage: a JSON object expected"),
        ("model_versions", "lineage", "[]", "lineage: a JSON object expected"),
        ("model_versions", "lineage", '{"run": 1}', "lineage: text expected"),
        ("model_versions", "lineage", '{"run": "\\ud800"}', "surrogates not allowed"),
        ("model_versions", "lineage", DEEP, "nested too deeply"),
        ("model_versions", "sha256", "../../model", "sha256: another form of text expected"),
        ("model_versions", "bytes", "many", "bytes: a whole number from 0 expected"),
        ("model_aliases", "alias", "canary", "alias: one of staging, production expected"),
        ("model_evaluations", "figures", "{", "figures: a JSON object expected"),
        ("model_evaluations", "figures", '{"auroc": NaN}', "NaN is no JSON"),
        ("model_evaluations", "figures", '{"auroc": "high"}', "figures: finite numbers expected"),
        ("model_evaluations", "figures", f'{{"auroc": {10**400}}}', "figures: finite numbers expected"),
        ("model_evaluations", "figures", '{"auroc": 1e999}', "figures: finite numbers expected"),
    ],
)
def test_a_malformed_row_is_named(table: str, column: str, value: Any, said: str, runs: Path) -> None:
    change(runs, table, column, value)
    with Registry.open(None, runs, "read") as registry:
        with pytest.raises(StoreError, match=f"runs.db: the row of {table} with .* is malformed: .*{said}") as caught:
            registry.list_versions("ham")
        assert "backup" in caught.value.hint
        with pytest.raises(StoreError if column != "alias" else LesionError):
            registry.find("ham@production" if column == "alias" else "ham@2")


@pytest.mark.parametrize(("column", "value"), [("previous", "x"), ("version", None), ("promoted", b"\xff")])
def test_a_malformed_promotion_is_named(column: str, value: Any, runs: Path) -> None:
    with closing(sqlite3.connect(runs / "runs.db")) as connection, connection:
        connection.execute("CREATE TABLE copy AS SELECT * FROM model_promotions")
        connection.execute("DROP TABLE model_promotions")
        connection.execute("ALTER TABLE copy RENAME TO model_promotions")
    change(runs, "model_promotions", column, value)
    with (
        Registry.open(None, runs, "read") as registry,
        pytest.raises(StoreError, match=f"the row of model_promotions with id 2 is malformed: {column}"),
    ):
        registry.list_promotions("ham")


def test_a_schema_of_no_number_is_an_error_of_the_store(runs: Path) -> None:
    with closing(sqlite3.connect(runs / "runs.db")) as connection, connection:
        connection.execute("DROP TABLE lesion_schema")
        connection.execute("CREATE TABLE lesion_schema AS SELECT 'new' AS version")
    with pytest.raises(StoreError, match="has schema 'new', a number expected"):
        Registry.open(None, runs, "read")


@pytest.mark.parametrize("address", ["/etc/passwd", "memory://bucket/x.onnx", f"memory://b/x.onnx#sha256={'0' * 64}"])
def test_an_address_of_another_file_is_not_asked(address: str, runs: Path) -> None:
    change(runs, "model_versions", "lineage", json.dumps({"file": address}))
    with Registry.open(None, runs, "read") as registry:
        version = registry.find("ham@2")
        (registry.folder / f"{version.sha256}.onnx").unlink()
        with pytest.raises(StoreError, match="is not that of its file"):
            registry.locate(version)


cells = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
    | st.sampled_from(['{"a": "\\udc00"}', '{"auroc": -Infinity}', "{}", "null", "9" * 5000, DEEP, "ham", "production"])
)


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same registry without any constraint."""
    folder = tmp_path_factory.mktemp("loose")
    with Registry.open(None, folder, "create") as registry:
        registry.register(write_model(folder / "1.onnx"), "ham")
        registry.promote("ham", "1", "production")
    with closing(sqlite3.connect(folder / "runs.db")) as connection, connection:
        for table in TABLES:
            connection.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
    return folder


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.sampled_from([(t, c) for t in TABLES for c in TABLES[t]]), min_size=1, max_size=3),
    data=st.data(),
)
def test_whatever_a_row_holds_no_question_fails_otherwise(
    changes: list[tuple[str, str]], data: st.DataObject, loose: Path
) -> None:
    with closing(sqlite3.connect(loose / "runs.db")) as connection, connection:
        for table in TABLES:  # columns without type and constraint: what is put in is what comes out
            connection.execute(f"DROP TABLE IF EXISTS {table}")
            connection.execute(f"CREATE TABLE {table} ({', '.join(('id', *TABLES[table]))})")
            names = ", ".join(TABLES[table])
            connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM kept_{table}")
        for table, column in changes:
            connection.execute(f"UPDATE {table} SET {column} = ?", (data.draw(cells),))
    ask_everything(loose)


def test_a_version_is_found_with_few_queries_however_many_there_are(runs: Path, tmp_path: Path) -> None:
    """The server asks every two seconds."""
    with Registry.open(None, runs, "create") as registry:
        for number in range(3, 8):
            registry.register(write_model(tmp_path / f"{number}.onnx", auroc=number / 10), "ham")
    with Store.open(Registry.open(None, runs, "read")._store.url, "read") as store:
        asked: list[str] = []
        event.listen(store.engine, "before_cursor_execute", lambda *words: asked.append(words[2]))
        assert Registry(store, runs / "models").find("ham@production").version == 2
    assert len([query for query in asked if query.startswith("SELECT")]) == 3
