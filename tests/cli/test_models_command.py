import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lesion.artifact import Artifact
from lesion.cli.reference import find_target
from lesion.errors import NotFoundError
from lesion.run import FINISHED, Run, now
from tests.conftest import GOLDEN, Cli


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.new("RGB", (64, 48), (150, 90, 70)).save(path)
    return path


@pytest.fixture
def here(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder above `runs`, as the current one."""
    monkeypatch.chdir(tiny_run.parent)
    return tiny_run.parent


def add_run(runs: Path, name: str, **provenance: object) -> Run:
    """Another finished run, with another model."""
    tiny = Artifact.read(GOLDEN / "tiny.onnx")
    run = Run.create(runs, "tiny", name)
    run.model.write_bytes(Artifact.pack(tiny.graph, tiny.with_provenance(**provenance))[1])
    run.write_state(status=FINISHED, finished=now())
    return run


@pytest.mark.parametrize("command", ["list", "show", "register", "promote"])
def test_help_shows_an_example(command: str, cli: Cli) -> None:
    outcome = cli("models", command, "--help")
    assert f"Example: lesion models {command} " in " ".join(outcome.out.split())


def test_from_a_run_to_a_prediction_in_production(here: Path, image: Path, cli: Cli) -> None:
    registered = json.loads(cli("models", "register", "--name", "ham", "--json").out)
    assert (registered["name"], registered["version"], registered["aliases"]) == ("ham", 1, [])
    promoted = json.loads(cli("models", "promote", "ham", "1", "--json").out)
    assert (promoted["alias"], promoted["previous"], promoted["version"]) == ("production", None, 1)
    for run in here.glob("runs/*-tiny"):
        shutil.rmtree(run)
    answer = json.loads(cli("predict", image, "--model", "ham@production", "--json").out)
    assert answer["predictions"][0]["model"] == f"tiny@{registered['sha256'][:12]}"
    assert answer == json.loads(cli("predict", image, "--model", "ham@1", "--json").out)


def test_tables_say_what_is_where(here: Path, cli: Cli) -> None:
    said = cli("models", "register", "--name", "ham")
    assert said.out.startswith("ham@1: tiny, sha256 ")
    assert "lesion models promote ham 1" in said.err
    add_run(here / "runs", "better", run="better", split="none", validation={"auroc": 0.75})
    cli("models", "register", here / "runs" / "better", "--name", "ham")
    assert cli("models", "promote", "ham", "1", "--to", "staging").out == "ham@1 is in staging now\n"
    assert cli("models", "promote", "ham", "2", "--to", "staging").out == "ham@2 is in staging now, before it 1\n"
    assert "already" in cli("models", "promote", "ham", "2", "--to", "staging").out
    lines = cli("models", "list").out.splitlines()
    assert lines[0].split()[:3] == ["model", "alias", "kind"]
    assert lines[1].split()[:3] == ["ham@2", "staging", "tiny"]
    assert "0.750" in lines[1]
    shown = cli("models", "show", "ham@staging").out
    assert "ham@2, staging: " in shown
    assert "run: better" in shown
    assert "val none" in shown
    assert [line.split()[-3:] for line in shown.splitlines()[-2:]] == [["staging", "1", "2"], ["staging", "–", "1"]]
    document = json.loads(cli("models", "show", "ham@2", "--json").out)
    assert len(document["promotions"]) == 2
    assert Path(document["path"]).is_file()
    assert [each["version"] for each in json.loads(cli("models", "list", "--json").out)["models"]] == [2, 1]


def test_a_worse_model_needs_force(here: Path, cli: Cli) -> None:
    add_run(here / "runs", "worse", split="none", validation={"auroc": 0.25})
    first, second = sorted(here.glob("runs/*/model.onnx"))
    for run in (first, second):
        cli("models", "register", run, "--name", "ham")
    cli("models", "promote", "ham", "1")
    refused = cli("models", "promote", "ham", "2")
    assert refused.code == 1
    assert "ham@2 is worse than ham@1 in production" in refused.err
    assert "--force" in refused.err
    forced = cli("models", "promote", "ham", "2", "--force")
    assert forced.code == 0
    assert "forced: ham@2 is worse" in forced.err
    assert "is worse" in cli("models", "show", "ham@production").out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["models", "register", "--name", "../ham"], 2, "is no name of a model"),
        (["models", "register"], 2, "Missing option"),
        (["models", "register", "absent", "--name", "ham"], 66, "no such model file"),
        (["models", "promote", "ham", "1"], 66, "no model 'ham' is registered"),
        (["models", "show", "ham@1"], 66, "no model 'ham' is registered"),
        (["models", "list", "--runs", "elsewhere"], 66, "no store"),
        (["predict", "{image}", "--model", "ham@production"], 66, "no model 'ham' is registered"),
        (["predict", "{image}", "--model", "h m@1"], 2, "is no name of a model"),
        (["predict", "{image}", "--model", "../ham@production"], 66, "no such model file"),
        (["predict", "{image}", "--model", "ham@1", "--store", "ftp://x"], 2, "is no store"),
        (["serve", "--model", "ham@production"], 66, "no model 'ham' is registered"),
        (["eval", "--model", "ham@production"], 66, "no model 'ham' is registered"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_error(
    words: list[str], code: int, said: str, here: Path, image: Path, cli: Cli
) -> None:
    first = cli("models", "register", "--name", "other")
    assert first.code == 0
    outcome = cli(*(word.format(image=image) for word in words))
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    "words", [["predict", "{image}", "--model"], ["eval", "--model"], ["serve", "--model"], ["models", "show"]],
    ids=" ".join,
)  # fmt: skip
def test_a_text_too_long_for_a_path_is_no_model(words: list[str], here: Path, image: Path, cli: Cli) -> None:
    cli("models", "register", "--name", "ham")
    long = "a" * 300
    for word in (long, f"{long}@production", f"ham@{long}", f"{long}/model.onnx"):
        outcome = cli(*(each.format(image=image) for each in words), word)
        assert outcome.code in (2, 66)
        assert outcome.err.startswith("error: ")
        assert outcome.out == ""


@pytest.mark.parametrize("word", ["a\0b", "a\0b@production", "x/a\0b"])
def test_a_text_with_nul_is_no_model(word: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model: '") as caught:
        find_target(word, tmp_path)
    assert caught.value.hint


def test_an_existing_file_wins_over_a_reference(here: Path, tiny: Path, image: Path, cli: Cli) -> None:
    shutil.copy(tiny, here / "ham@production")
    outcome = cli("predict", image, "--model", "ham@production", "--json")
    assert outcome.code == 0
    assert not (here / "runs" / "runs.db").exists()


def test_a_changed_file_is_not_served(here: Path, image: Path, cli: Cli) -> None:
    cli("models", "register", "--name", "ham")
    (kept,) = here.glob("runs/models/*.onnx")
    kept.write_bytes((GOLDEN / "tiny2.onnx").read_bytes())
    outcome = cli("predict", image, "--model", "ham@1")
    assert outcome.code == 65
    assert "no longer the registered one" in outcome.err


def test_only_a_reference_loads_the_database(here: Path, tiny: Path, image: Path, cli: Cli) -> None:
    cli("models", "register", "--name", "ham")
    code = (
        "import sys\nfrom lesion.cli.app import main\n"
        "assert main(['predict', sys.argv[1], '--model', sys.argv[2]]) == 0\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'lightning', 'wandb', 'onnx', 'rich'}\n"
        "assert ('sqlalchemy' in loaded) == ('@' in sys.argv[2])\n"
    )
    for model in (str(tiny), "ham@1"):
        subprocess.run([sys.executable, "-c", code, str(image), model], check=True, capture_output=True)


@pytest.mark.slow
def test_an_evaluation_of_a_version_is_what_promotions_compare(
    ham_copy: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = json.loads(cli("data", "prepare", f"data.root={ham_copy}", "--json").out)
    run = add_run(tmp_path / "runs", "one", split=prepared["fingerprint"], validation={"auroc": 0.5})
    run.config.write_text(f"data:\n  root: {ham_copy.as_posix()}\n")
    cli("models", "register", run.path, "--name", "ham")
    report = json.loads(cli("eval", "--model", "ham@1", "--json").out)  # with the data of its run
    (version,) = json.loads(cli("models", "list", "--json").out)["models"]
    (test,) = [each for each in version["evaluations"] if each["split"] == "test"]
    assert test["figures"]["auroc"] == report["metrics"]["auroc"]["value"]
    assert test["fingerprint"] == prepared["fingerprint"]
    shutil.rmtree(run.path)
    assert cli("eval", "--model", "ham@1", f"data.root={ham_copy}", "--json").code == 0
