"""A run that was interrupted and resumed ends where an uninterrupted one does, to the bit."""

import csv
import hashlib
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.engine import train as engine
from lesion.engine.checkpoint import find_last, list_checkpoints, read_checkpoint
from lesion.engine.custody import Custody
from lesion.engine.export import export_run
from lesion.engine.module import LesionModule
from lesion.engine.resume import recipe, require_resumable
from lesion.engine.tracking import open_tracking
from lesion.engine.trainer import quiet
from lesion.errors import ArtifactError, ConfigError, DataError, Interrupted, OutputError, Terminated
from lesion.progress import Silent
from lesion.run import FINISHED, Run

pytestmark = pytest.mark.slow
EPOCHS = 4


class SignalAt(Silent):
    """Sends this process a signal after so many steps."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.left = step
        self.number = number

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.left -= steps
        if self.left == 0:
            signal.raise_signal(self.number)


def fit(config: Config, progress: Silent | None = None, resume: Run | None = None) -> Run:
    with Custody(config) as custody, quiet():
        run, material = engine.begin(config, custody, progress or Silent(), resume)
        with open_tracking(config, run, {}, resume is not None) as tracking:
            engine.fit(config, run, material, custody, tracking, progress or Silent())
        return run


def the_run(config: Config) -> Run:
    (path,) = (path for path in Path(config.runs).iterdir() if path.is_dir())
    return Run(path)


def digest(value: Any) -> str:
    """The SHA-256 of nested tensors and plain values."""
    sha = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            sha.update(f"{value.dtype}{tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                sha.update(repr(key).encode())
                feed(value[key])
        elif isinstance(value, list | tuple):
            for each in value:
                feed(each)
        else:
            sha.update(repr(value).encode())

    feed(value)
    return sha.hexdigest()


def outcome(run: Run) -> dict[str, str]:
    """Name of each kept checkpoint → digest of all it holds: weights, optimiser, schedule, callbacks, loops."""
    return {
        path.name: digest({key: value for key, value in read_checkpoint(path).items() if key != "run"})
        for path in list_checkpoints(run)
    }


@pytest.fixture(scope="module")
def config(ham_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    words = [
        "preprocess.size=32",
        f"trainer.epochs={EPOCHS}",
        "trainer.batch_size=16",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
    ]
    runs = tmp_path_factory.mktemp("whole") / "runs"
    return load_config(overrides=[f"data.root={ham_root}", f"runs={runs}", "optim.lr=0.003", *words])


@pytest.fixture(scope="module")
def whole(config: Config) -> Run:
    """An uninterrupted run."""
    return fit(config)


@pytest.fixture
def elsewhere(config: Config, tmp_path: Path) -> Config:
    return replace(config, runs=str(tmp_path / "runs"))


def steps_of(run: Run) -> int:
    """Steps of an epoch."""
    return int(read_checkpoint(list_checkpoints(run)[0])["global_step"]) // EPOCHS


def break_off(config: Config, step: int) -> Run:
    with pytest.raises(Terminated) as caught:
        fit(config, SignalAt(step))
    run = the_run(config)
    assert f"lesion train --resume {run.path}" in caught.value.hint
    return run


@pytest.mark.parametrize(("finished", "workers"), [(0, 0), (1, 0), (2, 0), (3, 0), (2, 2)])
def test_a_run_interrupted_in_any_epoch_ends_as_an_uninterrupted_one(
    finished: int, workers: int, elsewhere: Config, whole: Run
) -> None:
    config = replace(elsewhere, data=replace(elsewhere.data, workers=workers))
    run = break_off(config, finished * steps_of(whole) + 2)
    assert len(list_checkpoints(run)) == finished
    assert run.read_state()["status"] == "interrupted"
    fit(config, resume=run)
    assert outcome(run) == outcome(whole)
    assert len(outcome(run)) >= 3


def test_a_run_interrupted_again_and_again_ends_as_an_uninterrupted_one(elsewhere: Config, whole: Run) -> None:
    run = break_off(elsewhere, steps_of(whole) + 1)
    for finished in range(1, EPOCHS - 1):
        with pytest.raises(Terminated):
            fit(elsewhere, SignalAt((finished + 1) * steps_of(whole) + 1), resume=run)
        assert len(list_checkpoints(run)) == finished + 1
    fit(elsewhere, resume=run)
    assert outcome(run) == outcome(whole)


def test_the_moving_average_goes_on_too(elsewhere: Config, tmp_path: Path) -> None:
    config = replace(elsewhere, optim=replace(elsewhere.optim, ema=0.9))
    whole = fit(replace(config, runs=str(tmp_path / "whole")))
    run = break_off(config, 2 * steps_of(whole) + 3)
    fit(config, resume=run)
    assert outcome(run) == outcome(whole)
    assert "averaging_state" in read_checkpoint(list_checkpoints(run)[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_during_validation_ends_it_there(
    number: int, elsewhere: Config, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = LesionModule.validation_step

    def step(self: LesionModule, batch: dict[str, torch.Tensor], index: int) -> None:
        if self.current_epoch == 1:
            signal.raise_signal(number)
        healthy(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(LesionModule, "validation_step", step)
        with pytest.raises(Terminated if number == signal.SIGTERM else Interrupted) as caught:
            fit(elsewhere)
    assert caught.value.exit_code == 128 + number
    run = the_run(elsewhere)
    assert len(list_checkpoints(run)) == 1
    fit(elsewhere, resume=run)
    assert outcome(run) == outcome(whole)


@pytest.mark.parametrize("signals", [1, 2], ids=["one is patient", "the second aborts"])
def test_a_signal_while_a_checkpoint_is_written_leaves_only_whole_ones(
    signals: int, elsewhere: Config, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def interrupted(content: dict[str, Any], file: Any) -> None:
        save(content, file)
        if content["epoch"] == 1:
            for _ in range(signals):
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupted)
        with pytest.raises(Interrupted):
            fit(elsewhere)
    run = the_run(elsewhere)
    assert len(list_checkpoints(run)) == 3 - signals
    assert [path.name for path in run.checkpoints.iterdir() if path.name.startswith(".")] == []
    fit(elsewhere, resume=run)
    assert outcome(run) == outcome(whole)


def test_a_damaged_last_checkpoint_costs_one_epoch(
    elsewhere: Config, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run = break_off(elsewhere, 3 * steps_of(whole) + 1)
    last = list_checkpoints(run)[0]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    fit(elsewhere, resume=run)
    assert f"{last} is not a checkpoint of lesion: it is damaged" in caplog.text
    assert outcome(run) == outcome(whole)


def test_checkpoints_of_other_runs_and_networks_are_not_resumed(elsewhere: Config, whole: Run) -> None:
    run = break_off(elsewhere, steps_of(whole) + 1)
    (own,) = list_checkpoints(run)
    own.write_bytes(list_checkpoints(whole)[0].read_bytes())
    with pytest.raises(ArtifactError, match="none of the 1 checkpoints"):
        fit(elsewhere, resume=run)
    assert run.read_state()["status"] == "failed"
    with pytest.raises(ArtifactError, match="can be used"):
        find_last(whole, {"weight": torch.ones(2)})


def test_a_run_that_early_stopping_ended_trains_no_further_epoch(
    elsewhere: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = LesionModule.log_dict

    def rising(self: LesionModule, figures: dict[str, Any], **options: Any) -> None:
        healthy(self, {name: value + 100 * self.current_epoch for name, value in figures.items()}, **options)

    monkeypatch.setattr(LesionModule, "log_dict", rising)
    config = replace(elsewhere, trainer=replace(elsewhere.trainer, patience=2))
    run = fit(config)
    before = outcome(run)
    assert run.read_state()["epochs"] == 3 < EPOCHS
    fit(config, resume=run)
    assert outcome(run) == before


def test_the_csv_of_a_resumed_run_has_every_epoch_once(elsewhere: Config, whole: Run) -> None:
    run = break_off(elsewhere, 2 * steps_of(whole) + 2)
    fit(elsewhere, resume=run)

    def read(run: Run) -> list[dict[str, str]]:
        with (run.path / "metrics" / "metrics.csv").open(newline="") as file:
            return [
                {name: row[name] for name in ("epoch", "step", "val_loss", "train_loss")}
                for row in csv.DictReader(file)
            ]

    assert [row["epoch"] for row in read(run) if row["val_loss"]] == [str(epoch) for epoch in range(EPOCHS)]
    assert read(run) == read(whole)


def test_a_time_limit_drops_the_unfinished_epoch(elsewhere: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(elsewhere, trainer=replace(elsewhere.trainer, max_minutes=1e-9))
    with pytest.raises(ConfigError, match=r"trainer\.max_minutes.*before the first epoch") as caught:
        engine.train(config)
    assert the_run(config).read_state()["reason"] == caught.value.message


@pytest.mark.parametrize(
    ("word", "key"),
    [("trainer.epochs=9", "trainer.epochs: 4 in the run, 9 asked for"), ("seed=3", "seed: 0"), ("name=x", "name: None"),
     ("model.tier=resnet", "model.tier: baseline in the run, resnet"), ("data.subsample=0.5", "data.subsample")],
)  # fmt: skip
def test_another_recipe_is_refused_with_what_differs(word: str, key: str, whole: Run) -> None:
    with pytest.raises(ConfigError) as caught:
        require_resumable(whole, load_config([whole.config], [word]))
    assert key in caught.value.message
    assert caught.value.exit_code == 2
    assert whole.read_state()["status"] == "running"


@pytest.mark.parametrize(
    "word",
    ["data.workers=0", "data.memory_gb=0", "data.root=elsewhere", "runs=x", "tracking.project=x", "serve.port=1",
     "trainer.max_minutes=5", "export.parity_tolerance=0.01"],
)  # fmt: skip
def test_what_no_weight_depends_on_may_differ(word: str, whole: Run) -> None:
    require_resumable(whole, load_config([whole.config], [word]))


def test_a_configuration_that_was_edited_is_refused(elsewhere: Config, whole: Run) -> None:
    run = break_off(elsewhere, 1)
    run.config.write_text(run.config.read_text().replace("lr: 0.003", "lr: 0.03"))
    with pytest.raises(ConfigError, match="not the configuration that the run began with"):
        fit(load_config([run.config]), resume=run)
    run.config.write_text(run.config.read_text().replace("lr: 0.03", "lr: 0.003").replace("workers: 4", "workers: 1"))
    assert recipe(load_config([run.config])) == run.read_state()["recipe"]
    fit(load_config([run.config]), resume=run)
    assert set(outcome(run)) == set(outcome(whole))


@pytest.mark.parametrize("change", ["images", "labels"])
def test_other_data_are_refused(change: str, elsewhere: Config, ham_copy: Path) -> None:
    config = replace(elsewhere, data=replace(elsewhere.data, root=str(ham_copy)))
    engine.prepare(config, Silent())  # whose bars are none of the training
    run = break_off(config, 2)
    if change == "images":
        first, second = sorted((ham_copy / "HAM10000_images").iterdir())[:2]
        first.write_bytes(second.read_bytes())
    else:
        table = ham_copy / "HAM10000_metadata.csv"
        table.write_text(table.read_text().replace(",nv,", ",mel,", 1))
    with pytest.raises(DataError, match="fingerprint of its images" if change == "images" else "metadata"):
        fit(config, resume=run)
    assert run.read_state()["status"] == "interrupted"


def test_a_run_is_trained_by_one_process_at_a_time(whole: Run) -> None:
    before = whole.read_state()
    with whole.lock(), pytest.raises(OutputError, match="is being trained by process") as caught:
        fit(load_config([whole.config]), resume=whole)
    assert caught.value.exit_code == 74
    assert whole.read_state() == before
    with whole.lock():
        pass


def test_a_finished_run_has_nothing_left(whole: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(whole.config.read_text())
    run.write_state(status=FINISHED)
    with pytest.raises(ConfigError, match="is finished, nothing is left") as caught:
        fit(load_config([run.config]), resume=run)
    assert f"lesion predict IMAGE --model {run.path}" in caught.value.hint


def test_another_device_or_version_is_said(whole: Run, caplog: pytest.LogCaptureFixture) -> None:
    from lesion.engine.resume import warn_of_changes

    warn_of_changes(whole, device="cpu with 1 threads", precision="32-true")
    assert caplog.text == ""
    warn_of_changes(whole, device="cuda")
    assert "trained with device cpu with 1 threads, now cuda" in caplog.text


def test_a_lost_run_json_is_made_good_by_the_command_that_its_absence_names(run_copy: Run) -> None:
    (run_copy.path / "run.json").unlink()
    with pytest.raises(DataError, match="does not say which split") as caught:
        export_run(run_copy)
    assert f"`lesion train --resume {run_copy.path}`" in caught.value.hint
    engine.train(load_config([run_copy.config]), resume=run_copy)
    assert run_copy.read_state()["status"] == FINISHED
    export_run(run_copy)
