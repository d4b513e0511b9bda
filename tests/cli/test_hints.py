"""Hints of the command line: each names a command, and that command succeeds."""

import ast
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer.main

from lesion.cli.app import app
from lesion.config.reading import leaves
from lesion.config.schema import Config
from lesion.run import Run
from tests.conftest import REPO, Cli
from tests.engine.evaluation.conftest import write_model
from tests.inference.bulk.conftest import paint


@pytest.fixture
def here(tiny_run: Path, ham_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: runs/one with a model, the model `skin@1`, other.onnx, and an image."""
    (made,) = tiny_run.iterdir()
    run = Run(made.rename(tiny_run / "one"))
    write_model(run.model, ham_root)
    run.config.write_text(f"data:\n  root: {ham_root}\n")
    monkeypatch.chdir(tiny_run.parent)
    shutil.copy(run.model, "other.onnx")
    paint(Path("my image.png"))
    return Path.cwd()


def follow(cli: Cli, hint: str) -> int:
    """The exit code of the command in `hint`, with an image and a folder in place of the words for them."""
    command = hint[hint.index("lesion ") :].split(", or ")[0].replace("IMAGE", "'my image.png'")
    return cli(*shlex.split(command)[1:]).code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("predict other.onnx 'my image.png'", "other.onnx is a model, an image expected"),
        ("predict runs/one", "runs/one is a model, an image expected"),
        ("predict skin@1 'my image.png'", "skin@1 is a model, an image expected"),
        ("predict", "no image is named"),
        ("predict 'my image.png' --resume", "--resume goes with --output"),
        ("eval runs/one", "'runs/one' is not of the form key=value"),
        ("data stats {root}", "is not of the form key=value"),
        ("data prepare {root}", "is not of the form key=value"),
    ],
)
def test_a_word_in_the_wrong_place_leads_to_the_command_that_takes_it(
    words: str, said: str, here: Path, ham_copy: Path, cli: Cli
) -> None:
    assert cli("models", "register", "--name", "skin").code == 0
    outcome = cli(*shlex.split(words.format(root=ham_copy)))
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert follow(cli, outcome.err.partition("hint: ")[2]) == 0


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("eval nosuch.onnx", "lesion eval --model nosuch.onnx"),
        ("serve runs/one", "lesion serve --model runs/one"),
        ("serve skin", "for example: serve.port=8080"),
        ("train runs/one", "lesion train --resume runs/one"),
        ("train .", "lesion train data.root=."),
        ("eval --model runs/one eval.sensitivity=0.99", "lesion train eval.sensitivity=0.99"),
        ("eval eval.sensitivity=0.99 --compare other.onnx", "lesion train eval.sensitivity=0.99"),
        ("eval serve.port=0", "lesion serve serve.port=0"),
        ("eval runs=x", "lesion eval --runs FOLDER"),
        ("data stats trainer.epochs=3", "lesion train trainer.epochs=3"),
        ("serve optim.lr=0.1", "lesion train optim.lr=0.1"),
        ("export runs/one eval.sensitivity=0.99", "lesion train eval.sensitivity=0.99"),
        ("export eval.sensitivity=0.99", "lesion train eval.sensitivity=0.99"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_setting_without_effect_is_refused_rather_than_ignored(words: str, hint: str, cli: Cli) -> None:
    outcome = cli(*words.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.rstrip().endswith(hint)


@pytest.mark.usefixtures("here")
def test_a_name_without_version_leads_to_one(cli: Cli) -> None:
    assert cli("models", "register", "--name", "skin").code == 0
    for words in (["models", "show", "skin"], ["predict", "my image.png", "--model", "skin"]):
        outcome = cli(*words)
        assert outcome.code == 2
        assert "'skin' names no version\nhint: take the newest, skin@1\n" in outcome.err
        assert cli(*(word.replace("skin", "skin@1") for word in words)).code == 0
    outcome = cli("models", "show", "skin@production")
    assert (outcome.code, follow(cli, outcome.err.partition("hint: ")[2])) == (66, 0)
    assert cli("models", "show", "skin@production").code == 0
    assert "hint: take skin@production or the newest, skin@1" in cli("models", "show", "skin").err
    assert "hint: take skin@1" in cli("models", "show", "skin@7").err
    assert "no model 'nix' is registered" in cli("models", "show", "nix").err
    assert "no such model file: nix" in cli("predict", "my image.png", "--model", "nix").err


def test_a_tilde_that_no_shell_has_replaced_is_the_home_folder(
    here: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    outcome = cli("predict", "~/my image.png", "--model=~/other.onnx", "--output=~/a.csv")
    assert outcome.code == 0
    assert (here / "a.csv").is_file()
    assert not (here / "~").exists()
    assert cli("runs", "list", "--store", "sqlite:///~/none.db").err.startswith(
        f"error: no store of runs: {here}/none.db does not exist"
    )


def read_hints() -> dict[str, str]:
    """Place → the text of every `hint` in the source, with X for what is put in."""
    found = {}
    for path in sorted((REPO / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                texts = [
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in each.values)
                    if isinstance(each, ast.JoinedStr)
                    else str(each.value)
                    for each in ast.walk(node.value)
                    if isinstance(each, ast.JoinedStr)
                    or (isinstance(each, ast.Constant) and isinstance(each.value, str))
                ]
                found[f"{path.name}:{node.value.lineno}"] = " | ".join(texts)
    return found


def list_options(command: Any, name: str = "") -> dict[str, set[str]]:
    """ "data stats" and so on → the command's options."""
    children = getattr(command, "commands", {})
    found = {name: {option for each in command.params for option in each.opts} | {"--help"}}
    for word, child in children.items():
        found |= list_options(child, f"{name} {word}".strip())
    return found


def test_every_hint_names_commands_options_and_keys_that_exist() -> None:
    commands, keys = list_options(typer.main.get_command(app)), dict(leaves(Config()))
    sections = "|".join(sorted({key.partition(".")[0] for key in keys if "." in key}))
    hints = read_hints()
    assert len(hints) > 200
    for place, hint in hints.items():
        for words in re.findall(r"(?:^|`|[:|,] |or )lesion ([^`|;,]+)", hint):
            name = next(
                (name for name in sorted(commands, reverse=True) if name and f"{words} ".startswith(f"{name} ")), ""
            )
            assert name or words.startswith("X"), (place, words)
            assert set(re.findall(r"--[a-z-]+", words)) <= commands[name], (place, words)
        assert set(re.findall(r"--[a-z-]+", hint)) <= set().union(*commands.values()), (place, hint)
        for key in re.findall(rf"\b(?:{sections})\.[a-z_]+(?==)", hint):
            assert key in keys, (place, key)
