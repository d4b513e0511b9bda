import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lesion.config.schema import Config
from lesion.run import Run
from tests.engine.conftest import Trained

pytestmark = pytest.mark.slow


def test_every_epoch_stands_in_the_csv_of_the_run(trained: Trained) -> None:
    with (trained.run.path / "metrics" / "metrics.csv").open() as file:
        columns = next(csv.reader(file))
    assert {"train_loss", "val_loss", "val_accuracy", "val_auroc", "epoch"} <= set(columns)
    assert any(column.startswith("lr-") for column in columns)


def test_wandb_is_not_even_imported_unless_asked_for() -> None:
    code = "import sys, lesion.engine.train; sys.exit('wandb' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wandb_offline_writes_beside_the_run(quick: Config) -> None:
    from lesion.engine.train import train

    report = train(replace(quick, tracking=replace(quick.tracking, wandb="offline")))
    (log,) = (Run(Path(report.run)).path / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    assert b"val_auroc" in content
    assert Path(report.run).name.encode() in content
