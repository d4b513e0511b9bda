import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from lesion.records import Estimate
from lesion.tracking.database import store_url
from lesion.tracking.store import Store
from lesion.tracking.tables import runs as table
from tests.conftest import GOLDEN, Cli

COMMANDS = ("list", "show", "compare", "best")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `runs` with three runs, in the folder above which the commands run."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    with Store.open(store_url(None, folder)) as store:
        for name, tier, lr in (("20261121-1-baseline", "baseline", 0.1), ("20261122-2-resnet", "resnet", 0.2)):
            (folder / name).mkdir()
            shutil.copy(GOLDEN / "tiny.onnx", folder / name / "model.onnx")
            run = store.start(
                folder / name, tier, {"optim": {"lr": lr}, "seed": 0}, {"split": "0a1b", "commit": "c0ffee"}
            )
            for epoch in range(3):
                rows = [("train_loss_step", 10 * epoch + i, epoch, 1 / (1 + i)) for i in range(10)]
                store.log(run, [*rows, ("val_loss", 10 * epoch + 9, epoch, 0.5 - lr)])
            store.add_artifact(run, "model.onnx", "model", "ab" * 32, 700)
            store.finish(run, "finished", {"val_auroc": 0.7 + lr})
        store.add_figures(run, {"test_auroc": Estimate(0.875, 0.8, 0.95)})
        gone = store.start(folder / "20261123-3-efficientnet", "efficientnet", {}, {"split": "ffff"})
        with store.transaction() as connection:
            connection.execute(table.update().where(table.c.id == gone).values(pid=2**22 + 1))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, cli: Cli) -> None:
    outcome = cli("runs", command, "--help")
    assert outcome.code == 0
    assert f"Example: lesion runs {command} " in " ".join(outcome.out.split())


def test_list_shows_the_newest_first(runs: Path, cli: Cli) -> None:
    outcome = cli("runs", "list")
    lines = [line.split() for line in outcome.out.splitlines()[1:]]
    assert [line[0] for line in lines] == ["20261123-3-efficientnet", "20261122-2-resnet", "20261121-1-baseline"]
    assert lines[0][1:3] == ["efficientnet", "died"]
    assert lines[1][5:9] == ["3", "0.900", "0.300", "0.875"]
    assert "lesion runs best" in outcome.err


def test_list_is_filtered_and_limited(runs: Path, cli: Cli) -> None:
    def names(*words: str) -> list[str]:
        return [run["name"] for run in json.loads(cli("runs", "list", "--json", *words).out)["runs"]]

    assert len(names()) == 3
    assert names("--limit", "1") == ["20261123-3-efficientnet"]
    assert names("--tier", "resnet") == ["20261122-2-resnet"]
    assert names("--status", "died") == ["20261123-3-efficientnet"]
    assert names("--status", "failed") == []
    assert cli("runs", "list", "--status", "failed").out == "no such runs\n"


def test_show_tells_everything(runs: Path, cli: Cli) -> None:
    outcome = cli("runs", "show", "runs/20261122-2-resnet")
    for word in ("20261122-2-resnet: resnet, finished, 3 epochs, the best is epoch 1", "commit: c0ffee", "optim.lr",
                 "0.800 to 0.950", "█", "train_loss_step", "model.onnx", "abababababab"):  # fmt: skip
        assert word in outcome.out, word
    document = json.loads(cli("runs", "show", "20261122", "--json").out)
    assert document["schema"] == 1
    assert document["entry"]["figures"] == {"test_auroc": 0.875, "val_auroc": pytest.approx(0.9), "val_loss": 0.3}
    assert document["curves"]["train_loss_step"]["steps"] == list(range(30))
    assert cli("runs", "show").out.startswith("20261123-3-efficientnet")


def test_compare_shows_what_differs(runs: Path, cli: Cli) -> None:
    outcome = cli("runs", "compare", "20261121", "20261122")
    assert "* 0.900" in outcome.out
    assert "optim.lr" in outcome.out
    assert "seed" not in outcome.out
    assert "seed" in cli("runs", "compare", "20261121", "20261122", "--all-parameters").out
    document = json.loads(cli("runs", "compare", "20261121", "20261122", "--json").out)
    assert document["different"] == {"optim.lr": ["0.1", "0.2"]}
    assert [run["figures"]["val_auroc"] for run in document["runs"]] == pytest.approx([0.8, 0.9])


