import csv
import threading
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from PIL import Image

from lesion.config.load import load_config
from lesion.data.datamodule import LesionData
from lesion.data.split import open_dataset
from lesion.engine import system
from lesion.engine.system import DataMetrics, Sampler, SystemMetrics, draw_pairs
from lesion.engine.trainer import quiet

BATCH = 16


class Net(L.LightningModule):
    """The smallest module that trains on the project's batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 7)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        logits = self.layer(batch["pixels"].float().mean((1, 2)))
        return torch.nn.functional.cross_entropy(logits, batch["target"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


@pytest.fixture
def data(ham_root: Path) -> LesionData:
    words = [f"data.root={ham_root}", "preprocess.size=32", f"trainer.batch_size={BATCH}"]
    config = load_config(overrides=words)
    return LesionData(config, open_dataset(config.data))


def fit(data: LesionData, folder: Path, callbacks: list[L.Callback], epochs: int = 2) -> list[dict[str, str]]:
    """What a logger got of a training."""
    from lightning.pytorch.loggers import CSVLogger

    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=callbacks, logger=CSVLogger(folder, name="", version="metrics"),
        reload_dataloaders_every_n_epochs=1, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, log_every_n_steps=1, limit_val_batches=0,
    )  # fmt: skip
    with quiet():
        trainer.fit(Net(), datamodule=data)
    with (folder / "metrics" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_epoch_has_its_figures(data: LesionData, tmp_path: Path) -> None:
    rows = fit(data, tmp_path, [SystemMetrics(), DataMetrics(tmp_path, data)])
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for row in rows:
        seconds, rate = float(row["epoch_seconds"]), float(row["images_per_second"])
        assert seconds * rate == pytest.approx(len(data.train), rel=1e-3)
        assert float(row["memory_mb"]) > 10
        assert float(row["cpu_percent"]) >= 0
        assert float(row["batch_size"]) == BATCH
        assert 0.9 < float(row["augmented_share"]) <= 1
    assert "gpu_percent" not in rows[0]


def test_the_picture_shows_the_first_batch_and_what_is_trained_on(data: LesionData, tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Spy(L.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch["pixels"].clone())

    fit(data, tmp_path, [DataMetrics(tmp_path, data), Spy()], epochs=1)
    data.train.shuffle(0, 0)
    before = data.train.__getitems__(list(range(BATCH)))["pixels"]
    expected = draw_pairs(before, seen[0])
    with Image.open(tmp_path / "augmentation.png") as picture:
        assert picture.tobytes() == expected.tobytes()
        assert picture.size == (8 * 120 + 8, 2 * 240 + 8)


def test_the_picture_is_drawn_once(data: LesionData, tmp_path: Path) -> None:
    (tmp_path / "augmentation.png").write_text("of an earlier part of this run")
    fit(data, tmp_path, [DataMetrics(tmp_path, data)], epochs=1)
    assert (tmp_path / "augmentation.png").read_text() == "of an earlier part of this run"


def test_a_picture_that_cannot_be_written_stops_nothing(
    data: LesionData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = fit(data, tmp_path, [DataMetrics(tmp_path / "absent", data)], epochs=1)
    assert rows[0]["augmented_share"]
    assert "cannot write" in caplog.text


def test_measuring_changes_no_weight(data: LesionData, tmp_path: Path) -> None:
    def train(callbacks: list[L.Callback], folder: Path) -> torch.Tensor:
        L.seed_everything(1, verbose=False)
        net = Net()
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=2, callbacks=callbacks, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, reload_dataloaders_every_n_epochs=1,
        )  # fmt: skip
        with quiet():
            trainer.fit(net, datamodule=data)
        return net.layer.weight.detach()

    plain = train([], tmp_path)
    measured = train([SystemMetrics(), DataMetrics(tmp_path, data)], tmp_path)
    assert torch.equal(plain, measured)


def test_the_thread_ends_with_the_training_even_if_it_fails(data: LesionData, tmp_path: Path) -> None:
    class Fail(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            assert "system metrics" in {thread.name for thread in threading.enumerate()}
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fit(data, tmp_path, [SystemMetrics(), Fail()])
    assert "system metrics" not in {thread.name for thread in threading.enumerate()}


def test_the_sampler_keeps_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "INTERVAL_S", 0.001)
    sampler = Sampler(torch.device("cpu"))
    try:
        low = sampler.take()["memory_mb"]
        ballast = torch.ones(200, 2**20, dtype=torch.uint8)
        while max(sampler._memory, default=0) < (low + 150) * 2**20:
            pass
        del ballast
        assert sampler.take()["memory_mb"] > low + 150
    finally:
        sampler.stop()


def test_a_gpu_without_its_library_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lesion")

    def refuse(_: Any) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr("torch.cuda.utilization", refuse)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda _: 3 * 2**20)
    sampler = Sampler(torch.device("cuda", 0))
    figures = [sampler.take(), sampler.take()]
    sampler.stop()
    assert "gpu_percent" not in figures[0]
    assert figures[1]["gpu_memory_mb"] == 3
    assert caplog.text.count("gpu_percent is not measured") == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_measured() -> None:
    sampler = Sampler(torch.device("cuda", 0))
    ballast = torch.ones(2**20, 256, device="cuda")
    figures = sampler.take()
    sampler.stop()
    assert figures["gpu_memory_mb"] >= ballast.nbytes / 2**20
    assert 0 <= figures["gpu_percent"] <= 100


def test_a_small_batch_makes_a_small_picture() -> None:
    pixels = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    assert draw_pairs(pixels, pixels).size == (3 * 120 + 8, 240 + 8)
