import csv
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from sqlalchemy import event

from lesion.config.schema import Config
from lesion.engine.tracking import Tracking, open_tracking
from lesion.errors import Interrupted, MissingExtra, StoreError
from lesion.run import Run
from lesion.tracking.database import store_url
from lesion.tracking.entries import RunDetail
from lesion.tracking.query import find_run, read_detail
from lesion.tracking.store import Store
from tests.conftest import Cli


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", "baseline", "first")


@pytest.fixture
def tracking(run: Run) -> Iterator[Tracking]:
    with open_tracking(Config(), run, {"split": "0a1b"}) as opened:
        yield opened


def read(run: Run) -> RunDetail:
    with Store.open(store_url(None, run.path.parent), "read") as store:
        return read_detail(store, find_run(store, run.path.name))


class Line(L.LightningModule):
    """Learns nothing, and logs what a training logs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val_loss", float(3 - self.current_epoch))
        if self.current_epoch != 1:  # where nothing is called malignant
            self.log("val_precision", 0.25)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Steps(L.Callback):
    """Hands the losses of an epoch over at its end, as a training does that waits for no step."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        steps = np.arange(5 * epoch, 5 * epoch + 5)
        self.tracking.log_steps("train_loss_step", steps, np.full(5, epoch, np.float32), epoch)


def fit(run: Run, tracking: Tracking, epochs: int = 3) -> None:
    batches = torch.utils.data.DataLoader(torch.ones(10, 1), batch_size=2)  # type: ignore[arg-type, var-annotated]
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=tracking.loggers, default_root_dir=run.path, log_every_n_steps=1,
        callbacks=[LearningRateMonitor("epoch"), Steps(tracking)], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(Line(), batches, batches)


@pytest.mark.filterwarnings("ignore")
def test_what_lightning_logs_lands_in_the_store_and_in_the_csv(run: Run) -> None:
    commits: list[object] = []
    with open_tracking(Config(), run, {"split": "0a1b"}) as tracking:
        assert tracking._store is not None
        event.listen(tracking._store.engine, "commit", commits.append)
        fit(run, tracking)
        assert len(commits) == 3  # one transaction per epoch
        tracking.add_artifact(run.path / "run.json", "state")
        tracking.finish("finished", {"val_auroc": 0.75, "val_f1": None})
    detail = read(run)
    assert (detail.entry.status, detail.entry.epochs, detail.entry.kept_epoch) == ("finished", 3, 3)
    assert detail.entry.figures["val_auroc"] == 0.75
    assert detail.curves["val_loss"].values == [3, 2, 1]
    assert detail.curves["val_loss"].epochs == detail.curves["lr-SGD"].epochs == [0, 1, 2]
    assert detail.curves["lr-SGD"].values == pytest.approx([0.1, 0.01, 0.001])
    steps = detail.curves["train_loss_step"]
    assert (steps.steps, steps.values) == (list(range(15)), [0] * 5 + [1] * 5 + [2] * 5)
    assert "epoch" not in detail.curves
    assert detail.parameters["trainer.epochs"] == "25"
    assert detail.facts["split"] == "0a1b"
    assert {"lesion", "python", "torch", "device", "cores"} <= detail.facts.keys()
    assert [(file.path, file.kind) for file in detail.artifacts] == [("run.json", "state")]
    with (run.path / "metrics" / "metrics.csv").open() as file:
        assert {"train_loss", "val_loss", "epoch", "lr-SGD"} <= set(next(csv.reader(file)))


@pytest.mark.filterwarnings("ignore")
def test_a_figure_that_an_epoch_leaves_undefined_is_a_gap_everywhere(run: Run, cli: Cli) -> None:
    with open_tracking(Config(), run, {}) as tracking:
        fit(run, tracking)
    assert read(run).curves["val_precision"].values == [0.25, None, 0.25]
    assert read(run).curves["val_auroc"].values == [None] * 3
    runs, page = f"--runs={run.path.parent}", run.path / "page.html"
    shown = cli("runs", "show", "first", runs)
    assert re.search("val_precision +▁·▁ ", shown.out), shown
    assert re.search("val_auroc +··· +– +– ", shown.out)
    assert json.loads(cli("runs", "show", "first", runs, "--json").out)["curves"]["val_precision"]["values"][1] is None
    assert cli("runs", "compare", "first", runs, "--html", page).code == 0
    (chart,) = re.findall("<svg[^>]*><title>Validation precision.*?</svg>", page.read_text())
    assert chart.count("<circle") == 2  # two points, and no line between them


