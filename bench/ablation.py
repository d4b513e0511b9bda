"""What each part of the training recipe is worth: every default against its alternatives, several seeds each."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory

from lesion.config.load import load_config, shipped
from lesion.config.schema import Config
from lesion.preprocess import PreprocessSpec

COMMON = ("preprocess.size=64", "trainer.epochs=8", "trainer.patience=8")
DEFAULTS = "defaults"
VARIANTS: dict[str, tuple[str, ...]] = {
    DEFAULTS: (),
    "two classes instead of seven": ("model.classes=malignancy",),
    "class weights": ("loss.weighting=0.5",),
    "balanced sampling": ("data.balance=0.5",),
    "adjusted logits": ("loss.adjustment=1",),
    "focal loss": ("loss.focus=1",),
    "label smoothing": ("loss.smoothing=0.1",),
    "mixup": ("augment.mixup=0.3",),
    "cutmix": ("augment.cutmix=0.3",),
    "no free rotation, no zoom": ("augment.rotate=0", "augment.scale=0"),
    "twice the change of light": ("augment.brightness=0.15", "augment.contrast=0.15", "augment.colour=0.05"),
    "hairs, rulers, dark corners": ("augment.hair=0.3", "augment.ruler=0.1", "augment.corner=0.3"),
    "colour constancy": ("augment.constancy=0.5",),
    "moving average of the weights": ("optim.ema=0.998",),
    "shorter warm-up": ("optim.warmup=0.05",),
}


@dataclass(frozen=True, order=True)
class Result:
    """The epoch of a training with the lowest validation loss."""

    loss: float
    auroc: float


def ablate(ham10000: Path, seeds: int, names: Sequence[str] = ()) -> Iterator[str]:
    """Lines of a Markdown table: validation AUROC of "malignant" by variant, and its paired difference."""
    from lesion.inference.threads import usable_cpus

    chosen = {name: words for name, words in VARIANTS.items() if not names or name in (*names, DEFAULTS)}
    results: dict[str, list[Result]] = {name: [] for name in chosen}
    with TemporaryDirectory() as processed:
        _prepare(ham10000, processed)
        tasks = [(str(ham10000), processed, words, seed) for seed in range(seeds) for words in chosen.values()]
        # One thread each: two trainings side by side are faster than two after another with two threads.
        with ProcessPoolExecutor(usable_cpus(), get_context("spawn")) as pool:
            for name, result in zip(list(chosen) * seeds, pool.map(_train, tasks), strict=True):
                print(f"{name}: {result}", file=sys.stderr, flush=True)
                results[name].append(result)
    yield f"| variant | settings | val AUROC, mean ± sd of {seeds} | against the defaults, mean ± se | val loss |"
    yield "|---|---|---|---|---|"
    yield from (_describe(name, words, results) for name, words in chosen.items())


def _prepare(ham10000: Path, processed: str) -> None:
    from lesion.data.split import open_dataset

    config = _configure(str(ham10000), processed, (), 0)
    open_dataset(config.data).open_cache(PreprocessSpec(**vars(config.preprocess)), 2)


def _configure(root: str, processed: str, words: Sequence[str], seed: int) -> Config:
    fixed = (f"data.root={root}", f"data.processed={processed}", f"seed={seed}", "trainer.accelerator=cpu")
    return load_config([shipped("tier", "baseline")], [*fixed, *COMMON, *words])


def _train(task: tuple[str, str, Sequence[str], int]) -> Result:
    import lightning as L
    import torch

    from lesion.engine.train import prepare
    from lesion.engine.trainer import make_trainer, quiet
    from lesion.progress import Silent

    seen: list[Result] = []

    class Watch(L.Callback):
        def on_validation_end(self, trainer, module):
            figures = trainer.callback_metrics
            seen.append(Result(float(figures["val_loss"]), float(figures["val_auroc"])))

    torch.set_num_threads(1)
    config = _configure(*task)
    with quiet(), TemporaryDirectory() as folder:
        material = prepare(config, Silent())
        trainer = make_trainer(config, Path(folder), [Watch()], [], enable_checkpointing=False)
        trainer.fit(material.module, datamodule=material.data)
    return min(seen)  # the weights that would be exported


def _describe(name: str, words: Sequence[str], results: dict[str, list[Result]]) -> str:
    mine, theirs = ([result.auroc for result in results[key]] for key in (name, DEFAULTS))
    gains = [a - b for a, b in zip(mine, theirs, strict=True)]
    spread = [stdev(values) if len(values) > 1 else float("nan") for values in (mine, gains)]
    gain = "" if name == DEFAULTS else f"{fmean(gains):+.4f} ± {spread[1] / len(gains) ** 0.5:.4f}"
    settings, loss = " ".join(f"`{word}`" for word in words), fmean(result.loss for result in results[name])
    return f"| {name} | {settings} | {fmean(mine):.4f} ± {spread[0]:.4f} | {gain} | {loss:.4f} |"
