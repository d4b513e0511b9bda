"""`lesion predict` on the command line: from anything that names images to any kind of answers."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lesion.artifact import Artifact
from lesion.inference import session
from lesion.inference.predictor import Predictor
from lesion.records import to_dict
from tests.conftest import GOLDEN, PATIENCE_S, Cli
from tests.inference.hostile import loop_for_ever

MODEL = GOLDEN / "tiny.onnx"
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs signals, limits and terminals")
ANSWER = "from lesion.cli.app import main; sys.exit(main(sys.argv[1:]))"


def paint(path: Path, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (number % 256, number // 256, 90)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images and one text that is called an image, in the current folder's `in`."""
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        paint(tmp_path / "in" / f"{number}.png", number * 50)
    (tmp_path / "in" / "bad.jpg").write_text("text")
    return tmp_path / "in"


@pytest.fixture
def predict(cli: Cli) -> Any:
    return lambda *words: cli("predict", "--model", MODEL, *words)


def expect(folder: Path, *names: str) -> list[dict[str, Any]]:
    predictor = Predictor.load(MODEL)
    return [to_dict(predictor.predict(f"in/{name}")) for name in names]


def plain(record: Any) -> Any:
    return json.loads(json.dumps(record))


def test_several_images_are_lines_and_a_bad_one_is_told(folder: Path, predict: Any) -> None:
    outcome = predict("in/0.png", "in/bad.jpg", "in/none.png", "in/1.png")
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["in/0.png", "in/1.png"]
    assert outcome.code == 65
    assert "no answer: in/bad.jpg is not a JPEG or PNG image" in outcome.err
    assert "no answer: no such image: in/none.png" in outcome.err
    assert "error: 2 of 4 images could not be read" in outcome.err
    assert "not a medical device" in outcome.err


def test_one_image_alone_keeps_its_own_error(folder: Path, predict: Any) -> None:
    assert predict("in/0.png").code == 0
    for word, code in (("in/bad.jpg", 65), ("in/none.png", 66)):
        for more in ([], ["--json"], ["--format", "json"]):
            outcome = predict(word, *more)
            assert (outcome.code, outcome.out) == (code, "")


@pytest.mark.parametrize("words", [["in/0.png"], ["in/0.png", "in/1.png"], ["in", "-o", "a.csv"]])
def test_a_model_that_hangs_on_some_images_ends_with_an_error(
    words: list[str], folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LIMIT_S", 2.0)
    monkeypatch.setattr(session, "IMAGE_S", 0.0)
    artifact = loop_for_ever(on_all=False)
    Path("hangs.onnx").write_bytes(Artifact.pack(artifact.graph, artifact.manifest)[1])
    outcome = cli("predict", "--model", "hangs.onnx", "--batch", 2, *words)
    assert outcome.code == 1
    assert "error: the model did not answer within 2 s\nhint: do not use it: it may never answer\n" in outcome.err
    assert outcome.out == ""


def test_what_a_person_should_look_at_is_marked(predict: Any, folder: Path) -> None:
    Image.new("RGB", (40, 30), "black").save("dark.png")
    assert "  refer: " in predict("dark.png").out
    assert "too_dark" in predict("dark.png").out
    assert "refer" not in predict("in/0.png").out


@pytest.mark.parametrize("words", [["in"], ["in/*"], ["-"], ["table.csv"], ["table.csv", "--column", "which"]])
def test_every_source_gives_the_same_answers(
    words: list[str], folder: Path, predict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*(f"in/{number}.png" for number in range(5)), "in/bad.jpg"]
    column = "which" if "--column" in words else "path"
    (folder.parent / "table.csv").write_text("\n".join([column, *names]))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(names).encode())))
    outcome = predict(*words, "--json", "--threads", 2, "--batch", 2)
    found = json.loads(outcome.out)["predictions"]
    assert outcome.code == 65
    assert sorted(found, key=lambda each: str(each["source"]))[:5] == plain(
        expect(folder, *(f"{n}.png" for n in range(5)))
    )
    assert [each["error"]["code"] for each in found if "error" in each] == ["NotAnImage"]


def test_the_bytes_of_an_image_come_through_stdin(folder: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / "3.png").read_bytes())))
    (found,) = json.loads(predict("-", "--json").out)["predictions"]
    assert found == plain(expect(folder, "3.png"))[0] | {"source": "stdin"}


