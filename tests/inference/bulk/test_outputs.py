"""Answers on disk: nothing twice, nothing lost, nobody else's file touched."""

import io
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lesion.errors import ConfigError, DataError, LesionError, OutputError
from lesion.inference.bulk.items import Answer, Problem, Unreadable
from lesion.inference.bulk.ledger import Ledger
from lesion.inference.bulk.outputs import FileOutput, StreamOutput
from lesion.records import Prediction, to_dict, to_json

FORMS = ("jsonl", "csv", "json")


def make(template: Prediction, *names: str) -> list[Answer]:
    wrong = Problem("NotFoundError", "no such\nimage")
    return [Unreadable(name, wrong) if "bad" in name else replace(template, source=name) for name in names]


def write(path: Path, template: Prediction, *names: str, resume: bool = False, finish: bool = True) -> FileOutput:
    output = FileOutput(str(path), path.suffix[1:], template, resume)
    for answer in make(template, *names):
        output.write(answer)
    if finish:
        output.finish()
    output.close()
    return output


def test_a_ledger_counts() -> None:
    ledger = Ledger()
    ledger.note("a")
    ledger.note("a")
    assert [ledger.holds("a"), ledger.holds("b"), ledger.strike("b")] == [True, False, False]
    assert [ledger.strike("a"), ledger.strike("a"), ledger.strike("a"), ledger.holds("a")] == [True, True, False, False]
    ledger.close()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_cut_off_anywhere_is_resumed_to_the_same_bytes(form: str, template: Prediction, tmp_path: Path) -> None:
    names = ["a", "bad", "=b\nc", "a", "dé"]
    write(tmp_path / f"whole.{form}", template, *names)
    path = tmp_path / f"cut.{form}"
    output = write(path, template, *names, finish=False)
    content = output.path.read_bytes()
    ends = [0, *(at + 1 for at, byte in enumerate(content) if byte == 10)]
    for cut in {0, 1, 5, *ends, *(end - 1 for end in ends[1:]), *range(len(content) - 30, len(content))}:
        path.unlink(missing_ok=True)
        output.path.write_bytes(content[:cut])
        output = FileOutput(str(path), form, template, resume=True)
        for answer in make(template, *names):
            if not (output.earlier.ledger.strike(answer.source) or output.earlier.failed.strike(answer.source)):
                output.write(answer)
        assert output.earlier.answers <= content[:cut].count(b"\n")
        output.finish()
        output.close()
        assert path.read_bytes() == (tmp_path / f"whole.{form}").read_bytes(), cut


