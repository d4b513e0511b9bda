"""From a configuration to a finished run: data, network, Trainer, exported best weights."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor

from lesion import __version__
from lesion.config.load import fingerprint, to_yaml
from lesion.config.schema import Config
from lesion.data.datamodule import LesionData
from lesion.data.split import Dataset, open_dataset
from lesion.engine.checkpoint import find_last, list_checkpoints, read_checkpoint
from lesion.engine.custody import Custody
from lesion.engine.export import export_run
from lesion.engine.guard import Guard
from lesion.engine.history import carry_over
from lesion.engine.keeper import Keeper, require_space
from lesion.engine.module import LesionModule
from lesion.engine.ranks import Followed
from lesion.engine.resume import recipe, require_resumable, require_same_data, warn_of_changes
from lesion.engine.system import DataMetrics, SystemMetrics
from lesion.engine.tracking import Tracking, open_tracking
from lesion.engine.trainer import Patience, make_trainer, quiet
from lesion.engine.watch import Watch
from lesion.errors import ConfigError
from lesion.exports import ExportReport
from lesion.files import ensure_folder, write_atomic
from lesion.memory import keep_freed_memory
from lesion.models import build, count_parameters
from lesion.progress import Progress, Silent
from lesion.records import TrainReport
from lesion.run import FINISHED, Run, now
from lesion.taxonomy import Taxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Material:
    """What a training starts from."""

    dataset: Dataset
    data: LesionData
    module: LesionModule


def train(config: Config, progress: Progress | None = None, resume: Run | None = None) -> TrainReport:
    """Train, keep the best and the last checkpoints, export the best one.

    With `resume`, go on with that run after its last finished epoch; on the same machine its weights become those of
    an uninterrupted training to the bit. All that can be checked beforehand is: configuration, data, every image,
    weights, the output folder, its free space.

    Raises:
        Interrupted, Terminated: Ctrl-C, SIGTERM; the finished epochs are kept.
        NonFiniteError: the loss or a weight became NaN or infinite; likewise.
        OutputError: the disk is full, or another process trains `resume`; likewise.
        OutOfMemory: the memory does not suffice; likewise.
        CheckFailed: the exported file disagrees with the trained network; likewise.
        ConfigError: `resume` is finished, or `config` differs from its own in what decides about its weights.
        Further errors as in `open_dataset`, `models.build` and `Run.create`.
    """
    with Custody(config) as custody, quiet():
        ranks = custody.gather()
        show = progress if progress and ranks.first else Silent()
        config, resume = ranks.broadcast((config, resume))
        run, material = begin(config, custody, show, resume)
        about = {"data": material.data.fingerprint, "split": material.dataset.fingerprint}
        with open_tracking(config, run, about, resume is not None) as tracking:
            keeper, watch = fit(config, run, material, custody, tracking, show)
            if keeper.best_epoch is None:
                raise ConfigError(
                    f"trainer.max_minutes: {config.trainer.max_minutes} minutes were over before the first epoch was",
                    hint="start a new run with more of them, or without: trainer.max_minutes=null",
                )
            best = run.path / keeper.name(keeper.best_epoch)
            exported = ranks.broadcast(finish(run, best, tracking, show) if ranks.first else None)
    return TrainReport(
        run=str(run.path),
        model=exported.model,
        tier=config.model.tier,
        parameters=count_parameters(material.module.classifier),
        epochs=max(keeper.losses) + 1,
        best_epoch=keeper.best_epoch + 1,
        best_checkpoint=str(best),
        seconds=watch.seconds,
        images_per_second=watch.images_per_second,
        validation=exported.validation,
    )


def begin(config: Config, custody: Custody, progress: Progress, resume: Run | None = None) -> tuple[Run, Material]:
    """Check all that can be checked, then make the run's folder or take up `resume`; `custody` is told of it.

    Of several processes the first does it, and the others follow: they find the images decoded, and get its weights.
    """
    ranks = custody.ranks
    if not ranks.first:
        path: Path = ranks.broadcast()
        return Followed(path, ranks.facts), prepare(config, progress, fresh=False)
    if resume is not None:
        custody.lock(resume)
        require_resumable(resume, config, ranks.world)
    ensure_folder(Path(config.runs) if resume is None else resume.checkpoints)
    material = prepare(config, progress, fresh=resume is None or not list_checkpoints(resume))
    run = _create_run(config, material, custody) if resume is None else _reopen(resume, config, material)
    custody.begin(run, config=fingerprint(config), recipe=recipe(config), processes=ranks.world)
    ranks.broadcast(run.path)
    log.info("%s: %d training images, split %s", run.path, len(material.data.train), material.dataset.fingerprint)
    return run, material


def fit(
    config: Config, run: Run, material: Material, custody: Custody, tracking: Tracking, progress: Progress
) -> tuple[Keeper, Watch]:
    """Train after the last checkpoint of `run`, if any, until the last epoch, early stopping or the time limit."""
    data, module, ranks = material.data, material.module, custody.ranks
    last = ranks.broadcast(find_last(run, module.state_dict()) if ranks.first else None)
    keeper, guard = Keeper(run), Guard(run, data, tracking.log_steps if ranks.first else None)
    watch = Watch(progress, guard, config.trainer.epochs, len(data.train))
    rates, patience = LearningRateMonitor("epoch"), Patience(config.trainer.patience)
    figures = [SystemMetrics(), DataMetrics(run.path, data)]
    callbacks = [guard, watch, custody.stop, *figures, rates, patience, keeper]
    try:
        trainer = make_trainer(config, run.path, callbacks, tracking.loggers)
        facts = describe_place(trainer)
        if ranks.first:
            warn_of_changes(run, **facts)
            run.write_state(**facts)
        if last is not None and ranks.first:
            log.info("goes on after %s", last.name)
            carry_over(trainer.loggers, int(read_checkpoint(last)["global_step"]))
        # weights_only: no code in a checkpoint is ever run.
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True if last else None)
    except SystemExit as error:  # what Lightning makes of a second Ctrl-C
        raise custody.stop.error() from error
    return keeper, watch


def finish(run: Run, best: Path, tracking: Tracking, progress: Progress) -> ExportReport:
    """Export the checkpoint `best` and record that the run is finished."""
    exported = export_run(run, progress)
    run.write_state(status=FINISHED, finished=now(), model=exported.name, validation=exported.validation)
    tracking.add_artifact(best, "checkpoint")
    tracking.add_artifact(run.model, "model")
    if tracking.mirror:
        tracking.mirror.log_model(run.model, exported.validation)
    tracking.finish(FINISHED, {f"val_{name}": value for name, value in exported.validation.items()})
    return exported


def describe_place(trainer: L.Trainer) -> dict[str, str]:
    """What the last bits of the weights depend on besides configuration and data."""
    device = trainer.strategy.root_device.type
    return {
        "version": __version__,
        "device": f"{device} with {torch.get_num_threads()} threads" if device == "cpu" else device,
        "precision": str(trainer.precision),
    }


def prepare(config: Config, progress: Progress, fresh: bool = True) -> Material:
    """Data and network; without `fresh` no pretrained weights are fetched, since a checkpoint will bring its own."""
    keep_freed_memory()
    dataset = open_dataset(config.data, progress)
    L.seed_everything(config.seed, workers=True, verbose=False)
    taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
    model = config.model if fresh else replace(config.model, pretrained=False, weights=None)
    classifier = build(model, len(taxonomy.labels))
    data = LesionData(config, dataset, progress)
    return Material(dataset, data, LesionModule(classifier, taxonomy, config, data.train.counts))


def _create_run(config: Config, material: Material, custody: Custody) -> Run:
    require_space(Path(config.runs), material.module.state_dict().values())
    run = Run.create(Path(config.runs), config.model.tier, config.name)
    custody.lock(run)
    write_atomic(run.config, to_yaml(config))
    run.write_state(**_describe_data(material))
    return run


def _describe_data(material: Material) -> dict[str, str]:
    data, dataset = material.data, material.dataset
    return {"split": dataset.fingerprint, "images": data.fingerprint, "data": dataset.name}


def _reopen(run: Run, config: Config, material: Material) -> Run:
    require_same_data(run, material.dataset, material.data)
    state = run.read_state()
    if lost := {name: value for name, value in _describe_data(material).items() if state.get(name) is None}:
        log.warning("run.json did not say which data %s began with: those of its configuration are recorded", run.path)
        run.write_state(**lost)
    present = sum(path.stat().st_size for path in list_checkpoints(run))
    require_space(run.path, material.module.state_dict().values(), present)
    write_atomic(run.config, to_yaml(config))
    return run
