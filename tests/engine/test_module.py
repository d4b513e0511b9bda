"""The LightningModule: its figures are those of lesion.metrics, and frozen means frozen."""

from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lesion.config.schema import Config, LossConfig, OptimConfig
from lesion.data.datamodule import LesionData
from lesion.data.split import Dataset, open_dataset
from lesion.engine.loss import Loss
from lesion.engine.module import FIGURES
from lesion.engine.trainer import make_trainer, quiet
from lesion.errors import NonFiniteError
from lesion.metrics import measure
from lesion.taxonomy import Taxonomy
from tests.engine.little import Spy, build_little, copy_state, fit, make_module


@pytest.fixture
def quick(quick: Config) -> Config:
    """In full precision, which "auto" is not on every CPU."""
    return replace(quick, trainer=replace(quick.trainer, precision="32-true"))


@pytest.fixture
def dataset(quick: Config) -> Dataset:
    return open_dataset(quick.data)


def validate(config: Config, dataset: Dataset, folder: Path, spoil: float | None = None) -> dict[str, float]:
    """What one validation logs."""
    data = LesionData(config, dataset)
    module = make_module(config, data)
    if spoil is not None:
        module.classifier.stages()[-1].get_parameter("1.bias").data[3] = spoil
    with quiet():
        (seen,) = make_trainer(config, folder, [], []).validate(module, datamodule=data, verbose=False)
    return dict(seen)


@pytest.mark.parametrize("size", [1, 5, 16, 1000])
def test_figures_are_those_of_all_images_whatever_the_batches(
    size: int, quick: Config, dataset: Dataset, tmp_path: Path
) -> None:
    config = replace(quick, trainer=replace(quick.trainer, batch_size=size))
    seen = validate(config, dataset, tmp_path)
    val = LesionData(config, dataset).val
    with torch.inference_mode():
        logits = build_little().eval()(torch.from_numpy(np.asarray(val.pixels[val.index])))
    taxonomy = Taxonomy.of("diagnosis")
    malignant = logits.double().softmax(1)[:, list(taxonomy.malignant_outputs)].sum(1)
    truth = [taxonomy.is_malignant(row.dx) for row in val.rows]
    wanted = {f"val_{name}": float(measure(malignant, truth, 0.5)[name][0]) for name in FIGURES}
    wanted = {name: value for name, value in wanted.items() if not np.isnan(value)}
    assert seen == pytest.approx({"val_loss": float(cross_entropy(logits, val.targets)), **wanted}, rel=1e-5)
    assert {"val_auroc", "val_accuracy", "val_sensitivity"} < seen.keys()


def test_the_validation_loss_is_the_one_that_is_trained(quick: Config, dataset: Dataset, tmp_path: Path) -> None:
    chosen = LossConfig(weighting=1, adjustment=1, focus=2, smoothing=0.2)
    config = replace(quick, loss=chosen)
    data = LesionData(config, dataset)
    with torch.inference_mode():
        logits = build_little().eval()(torch.from_numpy(np.asarray(data.val.pixels[data.val.index])))
    wanted = Loss(chosen, data.train.counts)(logits, data.val.targets)
    assert validate(config, dataset, tmp_path)["val_loss"] == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_no_number_is_refused(
    value: float, quick: Config, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteError, match="validation loss is nan after epoch 1") as caught:
        validate(quick, dataset, tmp_path, spoil=value)
    assert "optim.lr" in caught.value.hint


@pytest.mark.parametrize("dx", ["nv", "mel"])
def test_figures_that_one_class_leaves_undefined_are_not_logged(
    dx: str, quick: Config, dataset: Dataset, tmp_path: Path
) -> None:
    rows = [row for row in dataset.members["val"] if row.dx == dx]
    seen = validate(quick, replace(dataset, members={**dataset.members, "val": rows}), tmp_path)
    assert "val_auroc" not in seen
    assert {"val_loss", "val_accuracy"} <= seen.keys()
    assert all(np.isfinite(value) for value in seen.values())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_in_frozen_epochs_only_the_head_learns(
    accumulate: int, quick: Config, dataset: Dataset, tmp_path: Path
) -> None:
    config = replace(
        quick,
        optim=OptimConfig(lr=0.01, weight_decay=0.5, freeze=2),
        trainer=replace(quick.trainer, accumulate=accumulate),
    )
    spy, before = Spy(), copy_state(build_little())
    fit(config, LesionData(config, dataset), tmp_path, [spy])
    assert len(spy.epochs) == 3
    for epoch, after in enumerate(spy.epochs):
        for name, value in before.items():
            unchanged = torch.equal(after[f"classifier.{name}"], value)
            # Running statistics are in here, too.
            assert unchanged is (epoch < 2 and "head" not in name), (epoch, name)


class _Many(L.Callback):
    """Lets the module believe that it is one of several processes, where DDP wants a gradient of every weight."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        original = pl_module.on_train_epoch_start

        def start() -> None:
            original()
            for parameter in pl_module.parameters():
                parameter.requires_grad_(True)

        pl_module.on_train_epoch_start = start  # type: ignore[method-assign]


def test_frozen_weights_with_gradients_stay_as_they_are(quick: Config, dataset: Dataset, tmp_path: Path) -> None:
    config = replace(quick, optim=OptimConfig(lr=0.01, weight_decay=0.5, freeze=1))
    spy, before = Spy(), copy_state(build_little())
    fit(config, LesionData(config, dataset), tmp_path, [spy, _Many()], max_epochs=1)
    for name, value in before.items():
        assert torch.equal(spy.epochs[0][f"classifier.{name}"], value) is ("head" not in name)


class _Norms(L.Callback):
    """The norm of the gradient that each step was made with."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: object) -> None:
        slopes = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        if slopes:
            self.norms.append(float(torch.stack([slope.norm() for slope in slopes]).norm()))


@pytest.mark.parametrize(("precision", "fused"), [("32-true", True), ("bf16-mixed", False), ("16-mixed", False)])
def test_gradients_are_clipped_in_every_precision(
    precision: str, fused: bool, quick: Config, dataset: Dataset, tmp_path: Path
) -> None:
    config, seen = replace(quick, trainer=replace(quick.trainer, precision=precision, gradient_clip=1e-3)), _Norms()
    trainer, _ = fit(config, LesionData(config, dataset), tmp_path, [seen], max_epochs=1)
    assert bool(trainer.optimizers[0].defaults["fused"]) is fused
    assert seen.norms == pytest.approx([1e-3] * len(seen.norms), rel=1e-2)
    assert len(seen.norms) > 2


def test_the_training_loss_of_an_epoch_is_the_mean_over_its_images(
    quick: Config, dataset: Dataset, tmp_path: Path
) -> None:
    losses: list[tuple[float, int]] = []

    class Collect(L.Callback):
        def on_train_batch_end(self, trainer: object, module: object, outputs: dict, batch: dict, _: int) -> None:  # type: ignore[type-arg, override]
            losses.append((float(outputs["loss"]), len(batch["target"])))

    trainer, _ = fit(quick, LesionData(quick, dataset), tmp_path, [Collect()], max_epochs=1)
    assert len({size for _, size in losses}) == 2
    mean = sum(loss * size for loss, size in losses) / sum(size for _, size in losses)
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(mean, rel=1e-5)