@pytest.mark.parametrize("form", FORMS)
def test_answers_that_were_there_are_counted(form: str, template: Prediction, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    write(path, template, "a", "bad1", "bad2", finish=False)
    output = FileOutput(str(path), form, template, resume=True)
    assert (output.earlier.answers, output.earlier.unreadable) == (3, 2)
    output.close()


def test_each_answer_is_on_disk_when_it_is_written(template: Prediction, tmp_path: Path) -> None:
    output = FileOutput(str(tmp_path / "a.jsonl"), "jsonl", template)
    for count, answer in enumerate(make(template, "a", "b", "c"), 1):
        output.write(answer)
        assert len((tmp_path / "a.jsonl").read_text().splitlines()) == count
    output.close()


def test_a_document_appears_whole_and_at_the_end(template: Prediction, tmp_path: Path) -> None:
    write(tmp_path / "a.json", template, "a", finish=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json.partial"]
    write(tmp_path / "a.json", template, "b", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    document = json.loads((tmp_path / "a.json").read_text())
    assert [each["source"] for each in document["predictions"]] == ["a", "b"]


@pytest.mark.parametrize("form", FORMS)
def test_an_existing_file_is_never_written_over(form: str, template: Prediction, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    write(path, template, "a")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists") as caught:
        write(path, template, "b")
    assert "--resume goes on with it" in caught.value.hint
    if form == "json":
        with pytest.raises(ConfigError, match=r"a\.json is finished"):
            write(path, template, "b", resume=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_one_is_not_written_over_either(template: Prediction, tmp_path: Path) -> None:
    write(tmp_path / "a.json", template, "a", finish=False)
    with pytest.raises(ConfigError, match=r"a\.json\.partial exists"):
        write(tmp_path / "a.json", template, "b")


@pytest.mark.parametrize("form", FORMS)
def test_an_output_without_answers_leaves_no_file(form: str, template: Prediction, tmp_path: Path) -> None:
    write(tmp_path / f"a.{form}", template, finish=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "my notes",
        "my notes\n",
        "source,prediction\na,b\n",
        '{"source": 1}\nmy notes\n{"source": 2}\n',
        '{"a": 1}\n',
        '{"source": "notes of mine"}\n',
        '{"source": "notes of mine, not finished yet',
        "[1]\n",
        "\0" * 100,
        '"',
    ],
)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_that_is_not_ours_stays_as_it_is(form: str, content: str, template: Prediction, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    path.write_text(content)
    with pytest.raises(DataError, match="holds something else than answers"):
        write(path, template, "b", resume=True)
    assert path.read_text() == content


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_damaged_line_in_the_middle_is_not_dropped(form: str, template: Prediction, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    write(path, template, "first", "second", "third")
    damaged = path.read_bytes().replace(b"second", b'second",' if form == "jsonl" else b"second,")
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="holds something else than answers, after"):
        write(path, template, "b", resume=True)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("form", FORMS)
def test_the_last_record_of_an_image_counts(form: str, template: Prediction, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    write(path, template, "a", "bad", "bad 2", finish=False)
    output = FileOutput(str(path), form, template, resume=True)
    assert (output.earlier.answers, output.earlier.unreadable) == (3, 2)
    assert [output.earlier.ledger.holds(name) for name in ("a", "bad", "bad 2")] == [True, False, False]
    output.write(replace(template, source="bad"))
    output.earlier.superseded.note("bad")
    if form != "json":
        output.close()
        output = FileOutput(str(path), form, template, resume=True)
        assert (output.earlier.answers, output.earlier.unreadable) == (3, 1)
        assert [output.earlier.ledger.holds(name) for name in ("a", "bad", "bad 2")] == [True, True, False]
    output.finish()
    output.close()
    if form == "json":
        found = json.loads(path.read_text())["predictions"]
        assert [(each["source"], "error" in each) for each in found] == [("a", False), ("bad 2", True), ("bad", False)]


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_a_file_beside_the_output_stays(form: str, template: Prediction, tmp_path: Path) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    kept = [tmp_path / f"a.{form}.new", tmp_path / f".a.{form}.new"]
    for path in kept:
        path.write_text("precious")
    write(tmp_path / f"a.{form}", template, "a")
    assert [path.read_text() for path in kept] == ["precious"] * 2
    assert len(list(tmp_path.iterdir())) == 3


def test_a_full_disk_under_the_temporary_files_is_an_error_of_the_output() -> None:
    ledger = Ledger()
    ledger._db.execute("PRAGMA max_page_count = 10")

    def fill() -> None:
        for number in range(100_000):
            ledger.note(f"a long name of an image {number}")

    with pytest.raises(OutputError, match="database or disk is full") as caught:
        fill()
    assert caught.value.exit_code == 74


def test_no_more_is_dropped_than_a_line_can_have(template: Prediction, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, template, "first", "second", *map(str, range(400)))
    opened = path.read_bytes().replace(b"second", b'"second')  # so that all the rest is one unfinished cell
    path.write_bytes(opened)
    with pytest.raises(DataError, match="holds something else than answers, after"):
        write(path, template, "b", resume=True)
    assert path.read_bytes() == opened


def test_another_model_does_not_go_on(template: Prediction, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", template, "bad", "a")
    with pytest.raises(ConfigError, match=r"was answered by tiny@\w+, not by other@0"):
        write(tmp_path / "a.csv", replace(template, model="other@0"), "b", resume=True)


def test_two_processes_do_not_go_on_at_once(template: Prediction, tmp_path: Path) -> None:
    first = FileOutput(str(tmp_path / "a.csv"), "csv", template)
    first.write(template)
    with pytest.raises(OutputError, match="another process writes"):
        FileOutput(str(tmp_path / "a.csv"), "csv", template, resume=True)
    first.close()
    FileOutput(str(tmp_path / "a.csv"), "csv", template, resume=True).close()


def test_a_place_that_cannot_be_written_is_told_before_the_work(template: Prediction, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for name, resume in (("file/a.csv", False), ("folder.csv", True), ("n" * 300 + ".csv", False)):
        with pytest.raises(LesionError) as caught:
            FileOutput(str(tmp_path / name), "csv", template, resume)
        assert caught.value.exit_code == 74
    output = FileOutput(str(tmp_path / "new" / "folder" / "a.csv"), "csv", template)
    output.close()


FULL = """
import pickle, resource, sys
from lesion.errors import OutputError
from lesion.inference.bulk.outputs import FileOutput
path, form, template, limit = pickle.loads(sys.stdin.buffer.read())
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
output = FileOutput(path, form, template)
count = 0
try:
    while True:
        output.write(template)
        count += 1
        if form == "json" and count == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit // 2, limit))
            output.finish()
except OutputError as error:
    print(count, error.exit_code, error.hint)
output.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_keeps_what_was_written(form: str, template: Prediction, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    given = pickle.dumps((str(path), form, template, 3_500))
    done = subprocess.run([sys.executable, "-c", FULL], input=given, capture_output=True, check=True)
    count, code, hint = done.stdout.decode().split(maxsplit=2)
    assert (int(count) >= 3, code) == (True, "74"), done.stderr
    assert "--resume" in hint
    left = path if form != "json" else path.with_name("a.json.partial")
    assert list(tmp_path.iterdir()) == [left]
    assert left.read_bytes().endswith(b"\n")
    output = FileOutput(str(path), form, template, resume=True)
    assert output.earlier.answers == int(count)
    output.write(template)
    output.finish()
    output.close()
    assert path.read_bytes().count(b"template") == int(count) + 1


@pytest.mark.parametrize("count", [1, 3])
def test_the_document_on_a_stream_looks_like_any_other(count: int, template: Prediction) -> None:
    stream, given = io.StringIO(), make(template, "a", "bad", "c")[:count]
    output = StreamOutput(stream, "json", template)
    for answer in given:
        output.write(answer)
    output.finish()
    output.close()
    assert stream.getvalue() == to_json({"predictions": list(map(to_dict, given))}) + "\n"


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_lines_on_a_stream_are_those_of_a_file(form: str, template: Prediction, tmp_path: Path) -> None:
    stream = io.StringIO(newline="")
    output = StreamOutput(stream, form, template)
    for answer in make(template, "a", "bad", "c"):
        output.write(answer)
    output.finish()
    write(tmp_path / f"a.{form}", template, "a", "bad", "c")
    assert stream.getvalue().encode() == (tmp_path / f"a.{form}").read_bytes()
