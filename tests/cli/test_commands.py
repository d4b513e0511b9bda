import json
from pathlib import Path

import pytest
from PIL import Image

from lesion.config.load import load_config
from tests.conftest import Cli

COMMANDS = [
    "data download",
    "data synth",
    "data prepare",
    "data import",
    "data stats",
    "data audit",
    "train",
    "eval",
    "export",
    "predict",
    "serve",
]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.new("RGB", (64, 48), (150, 90, 70)).save(path)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, cli: Cli) -> None:
    outcome = cli(*command.split(), "--help")
    assert outcome.code == 0
    assert f"Example: lesion {command} " in " ".join(outcome.out.split())


def test_help_says_what_lesion_is_not(cli: Cli) -> None:
    assert "not a medical device" in " ".join(cli("--help").out.split())


def test_the_version_is_printed(cli: Cli) -> None:
    import lesion

    assert cli("--version").out == f"lesion {lesion.__version__}\n"


def test_predict_takes_the_newest_finished_run_and_says_which(
    tiny_run: Path, image: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_run.parent)
    outcome = cli("predict", image)
    (run,) = tiny_run.iterdir()
    assert outcome.code == 0
    assert f"newest finished run: runs/{run.name}" in outcome.err
    assert outcome.out.startswith(str(image))
    assert "not a medical device" in outcome.err


def test_predict_prints_the_documented_record(tiny: Path, image: Path, cli: Cli) -> None:
    outcome = cli("predict", image, image, "--model", tiny, "--json")
    document = json.loads(outcome.out)
    assert document["schema"] == 1
    first, second = document["predictions"]
    assert first == second
    assert list(first) == [
        "source", "prediction", "confidence", "decision", "flags", "class_probabilities", "diagnosis_probabilities",
        "model",
    ]  # fmt: skip
    assert first["source"] == str(image)
    assert first["prediction"] in ("benign", "malignant")
    assert first["confidence"] == first["class_probabilities"][first["prediction"]]
    assert sum(first["class_probabilities"].values()) == pytest.approx(1)
    assert sum(first["diagnosis_probabilities"].values()) == pytest.approx(1)


def test_quiet_leaves_only_the_result(tiny: Path, image: Path, cli: Cli) -> None:
    assert cli("--quiet", "predict", image, "--model", tiny).err == ""


@pytest.mark.parametrize(
    ("words", "code", "said", "hint"),
    [
        (["predict", "nowhere.jpg", "--model", "{tiny}"], 66, "no such image: nowhere.jpg", ""),
        (["predict", "{text}", "--model", "{tiny}"], 65, "is not a JPEG or PNG", "convert it"),
        (["predict", "{image}", "--model", "nowhere.onnx"], 66, "no such model file", "lesion train"),
        (["predict", "{image}", "--model", "{text}"], 65, "not a lesion model", ""),
        (["predict", "{image}", "--runs", "empty"], 66, "no finished run", "lesion train"),
        (["eval", "--runs", "empty"], 66, "no finished run", "lesion train"),
        (["eval", "--model", "{tiny}", "--split", "tset"], 2, "did you mean 'test'", "train, val, test"),
        (["export", "{folder}"], 66, "not a run folder", ""),
        (["serve", "--model", "{tiny}", "--port", "99999"], 2, "serve.port: at most 65535 expected", ""),
        (["train", "--tier", "resnt"], 2, "did you mean 'resnet'", "one of: baseline"),
        (["train", "--subsample", "0"], 2, "data.subsample: more than 0 expected, got 0.0", ""),
        (["train", "--subsample", "2"], 2, "data.subsample: at most 1 expected, got 2.0", ""),
        (["train", "--env", "prod"], 2, "unknown env 'prod'; did you mean 'production'", ""),
        (["train", "data.root=nowhere"], 66, "no data folder nowhere", "lesion data synth"),
        (["train", "epochs"], 2, "'epochs' is not of the form key=value", "trainer.epochs=5"),
        (["train", "trainer.epoch=3", "optim.lrr=1"], 2, "did you mean 'optim.lr'", "docs/config.md"),
        (["data", "prepare", "data.root={folder}"], 66, "has no HAM10000_metadata.csv", ""),
        (["data", "synth", "{text}/x", "--lesions", "21"], 74, "cannot write into the folder", "name a folder"),
        (["train", "--subsample", "abc"], 2, "abc", ""),
        (["predict"], 2, "Missing argument", ""),
        (["predcit"], 2, "No such command 'predcit'", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_error(
    words: list[str], code: int, said: str, hint: str, tiny: Path, image: Path, cli: Cli, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jpg").write_text("no image at all")
    (tmp_path / "folder").mkdir()
    places = {"tiny": tiny, "image": image, "text": tmp_path / "text.jpg", "folder": tmp_path / "folder"}
    outcome = cli(*(word.format(**places) for word in words))
    assert outcome.code == code
    assert said in outcome.err
    assert hint in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_print_config_prints_what_would_be_used(cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("trainer:\n  epochs: 3\n  batch_size: 8\n")
    outcome = cli("train", "--tier", "resnet", "--config", own, "--print-config", "trainer.epochs=4")
    (tmp_path / "printed.yaml").write_text(outcome.out)
    config = load_config([tmp_path / "printed.yaml"])
    assert (config.model.tier, config.trainer.epochs, config.trainer.batch_size) == ("resnet", 4, 8)
    assert outcome.err == ""


def test_prepare_prints_the_split_and_writes_it_once(ham_copy: Path, cli: Cli) -> None:
    first = cli("data", "prepare", f"data.root={ham_copy}", "--json")
    report = json.loads(first.out)
    assert sum(split["images"] for split in report["splits"].values()) == report["images"]
    assert (ham_copy / "processed" / "splits.csv").is_file()
    assert cli("data", "prepare", f"data.root={ham_copy}", "--json").out == first.out
    table = cli("data", "prepare", f"data.root={ham_copy}").out
    assert report["fingerprint"] in table
    assert "train" in table


def test_synth_refuses_to_overwrite(ham_copy: Path, cli: Cli) -> None:
    outcome = cli("data", "synth", ham_copy)
    assert outcome.code == 74
    assert "exists" in outcome.err


def test_training_without_the_extra_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.extras.find_spec", lambda name: None if name == "torch" else object())
    outcome = cli("train")
    assert outcome.code == 3
    assert "`lesion train` needs the 'train' extra: torch not installed" in outcome.err
    assert 'pip install "lesion[train]"' in outcome.err