def test_compare_warns_of_different_splits_and_counts_a_run_once(runs: Path, cli: Cli) -> None:
    assert "2 different splits" in cli("runs", "compare", "20261121", "20261123").err
    assert len(json.loads(cli("runs", "compare", "20261121", "1", "--json").out)["runs"]) == 1


def test_compare_writes_a_page(runs: Path, cli: Cli) -> None:
    outcome = cli("runs", "compare", "20261121", "20261122", "--html", "pages/runs.html")
    page = Path("pages/runs.html").read_text("utf-8")
    assert outcome.code == 0
    assert "Validation loss: A from 0.400 to 0.400, B from 0.300 to 0.300" in page
    assert "<script" not in page
    assert "written to pages/runs.html" in outcome.err.replace(os.sep, "/")


def test_best_names_the_run_and_what_to_do_with_it(runs: Path, cli: Cli) -> None:
    outcome = cli("runs", "best")
    assert outcome.out.startswith("20261122-2-resnet: val_auroc 0.900, the highest of 2 finished runs")
    assert f"lesion predict IMAGE --model {Path('runs') / '20261122-2-resnet'}" in outcome.err
    assert cli("runs", "best", "--metric", "val_loss").out.startswith("20261122-2-resnet: val_loss 0.300, the lowest")
    assert "choose by a validation figure" in cli("runs", "best", "--metric", "test_auroc").err
    document = json.loads(cli("runs", "best", "--json").out)
    assert (document["metric"], document["of"], document["best"]["name"]) == ("val_auroc", 2, "20261122-2-resnet")
    (runs / "20261122-2-resnet" / "model.onnx").unlink()
    assert "holds no model.onnx" in cli("runs", "best").err


@pytest.mark.parametrize(
    "words", [("--runs", "{runs}"), ("--store", "{runs}/runs.db"), ("--config", "{runs}/team.yaml")]
)
def test_the_store_is_found_from_anywhere(
    words: tuple[str, str], runs: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs / "team.yaml").write_text(f"tracking:\n  store: {(runs / 'runs.db').as_posix()}\n", "utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    flag, value = words
    assert len(json.loads(cli("runs", "list", "--json", flag, value.format(runs=runs)).out)["runs"]) == 3


def test_a_folder_of_runs_that_moved_is_found_where_it_is(runs: Path, cli: Cli) -> None:
    runs.rename(runs.with_name("moved runs"))
    outcome = cli("runs", "best", "--runs", "moved runs")
    assert f'lesion serve --model "{Path("moved runs") / "20261122-2-resnet"}"' in outcome.err


@pytest.mark.parametrize(
    ("words", "code", "said", "hint"),
    [
        (["list", "--runs", "nowhere"], 66, "does not exist", "lesion train"),
        (["list", "--status", "finshed"], 2, "did you mean 'finished'", "running, finished"),
        (["list", "--tier", "resnt"], 2, "did you mean 'resnet'", "baseline"),
        (["list", "--limit", "0"], 2, "0", ""),
        (["list", "--store", "mysql://me:hunter2@host/x"], 2, "tracking.store", "postgresql://"),
        (["show", "20261122-2-resnt"], 66, "did you mean '20261122-2-resnet'", "lesion runs list"),
        (["show", "2026"], 2, "'2026' means 3 runs", "more of the name"),
        (["compare"], 2, "Missing argument", ""),
        (["compare", "latest", "--html", "runs/runs.db/x.html"], 74, "cannot write into the folder", "name a folder"),
        (["best", "--metric", "val_aurc"], 66, "did you mean 'val_auroc'", "val_loss"),
        (["list", "--store", "text.db"], 65, "is damaged", "move the file away"),
        (["show", "--store", "other.db"], 65, "tables of another program", "tracking.store"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_error(words: list[str], code: int, said: str, hint: str, runs: Path, cli: Cli) -> None:
    Path("text.db").write_text("no database at all\n" * 500)
    connection = sqlite3.connect("other.db")
    connection.execute("CREATE TABLE others (id)")
    connection.close()
    outcome = cli("runs", *words)
    assert outcome.code == code
    assert said in outcome.err
    assert hint in outcome.err
    assert outcome.out == ""
    assert "hunter2" not in outcome.err
    assert "Traceback" not in outcome.err
