import csv
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.engine.train import train
from lesion.errors import DataError, ImageError, NonFiniteError, NotFoundError, OutputError
from lesion.run import FINISHED, Run, find_model
from tests.conftest import PATIENCE_S, Cli
from tests.engine.conftest import QUICK, Trained

pytestmark = pytest.mark.slow


def test_a_run_keeps_all_that_belongs_to_it(trained: Trained) -> None:
    state = trained.run.read_state()
    assert state["status"] == FINISHED
    assert load_config([trained.run.config]) == trained.config
    assert trained.run.model == Path(trained.report.model)
    assert find_model(None, Path(trained.config.runs)) == trained.run.model
    with (trained.run.path / "metrics" / "metrics.csv").open() as file:
        seen = list(csv.DictReader(file))
    assert sum(bool(row["val_loss"]) for row in seen) == trained.report.epochs == 3


def test_the_best_checkpoints_are_named_with_epoch_and_loss(trained: Trained) -> None:
    names = sorted(path.name for path in trained.run.checkpoints.iterdir())
    assert 1 <= len(names) <= 5
    assert all(re.fullmatch(r"epoch=\d\d-val_loss=\d+\.\d{4}\.ckpt", name) for name in names)
    losses = {name: float(name.partition("val_loss=")[2].removesuffix(".ckpt")) for name in names}
    assert Path(trained.report.best_checkpoint).name == min(losses, key=losses.__getitem__)


def test_checkpoints_load_as_plain_data(trained: Trained) -> None:
    for path in trained.run.checkpoints.iterdir():
        assert "state_dict" in torch.load(path, weights_only=True)


def test_one_fingerprint_travels_from_the_split_to_the_run_and_the_model(trained: Trained) -> None:
    from lesion.artifact import Artifact
    from lesion.data.split import open_dataset

    fingerprint = open_dataset(trained.config.data).fingerprint
    assert trained.run.read_state()["split"] == fingerprint
    assert Artifact.read(trained.run.model).manifest.provenance["split"] == fingerprint


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("runs={file}/runs", OutputError),
        ("data.root={tmp}/nowhere", NotFoundError),
    ],
    ids=["output folder not writable", "no data"],
)
def test_what_can_fail_beforehand_fails_before_the_first_epoch(
    override: str, error: type[Exception], quick: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("lesion.engine.train.fit", lambda *_: pytest.fail("training began"))
    text = override.format(file=tmp_path / "file", tmp=tmp_path)
    with pytest.raises(error):
        train(load_config(overrides=[f"data.root={quick.data.root}", f"runs={quick.runs}", *QUICK, text]))


def test_a_truncated_image_is_named_before_the_first_epoch(
    quick: Config, ham_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = sorted((ham_copy / "HAM10000_images").iterdir())[5]
    victim.write_bytes(victim.read_bytes()[:900])
    monkeypatch.setattr("lesion.engine.train.fit", lambda *_: pytest.fail("training began"))
    # Whatever split it fell into: both training and validation are decoded first.
    config = replace(quick, data=replace(quick.data, root=str(ham_copy)))
    with pytest.raises(ImageError, match=victim.name):
        train(replace(config, data=replace(config.data, test=0.01, val=0.3, processed=str(ham_copy / "p"))))


def test_a_loss_that_is_no_number_stops_and_keeps_the_best(quick: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    from lesion.engine.module import LesionModule

    healthy = LesionModule.training_step

    def poisoned(self: LesionModule, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        loss = healthy(self, batch, index)
        return loss * float("nan") if self.current_epoch == 1 else loss

    monkeypatch.setattr(LesionModule, "training_step", poisoned)
    with pytest.raises(NonFiniteError, match="nan") as caught:
        train(quick)
    (run,) = (Run(path) for path in Path(quick.runs).iterdir() if path.is_dir())
    assert run.read_state()["status"] == "failed"
    kept = list(run.checkpoints.iterdir())
    assert [path.name[:8] for path in kept] == ["epoch=00"]
    weights = torch.load(kept[0], weights_only=True)["state_dict"]
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    assert f"lesion export {run.path}" in caught.value.hint


@pytest.mark.parametrize("lines", [0, 2], ids=["before the first epoch ends", "later"])
def test_ctrl_c_keeps_the_best_so_far_and_exits_130(lines: int, quick: Config, cli: Cli, tmp_path: Path) -> None:
    words = [f"data.root={quick.data.root}", f"runs={quick.runs}", *QUICK, "trainer.epochs=500", "trainer.patience=500"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lesion", "train", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for _ in range(1 + lines):
        process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(PATIENCE_S) == 130
    assert "Traceback" not in rest
    assert "error: training was interrupted" in rest
    (run,) = (Run(path) for path in Path(quick.runs).iterdir() if path.is_dir())
    assert run.read_state()["status"] == "interrupted"
    process.stderr.close()
    if lines:
        assert f"lesion export {run.path}" in rest
        assert cli("export", run.path).code == 0
        image = next((Path(quick.data.root) / "HAM10000_images").iterdir())
        assert cli("predict", image, "--model", run.path).code == 0


def test_too_few_lesions_of_a_diagnosis_are_refused(quick: Config, ham_copy: Path) -> None:
    path = ham_copy / "HAM10000_metadata.csv"
    lines = path.read_text().splitlines()
    kept = [line for line in lines if ",df," not in line] + [line for line in lines if ",df," in line][:1]
    path.write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match="diagnosis df"):
        train(replace(quick, data=replace(quick.data, root=str(ham_copy))))
