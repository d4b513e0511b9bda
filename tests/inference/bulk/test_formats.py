"""Answers as text: what is read back is what was written, and no spreadsheet computes anything."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.errors import ConfigError, MissingExtra
from lesion.inference.bulk.formats import WRITERS, Csv, JsonLines, choose_format, flatten, to_columns
from lesion.inference.bulk.items import Answer, Problem, Unreadable
from lesion.records import Prediction, to_dict

NAMES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20)
START = st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "\n", "'", " =", "＝", '"', ",", ";", "\\"])


def answers(template: Prediction) -> list[Answer]:
    wrong = Unreadable('=HYPERLINK("x")', Problem("ImageError", "-cannot, read\nit"))
    return [replace(template, source=name) for name in ("a", '=1+1,"b"', "'c\nd")] + [wrong]


@settings(deadline=None)
@given(NAMES, START)
def test_no_text_cell_is_a_formula_and_names_come_back(template: Prediction, rest: str, start: str) -> None:
    table, name = Csv(template), start + rest
    answer = Unreadable(name, Problem("ImageError", f"cannot read {name}"))
    content = table.head + table.encode(answer)
    (row,) = csv.DictReader(io.StringIO(content.decode(), newline=""))
    assert row["source"].removeprefix("'") == name
    assert not row["source"].lstrip(" ").startswith(tuple("=+-@\t\r\n＝＋－＠"))
    (entry,) = table.scan(io.BytesIO(content), "x")
    assert (entry.source, entry.model, entry.end) == (name, None, len(content))
    (entry,) = JsonLines().scan(io.BytesIO(JsonLines().encode(answer)), "x")
    assert (entry.source, entry.model) == (name, None)


def test_numbers_stay_numbers(template: Prediction) -> None:
    table = Csv(template)
    low = replace(template, confidence=-1e-300)
    (row,) = csv.DictReader(io.StringIO((table.head + table.encode(low)).decode()))
    assert float(row["confidence"]) == -1e-300
    assert row["error.code"] == ""
    flat = flatten(to_dict(low))
    assert {name: row[name] for name in flat} == {name: str(value) for name, value in flat.items()}


def test_nested_fields_become_columns(template: Prediction) -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": ["x", "y"]}, "e": None}) == {"a.b.c": 1, "a.d": "x y", "e": None}
    columns = to_columns(template)
    assert next(iter(columns)) == "source"
    assert columns["class_probabilities.malignant"] is float
    assert list(columns)[-2:] == ["error.code", "error.message"]


def convert(form: str, template: Prediction, path: Path, given: list[Answer]) -> Path:
    lines = io.BytesIO(b"".join(map(JsonLines().encode, given)))
    WRITERS[form](lines, path, template)
    return path


def test_the_document_is_that_of_the_command(template: Prediction, tmp_path: Path) -> None:
    document = json.loads(convert("json", template, tmp_path / "a.json", answers(template)).read_text())
    assert document == json.loads(json.dumps({"schema": 1, "predictions": list(map(to_dict, answers(template)))}))


def test_a_table_made_at_the_end_is_the_one_that_grows(template: Prediction, tmp_path: Path) -> None:
    made = convert("csv", template, tmp_path / "a.csv", answers(template)).read_bytes()
    table = Csv(template)
    assert made == table.head + b"".join(map(table.encode, answers(template)))


@pytest.mark.parametrize("count", [1, 3])
def test_parquet_holds_the_same_columns(
    count: int, template: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("lesion.inference.bulk.formats.ROWS", count)
    path = convert("parquet", template, tmp_path / "a.parquet", answers(template))
    rows = parquet.read_table(path).to_pylist()
    columns = to_columns(template)
    assert list(rows[0]) == list(columns)
    blank = dict.fromkeys(columns)
    assert rows == [{**blank, **flatten(to_dict(answer))} for answer in answers(template)]


def test_the_format_is_that_of_the_suffix_or_the_one_named() -> None:
    for name in ("json", "jsonl", "csv"):
        assert choose_format(f"s3://b/x.{name.upper()}", None) == choose_format("x.out", name) == name
    assert choose_format(None, None) is None


@pytest.mark.parametrize(
    ("output", "word", "said"),
    [
        ("answers", None, "what format answers should have"),
        ("a.b/answers", None, "what format a.b/answers"),
        ("a.xlsx", None, "a.xlsx"),
        (None, "jsn", "unknown format 'jsn'; did you mean 'json'?"),
    ],
)
def test_an_unknown_format_is_refused(output: str | None, word: str | None, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_format(output, word)
    assert said in caught.value.message
    assert "jsonl, csv, parquet" in caught.value.hint


def test_parquet_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        choose_format("a.parquet", None)
    assert caught.value.hint == 'pip install "lesion[scale]"'
