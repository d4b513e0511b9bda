"""How busy a training keeps a GPU: images a second of ours, and of the same network fed one batch again and again."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lesion.config.load import load_config, shipped
from lesion.config.schema import Config
from lesion.data.datamodule import LesionData
from lesion.engine.system import SystemMetrics
from lesion.engine.train import prepare
from lesion.engine.trainer import make_trainer, quiet
from lesion.progress import Silent

TIERS = ("baseline", "resnet", "efficientnet")
BATCH = 256
EPOCHS = 3  # the last one counts: the first allocates memory, chooses kernels and compiles


class _Same:
    """One batch that lies on the GPU, as often as an epoch has batches: no slicing, no transfer, no augmentation."""

    def __init__(self, data: LesionData) -> None:
        self._steps, classes, side = len(data.train) // BATCH, len(data.train.counts), data.train.pixels.shape[1]
        pixels = torch.randint(0, 256, (BATCH, side, side, 3), dtype=torch.uint8, device="cuda")
        self._batch = {"pixels": pixels, "target": torch.eye(classes, device="cuda")[torch.arange(BATCH) % classes]}

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter([self._batch] * self._steps)


def measure(ham10000: Path) -> Iterator[str]:
    """Lines of a Markdown table: every tier at its own size, from random weights, batches of 256."""
    if not torch.cuda.is_available():
        raise SystemExit("error: torch sees no GPU")
    yield f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    yield "| network | side | precision | images/s | a kernel runs | fed one batch | ours is … of it | compiled |"
    yield "|---|--:|---|--:|--:|--:|--:|--:|"
    with TemporaryDirectory() as name, quiet():
        for tier in TIERS:
            words = [
                f"data.root={ham10000}", f"data.processed={name}/processed", f"trainer.batch_size={BATCH}",
                f"trainer.epochs={EPOCHS}", "model.pretrained=false",
            ]  # fmt: skip
            config = load_config([shipped("tier", tier)], words)
            precision, *ours = _train(config, Path(name))
            fed = _train(config, Path(name), same=True)[1]
            compiled = _train(config, Path(name), compiled=True)[1]
            yield (
                f"| {tier} | {config.preprocess.size} | {precision} | {ours[0]:,.0f} | {ours[1]:.0f} % | {fed:,.0f} | "
                f"{ours[0] / fed:.0%} | {compiled / ours[0]:.2f} × |"
            )


def _train(config: Config, folder: Path, same: bool = False, compiled: bool = False) -> tuple[str, float, float]:
    """Precision, images a second and the percentage of time in which a kernel ran, of the last epoch."""
    material = prepare(config, Silent())
    if compiled:
        material.module.classifier.compile()
    feed = {"train_dataloaders": _Same(material.data)} if same else {"datamodule": material.data}
    trainer = make_trainer(config, folder, [SystemMetrics()], [], limit_val_batches=0, enable_checkpointing=False)
    trainer.fit(material.module, **feed)
    seen = trainer.callback_metrics
    return str(trainer.precision), float(seen["images_per_second"]), float(seen.get("gpu_percent", float("nan")))
