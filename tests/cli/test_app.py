"""What the command line writes: one line for each error, whatever a name holds, and an exit code when it cannot."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lesion.cli.app import main
from lesion.cli.render import print_table
from tests.conftest import PATIENCE_S, Cli
from tests.inference.bulk.conftest import paint

FULL = Path("/dev/full")
HOSTILE = "a\x1b]0;title\x07\nerror: b\u202e"
ESCAPED = r"a\x1b]0;title\x07\nerror: b\u202e"


def start(*words: object, closed: str = "", stdout: int | None = subprocess.PIPE) -> subprocess.Popen[str]:
    """A `lesion` of its own, with the standard streams that `closed` names as a shell closes them."""
    command = [sys.executable, "-m", "lesion", *map(str, words)]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    return subprocess.Popen(shell, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, err


@pytest.mark.skipif(sys.platform == "win32", reason="no file has such a name there")
def test_a_file_name_commands_no_terminal(tiny: Path, tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / f"{HOSTILE}.jpg").write_text("no image")
    paint(folder / f"{HOSTILE}.png")
    outcome = cli("predict", folder, "--model", tiny)
    assert outcome.code == 65
    for line in (outcome.out + outcome.err).splitlines():
        assert line.isprintable()
    assert f"{ESCAPED}.png  " in outcome.out
    assert f"no answer: {folder}/{ESCAPED}.jpg is not a JPEG or PNG image" in outcome.err
    alone = cli("predict", folder / f"{HOSTILE}.jpg", "--model", tiny)
    assert alone.err.splitlines()[0] == f"error: {folder}/{ESCAPED}.jpg is not a JPEG or PNG image"


def test_names_in_a_file_of_configuration_fake_no_line(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('"x\\nerror: y": 1\n"\\e[31m": 2\n')
    outcome = cli("train", "--print-config", "--config", path)
    assert outcome.code == 2
    assert outcome.err.splitlines()[:-1] == [
        f"error: {path}: unknown key 'x\\nerror: y'",
        f"{path}: unknown key '\\x1b[31m'",
    ]


def test_cells_of_tables_and_lines_of_the_log_are_escaped(capsys: pytest.CaptureFixture[str], cli: Cli) -> None:
    cli("--version")
    print_table([["name"], [HOSTILE]])
    assert ESCAPED in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["runs", "list", "--help"])
    capsys.readouterr()
    cli("runs", "list", "--runs", "/nonexistent")  # which sets the log up
    logging.getLogger("lesion").warning("no answer: %s", HOSTILE)
    assert capsys.readouterr().err.endswith(f"no answer: {ESCAPED}\n")


def test_a_table_in_a_pipe_is_neither_cut_nor_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    row = [f"{letter}{'皮x' * 100}" for letter in "abcd"]
    print_table([["run", "", "a", "b"], row, ["x", "y", "1", "2"]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == row


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--print-config"],
        ["predict", "{image}", "--model", "{tiny}"],
        ["predict", "{image}", "{image}", "--model", "{tiny}", "--format", "json"],
    ],
    ids=" ".join,
)
def test_a_full_disk_under_stdout_is_one_line_and_code_74(words: list[str], tiny: Path, tmp_path: Path) -> None:
    image = paint(tmp_path / "a.png")
    with FULL.open("w") as full:
        code, err = finish(start(*(word.format(image=image, tiny=tiny) for word in words), stdout=full.fileno()))
    assert code == 74
    assert "error: cannot write: No space left on device\nhint: free some space\n" in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="streams are closed by a shell")
def test_closed_streams_are_no_traceback(tiny: Path, tmp_path: Path) -> None:
    image, output = paint(tmp_path / "a.png"), tmp_path / "out.jsonl"
    code, err = finish(start("predict", "-", "--model", tiny, closed="<&-"))
    assert (code, err.splitlines()[0]) == (2, "error: stdin is closed, - cannot be read")
    words = ("predict", image, image, "--model", tiny)
    assert finish(start(*words, "--format", "jsonl", closed=">&-"))[0] == 0
    code, _ = finish(start(*words, "--output", output, closed="<&- >&- 2>&-"))
    assert code == 0
    assert len(output.read_bytes().splitlines()) == 2


def test_tta_and_plain_answers_are_not_mixed(tiny: Path, tmp_path: Path, cli: Cli) -> None:
    image, other, output = paint(tmp_path / "a.png"), paint(tmp_path / "b.png"), tmp_path / "out.csv"
    assert cli("predict", image, "--model", tiny, "--output", output).code == 0
    refused = cli("predict", image, other, "--model", tiny, "--output", output, "--resume", "--tta")
    assert refused.code == 2
    assert "+tta" in refused.err
    assert cli("predict", image, other, "--model", tiny, "--output", output, "--resume").code == 0
    answered = cli("predict", image, "--model", tiny, "--tta", "--json")
    assert json.loads(answered.out)["predictions"][0]["model"].endswith("+tta")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
@pytest.mark.parametrize("name", ["pipe.jpg", "pipe", "pipe.csv"])
def test_a_pipe_given_as_a_word_is_refused_at_once(name: str, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    os.mkfifo(tmp_path / name)
    outcome = cli("predict", tmp_path / name, "--model", tiny)
    assert outcome.code == 65
    assert f"error: cannot read {tmp_path / name}: it is a pipe, not a regular file\n" in outcome.err


@pytest.mark.skipif(sys.platform != "linux", reason="a file name is text there")
def test_a_name_that_is_no_text_is_one_in_the_answer(tiny: Path, tmp_path: Path, cli: Cli) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    paint(tmp_path / "a.png").rename(path)
    outcome = cli("predict", path, "--model", tiny, "--json")
    assert json.loads(outcome.out)["predictions"][0]["source"] == f"{tmp_path}/\\xff.png"


def test_no_folder_for_temporary_files_is_an_error_and_the_hint_names_one_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    folders = [str(tmp_path / "absent")]
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)  # what was found before
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [os.environ.get("TMPDIR", folders[0])])
    monkeypatch.setattr("lesion.cli.app.app", lambda *_, **__: sys.stdout.write(tempfile.mkdtemp()))
    outcome = cli("train")
    assert outcome.code == 74
    assert (
        outcome.err == "error: no folder for temporary files can be written\nhint: name one: TMPDIR=FOLDER lesion …\n"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert cli("train").out.startswith(str(tmp_path))
