"""From a configuration to a finished run: data, network, Trainer, exported best weights."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from lesion.config.load import fingerprint, to_yaml
from lesion.config.schema import Config, TrainerConfig
from lesion.data.datamodule import LesionData
from lesion.data.split import Dataset, open_dataset
from lesion.engine.export import export_run
from lesion.engine.module import LesionModule
from lesion.engine.tracking import close_loggers, open_loggers
from lesion.errors import Interrupted, LesionError
from lesion.files import ensure_folder, write_atomic
from lesion.models import build, count_parameters
from lesion.progress import Progress, Silent
from lesion.records import TrainReport
from lesion.run import FINISHED, Run, now
from lesion.taxonomy import Taxonomy

log = logging.getLogger(__name__)


def train(config: Config, progress: Progress | None = None) -> TrainReport:
    """Train, keep the three best checkpoints, export the best one.

    All that can be checked beforehand is: configuration, data, every image, weights, the output folder.

    Raises:
        Interrupted: Ctrl-C; the run folder keeps the best checkpoints so far.
        NonFiniteError: the loss became NaN or infinite; likewise.
        CheckFailed: the exported file disagrees with the trained network.
        Further errors as in `open_dataset`, `models.build` and `Run.create`.
    """
    show = progress or Silent()
    ensure_folder(Path(config.runs))
    dataset = open_dataset(config.data, show)
    L.seed_everything(config.seed, workers=True, verbose=False)
    taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
    classifier = build(config.model, len(taxonomy.labels))
    with _quiet():
        data = LesionData(config, dataset, show)
        module = LesionModule(classifier, taxonomy, config.optim)
        run = _open_run(config, dataset)
        log.info("%s: %d training images, split %s", run.path, len(data.train), dataset.fingerprint)
        watch = Watch(show, config.trainer.epochs, len(data.train))
        best = ModelCheckpoint(
            run.checkpoints,
            filename="{epoch:02d}-{val_loss:.4f}",
            monitor="val_loss",
            mode="min",
            save_top_k=3,
        )
        try:
            trainer = _make_trainer(config, run, [watch, best])
            _fit(trainer, module, data)
        except LesionError as error:
            _keep_best(run, best)
            run.write_state(status="interrupted" if isinstance(error, Interrupted) else "failed", ended=now())
            raise _with_remains(error, run, best) from error
        finally:
            close_loggers(config)
    _keep_best(run, best)
    exported = export_run(run, show)
    run.write_state(status=FINISHED, finished=now(), model=exported.name, validation=exported.validation)
    return TrainReport(
        run=str(run.path),
        model=exported.model,
        tier=config.model.tier,
        parameters=count_parameters(classifier),
        epochs=watch.epochs_done,
        best_epoch=_epoch_of(best.best_model_path),
        best_checkpoint=best.best_model_path,
        seconds=watch.seconds,
        images_per_second=watch.images_per_second,
        validation=exported.validation,
    )


class Watch(L.Callback):
    """Tells Progress about batches and the log about epochs."""

    def __init__(self, progress: Progress, epochs: int, images: int) -> None:
        self.progress = progress
        self.epochs = epochs
        self.images = images
        self.epochs_done = 0
        self._started = self._ended = self._epoch_started = perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of the fit so far."""
        return self._ended - self._started

    @property
    def images_per_second(self) -> float:
        """Training images per second of the fit, validation included."""
        return self.epochs_done * self.images / max(self.seconds, 1e-9)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock after Lightning's own set-up."""
        self._started = perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A new bar."""
        self._epoch_started = perf_counter()
        self.progress.begin(f"epoch {trainer.current_epoch + 1}/{self.epochs}", int(trainer.num_training_batches))

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """One step further; the loss is not read, since that would wait for the device."""
        self.progress.advance()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One line per epoch."""
        self.progress.end()
        self._ended = perf_counter()
        self.epochs_done += 1
        seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
        log.info(
            "epoch %d/%d  train loss %.4f  val loss %.4f  val AUROC %.3f  %.0f images/s",
            trainer.current_epoch + 1,
            self.epochs,
            seen.get("train_loss", float("nan")),
            seen.get("val_loss", float("nan")),
            seen.get("val_auroc", float("nan")),
            self.images / (self._ended - self._epoch_started),
        )


def _open_run(config: Config, dataset: Dataset) -> Run:
    run = Run.create(Path(config.runs), config.model.tier, config.name)
    write_atomic(run.config, to_yaml(config))
    run.write_state(config=fingerprint(config), split=dataset.fingerprint, data=dataset.name)
    return run


def _make_trainer(config: Config, run: Run, callbacks: list[L.Callback]) -> L.Trainer:
    knobs = config.trainer
    minutes = knobs.max_minutes
    return L.Trainer(
        accelerator=knobs.accelerator,
        devices=_devices(knobs.devices),
        strategy=knobs.strategy,
        precision=_precision(knobs),
        max_epochs=knobs.epochs,
        max_time={"seconds": round(minutes * 60)} if minutes else None,
        accumulate_grad_batches=knobs.accumulate,
        gradient_clip_val=knobs.gradient_clip or None,
        callbacks=[
            *callbacks,
            EarlyStopping("val_loss", patience=knobs.patience, mode="min"),
            LearningRateMonitor("epoch"),
        ],
        logger=open_loggers(config, run),
        default_root_dir=run.path,
        reload_dataloaders_every_n_epochs=1,  # order and augmentation are functions of (seed, epoch, index)
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def _devices(text: str) -> str | int | list[int]:
    if "," in text:
        return [int(part) for part in text.split(",") if part.strip()]
    return int(text) if text.lstrip("-").isdigit() else text


def _precision(knobs: TrainerConfig) -> Any:
    if knobs.precision != "auto":
        return knobs.precision
    return "16-mixed" if torch.cuda.is_available() and knobs.accelerator in ("auto", "gpu", "cuda") else "32-true"


def _fit(trainer: L.Trainer, module: LesionModule, data: LesionData) -> None:
    """Fit; Interrupted on Ctrl-C, which Lightning turns into exit 1 and an ignored SIGINT."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data)
    except SystemExit as error:
        raise Interrupted("training was interrupted") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _keep_best(run: Run, best: ModelCheckpoint) -> None:
    if best.best_model_path:
        path = Path(best.best_model_path).resolve().relative_to(run.path.resolve())
        run.write_state(best_checkpoint=path.as_posix(), best_val_loss=float(best.best_model_score or 0))


def _with_remains(error: LesionError, run: Run, best: ModelCheckpoint) -> LesionError:
    """The same error, saying what is left of the run."""
    remains = (
        f"the best checkpoint so far is kept; `lesion export {run.path}` makes a model of it"
        if best.best_model_path
        else "no epoch was finished, so there is nothing to export"
    )
    return type(error)(error.message, hint=f"{error.hint}; {remains}" if error.hint else remains)


def _epoch_of(checkpoint: str) -> int:
    return int(Path(checkpoint).stem.partition("epoch=")[2].partition("-")[0] or 0) + 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's banners and advice go; its errors, and everything of lesion's, stay."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        for category in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(lightning|torch|torchmetrics)\b")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