def rows(path: Path) -> list[Any]:
    if path.suffix == ".json":
        return list(json.loads(path.read_text())["predictions"])
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text())))
    return list(pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist())


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "parquet"])
def test_answers_go_to_a_file_of_any_format(form: str, folder: Path, predict: Any) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    outcome = predict("in", "-o", f"out/a.{form}", "--json")
    report = json.loads(outcome.out)
    assert outcome.code == 65
    assert "their answers have an `error`" in outcome.err
    assert (report["schema"], report["output"], report["images"], report["unreadable"], report["earlier"]) == (
        1, f"out/a.{form}", 6, 1, 0,
    )  # fmt: skip
    found = rows(folder.parent / "out" / f"a.{form}")
    assert [each["source"] for each in found] == [
        "in/0.png",
        "in/1.png",
        "in/2.png",
        "in/3.png",
        "in/4.png",
        "in/bad.jpg",
    ]
    expected = expect(folder, "2.png")[0]["confidence"]
    assert float(found[2]["confidence"]) == expected
    wrong = found[5].get("error") or {"code": found[5].get("error.code")}
    assert wrong["code"] == "NotAnImage"
    assert [path.name for path in (folder.parent / "out").iterdir()] == [f"a.{form}"]


def test_lines_can_be_printed_in_any_format(folder: Path, predict: Any) -> None:
    assert len(list(csv.DictReader(io.StringIO(predict("in", "--format", "csv").out)))) == 6
    assert [json.loads(line)["source"] for line in predict("in/1.png", "--format", "jsonl").out.splitlines()] == [
        "in/1.png"
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_finished_output_is_added_to_only_when_asked(form: str, folder: Path, predict: Any) -> None:
    words = ("in", "-o", f"a.{form}")
    predict(*words)
    before = (folder.parent / f"a.{form}").read_bytes()
    refused = predict(*words)
    assert (refused.code, (folder.parent / f"a.{form}").read_bytes()) == (2, before)
    assert "--resume goes on with it" in refused.err
    paint(folder / "new.png")
    added = predict(*words, "--resume")
    assert added.code == 65  # of the whole output
    assert f"a.{form}: 1 images" in added.out
    assert "6 were there" in added.out
    assert (folder.parent / f"a.{form}").read_bytes().startswith(before)
    assert len(rows(folder.parent / f"a.{form}")) == 7


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Missing argument"),
        (["--watch", "in", "in"], 2, "--watch names the folder"),
        (["--watch", "in", "--json"], 2, "answers as jsonl or csv expected"),
        (["--watch", "in", "-o", "a.parquet"], 2, "answers as jsonl or csv expected"),
        (["--watch", "in", "--cluster", "local"], 2, "--watch goes without --cluster"),
        (["--watch", "none"], 66, "no such folder: none"),
        (["in", "--resume"], 2, "--resume goes with --output"),
        (["in", "--format", "parquet"], 2, "parquet goes with --output"),
        (["in", "--format", "csv", "--json"], 2, "--json prints json, not csv"),
        (["in", "--format", "xml"], 2, "unknown format 'xml'"),
        (["in", "-o", "answers"], 2, "what format answers should have"),
        (["in", "--column", "path"], 2, "--column goes with a table"),
        (["in/0.png", "--column", "path"], 2, "--column goes with a table"),
        (["-", "-"], 2, "stdin can be read once"),
        (["empty"], 66, "no image in empty"),
        (["in/*.tif"], 66, "no image in in/*.tif"),
        (["none.csv"], 66, "no such table: none.csv"),
        (["in", "-o", "in/0.png/a.csv"], 74, "cannot write"),
        (["in", "--batch", "0"], 2, "batch"),
        (["in", "--threads", "-1"], 2, "threads"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_is_one_clear_error_before_any_work(
    words: list[str], code: int, said: str, folder: Path, predict: Any
) -> None:
    if "a.parquet" in words or "parquet" in words:
        pytest.importorskip("pyarrow")
    (folder.parent / "empty").mkdir()
    outcome = predict(*words)
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.out == ""
    assert sorted(path.name for path in folder.parent.iterdir()) == ["empty", "in"]


def test_without_ray_it_says_what_to_install(folder: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.extras.find_spec", lambda name: None if name == "ray" else object())
    outcome = predict("in", "-o", "a.csv", "--cluster", "local")
    assert outcome.code == 3
    assert 'pip install "lesion[scale]"' in outcome.err
    assert not (folder.parent / "a.csv").exists()


# --- in a process of its own ------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(600):
        paint(tmp_path / "many" / f"{number:03}.png", number)
    return tmp_path / "many"


def start(*words: object, before: str = "", **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", f"import sys; {before}{ANSWER}", "predict", "--model", str(MODEL)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*command, *map(str, words)], text=True, **pipes)


def count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(path: Path, lines: int, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + PATIENCE_S
    while count(path) < lines and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_after_kills_every_image_is_answered_exactly_once(form: str, many: Path) -> None:
    path = many.parent / f"a.{form}"
    growing = path if form != "json" else path.with_name("a.json.partial")
    words = (many, "-o", path, "--resume", "--batch", 4)
    for lines in (20, 150, 300):
        process = start(*words)
        wait_for(growing, lines, process)
        process.kill()
        process.communicate()
    assert 0 < count(growing) < 600
    process = start(*words)
    said, talk = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, talk
    assert f"{path}: " in said
    found = [each["source"] for each in rows(path)]
    assert found == [str(many / f"{number:03}.png") for number in range(600)]


@posix
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_says_how_to_go_on(number: signal.Signals, code: int, many: Path) -> None:
    path = many.parent / "a.jsonl"
    process = start(many, "-o", path, "--batch", 2)
    wait_for(path, 10, process)
    process.send_signal(number)
    said, talk = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, talk
    assert f"error: stopped after {count(path)} images" in talk
    assert "--resume" in talk
    assert said == ""
    assert "Traceback" not in talk


@posix
@pytest.mark.slow
def test_a_full_disk_is_told_and_can_be_resumed(many: Path) -> None:
    path = many.parent / "a.csv"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    process = start(many, "-o", path, before=limit)
    _, talk = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 74, talk
    assert "error: cannot write" in talk
    assert "Traceback" not in talk
    assert 1 < count(path) < 600
    process = start(many, "-o", path, "--resume")
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert len({each["source"] for each in rows(path)}) == len(rows(path)) == 600


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Any]:
    processes = []

    def begin(*words: object) -> "subprocess.Popen[str]":
        (tmp_path / "drop").mkdir(exist_ok=True)
        processes.append(start("--watch", tmp_path / "drop", *words))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@posix
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watched_folder_is_answered_until_it_is_stopped(
    number: signal.Signals, tmp_path: Path, watching: Any
) -> None:
    path = tmp_path / "a.jsonl"
    for round_ in (1, 2):  # what was answered before the stop is not answered again
        process = watching("-o", path, "--resume")
        paint(tmp_path / "drop" / f"{round_}.png")
        wait_for(path, round_, process)
        process.send_signal(number)
        _, talk = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, talk
    assert [each["source"] for each in rows(path)] == [str(tmp_path / "drop" / f"{n}.png") for n in (1, 2)]


@posix
@pytest.mark.slow
def test_a_watched_folder_is_answered_on_the_terminal_at_once(tmp_path: Path, watching: Any) -> None:
    process = watching()
    paint(tmp_path / "drop" / "a.png")
    assert process.stdout.readline().startswith(str(tmp_path / "drop" / "a.png"))
    (tmp_path / "drop" / "b.jpg").write_bytes(b"text\xff\xd9")
    assert "b.jpg is not a JPEG or PNG" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 65
    assert "1 of 2 images could not be read" in talk


@posix
@pytest.mark.slow
def test_a_reader_that_leaves_early_ends_it_quietly(many: Path) -> None:
    process = start(many, "--format", "jsonl")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["source"].endswith("000.png")
    process.stdout.close()
    assert process.wait(PATIENCE_S) != 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.slow
def test_a_list_that_comes_slowly_is_answered_as_it_comes(many: Path) -> None:
    process = start("-", "--format", "jsonl", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in (3, 5):
        process.stdin.write(f"{many}/{number:03}.png\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["source"] == f"{many}/{number:03}.png"
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


@posix
@pytest.mark.slow
def test_a_bar_shows_how_far_it_is(many: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = start(many, "-o", many.parent / "a.csv", stderr=theirs)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(4096):
                shown += part
        except OSError:  # Linux: nobody is left on the other side
            pass
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert b"/600" in shown
    assert "a.csv: 600 images" in said
