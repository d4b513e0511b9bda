import json
from pathlib import Path

import pytest

from lesion.run import Run
from tests.conftest import Cli
from tests.engine.evaluation.conftest import write_model


@pytest.fixture
def model(ham_root: Path, tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", ham_root)


@pytest.fixture
def data(ham_root: Path) -> list[str]:
    return [f"data.root={ham_root}", "eval.stress_images=10"]


def test_the_summary_comes_first_and_is_short(model: Path, data: list[str], cli: Cli) -> None:
    outcome = cli("eval", "--model", model, *data)
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert "malignant from a probability of 0.400" in lines[0]
    shown = {line.partition("  ")[0] for line in lines[2:]}
    assert {"auroc", "sensitivity", "specificity", "calibration error", "calibration error before"} <= shown
    assert {"referred", "malignant covered, goal 0.90"} <= shown
    assert len(lines) < 30
    assert "--html FILE" in outcome.err
    assert "not a medical device" in outcome.err


def test_what_is_written_is_said(model: Path, data: list[str], cli: Cli, tmp_path: Path) -> None:
    page, card = tmp_path / "page.html", tmp_path / "card.md"
    outcome = cli("eval", "--model", model, *data, "--html", page, "--card", card)
    assert f"written to {page}" in outcome.err
    assert f"written to {card}" in outcome.err
    assert page.is_file()
    assert card.is_file()


def test_a_run_says_where_its_report_lies(tiny_run: Path, ham_root: Path, data: list[str], cli: Cli) -> None:
    (run,) = (Run(path) for path in tiny_run.iterdir() if path.is_dir())
    write_model(run.model, ham_root)
    run.config.write_text(f"data:\n  root: {ham_root}\n")
    outcome = cli("eval", "--runs", tiny_run, *data)
    assert f"written to {run.page('test')}" in outcome.err
    assert run.page("test").is_file()


def test_json_is_the_whole_evaluation(model: Path, data: list[str], cli: Cli) -> None:
    outcome = cli("eval", "--model", model, *data, "--json", "--min", "auroc=0")
    document = json.loads(outcome.out)
    assert document["schema"] == 1
    assert {"metrics", "subgroups", "roc", "referral", "worst", "undefined"} <= set(document)
    (verdict,) = document["gate"]
    assert verdict["passed"] is True
    assert "gate" not in json.loads(cli("eval", "--model", model, *data, "--json").out)


def test_a_gate_that_holds_exits_0(model: Path, data: list[str], cli: Cli) -> None:
    outcome = cli("eval", "--model", model, *data, "--min", "auroc=0.01", "--max", "ece=1")
    assert outcome.code == 0
    assert "passed: auroc >= 0.01: " in outcome.out
    assert "passed: calibration_error <= 1: " in outcome.out


def test_a_gate_that_does_not_hold_exits_1(model: Path, data: list[str], cli: Cli) -> None:
    outcome = cli("eval", "--model", model, *data, "--min", "lesion.auroc=1.1", "--min", "auroc=0")
    assert outcome.code == 1
    assert "FAILED: lesion.auroc >= 1.1: " in outcome.out
    assert "passed: auroc >= 0: " in outcome.out
    assert "1 of 2 bounds not kept: lesion.auroc" in outcome.err


def test_an_unknown_figure_is_refused_before_any_work(cli: Cli) -> None:
    outcome = cli("eval", "--model", "nowhere.onnx", "--min", "aurok=0.9")
    assert outcome.code == 2
    assert "did you mean 'auroc'" in outcome.err


def test_stress_shows_the_worst(model: Path, data: list[str], cli: Cli) -> None:
    out = cli("eval", "--model", model, *data, "--stress").out
    assert "the worst 3 of 16 changes of the picture:" in out


def test_eight_views_show_gain_and_cost(model: Path, data: list[str], cli: Cli) -> None:
    out = cli("eval", "--model", model, *data, "--tta").out
    assert "mean over eight views" in out.splitlines()[0]
    assert "eight views (A) less one (B), at " in out
    assert "DeLong" in out


def test_two_models_are_compared(model: Path, ham_root: Path, data: list[str], tmp_path: Path, cli: Cli) -> None:
    other = write_model(tmp_path / "other.onnx", ham_root, "tiny2.onnx")
    outcome = cli("eval", "--model", model, "--compare", other, *data)
    assert outcome.code == 0
    assert "lesion bootstrap" in outcome.out
    assert "images are called otherwise" in outcome.out
    assert "written to" not in outcome.err
    page = tmp_path / "pages" / "compared.html"
    outcome = cli("eval", "--model", model, "--compare", other, *data, "--html", page)
    assert f"written to {page}" in outcome.err
    assert "against" in page.read_text("utf-8")
    document = json.loads(cli("eval", "--model", model, "--compare", other, *data, "--json").out)
    assert {each["figure"] for each in document["differences"]} >= {"auroc", "lesion.auroc", "brier"}


@pytest.mark.parametrize("words", [["--stress"], ["--tta"], ["--min", "auroc=0"], ["--card", "a.md"]], ids=" ".join)
def test_a_comparison_takes_no_other_wishes(words: list[str], model: Path, data: list[str], cli: Cli) -> None:
    outcome = cli("eval", "--model", model, "--compare", model, *data, *words)
    assert outcome.code == 2
    assert f"--compare does not go with {words[0]}" in outcome.err


def test_a_split_of_one_class_says_what_is_not_known(ham_copy: Path, tmp_path: Path, cli: Cli) -> None:
    from tests.engine.evaluation.test_evaluate import rewrite

    rewrite(ham_copy, lambda row: {**row, "dx": "nv"})
    model = write_model(tmp_path / "model.onnx", ham_copy)
    outcome = cli("eval", "--model", model, f"data.root={ham_copy}", "--min", "auroc=0.5")
    assert outcome.code == 1
    assert "not known: auroc: no image is malignant" in outcome.out
    assert "FAILED: auroc >= 0.5: no image is malignant" in outcome.out