@pytest.mark.parametrize(
    ("error", "status"),
    [(Interrupted("stop"), "interrupted"), (KeyboardInterrupt(), "interrupted"), (ValueError("bug"), "failed")],
)
def test_how_a_training_ended_is_recorded_with_what_it_had(error: BaseException, status: str, run: Run) -> None:
    def train() -> None:
        with open_tracking(Config(), run, {}) as tracking:
            tracking.log({"lr": 0.1}, 0)
            tracking.log({"val_loss": 0.5}, 9, 0)
            tracking.log({"lr": 0.05}, 10)
            raise error

    with pytest.raises(type(error)):
        train()
    detail = read(run)
    assert detail.entry.status == status
    assert detail.curves["val_loss"].values == [0.5]
    assert detail.curves["lr"].values == [0.1, 0.05]


def test_a_block_that_ends_well_is_a_finished_run(run: Run) -> None:
    with open_tracking(Config(), run, {}):
        assert read(run).entry.status == "running"
    assert read(run).entry.status == "finished"


def test_a_resumed_training_goes_on(run: Run) -> None:
    for resume in (False, True):
        with open_tracking(Config(), run, {}, resume) as tracking:
            tracking.log({"val_loss": 0.5}, 10 + resume, int(resume))
    assert read(run).curves["val_loss"].steps == [10, 11]
    assert read(run).entry.id == 1


def test_a_store_that_goes_away_costs_a_warning_and_not_the_training(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    path = run.path.parent / "runs.db"
    with open_tracking(Config(), run, {}) as tracking:
        path.unlink()
        for epoch in range(3):
            tracking.log({"val_loss": 0.5}, epoch, epoch)
        tracking.add_artifact(run.path / "run.json", "state")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "the store of runs cannot be written, training goes on without it" in messages[0]
    assert "not in the store of runs: 3 values, the file run.json, that it finished" in messages[1]


def test_values_that_could_not_be_written_are_written_later(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lesion.tracking.database.TIMEOUT", 0.1)
    with open_tracking(Config(), run, {}) as tracking:
        with closing(sqlite3.connect(run.path.parent / "runs.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            tracking.log({"val_loss": 0.5}, 0, 0)
            tracking.log({"val_loss": 0.4}, 1, 1)
        tracking.log({"val_loss": 0.3}, 2, 2)
    assert read(run).curves["val_loss"].values == [0.5, 0.4, 0.3]
    assert "stayed locked" in caplog.text
    assert "not in the store" not in caplog.text


def test_a_file_that_cannot_be_read_costs_a_warning(
    run: Run, tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    tracking.add_artifact(run.path / "absent.onnx", "model")
    tracking.add_artifact(run.path.parent / "outside.onnx", "model")
    assert "absent.onnx" in caplog.text


def test_a_store_that_is_damaged_is_refused_before_the_training(run: Run) -> None:
    (run.path.parent / "runs.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="is damaged"), open_tracking(Config(), run, {}):
        pytest.fail("the training began")


def test_only_the_first_process_of_a_training_writes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.engine.tracking.rank_zero_only.rank", 1)
    with open_tracking(Config(), run, {}) as tracking:
        tracking.log({"val_loss": 0.5}, 0, 0)
    assert not (run.path.parent / "runs.db").exists()


def test_the_store_can_lie_elsewhere(run: Run, tmp_path: Path) -> None:
    config = Config()
    config = replace(config, tracking=replace(config.tracking, store=str(tmp_path / "team" / "all.db")))
    with open_tracking(config, run, {}):
        pass
    with Store.open(store_url(config.tracking.store, run.path.parent), "read") as store:
        assert find_run(store, "latest").path == run.path.resolve().as_posix()


def test_a_mirror_that_cannot_be_opened_leaves_no_store_open(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(Store, "close", lambda store: closed.append(store))

    def refuse(*_: object) -> None:
        raise MissingExtra("no wandb")

    monkeypatch.setattr("lesion.engine.tracking.open_mirror", refuse)
    with pytest.raises(MissingExtra), open_tracking(Config(), run, {}):
        pytest.fail("it was opened")
    assert len(closed) == 1
