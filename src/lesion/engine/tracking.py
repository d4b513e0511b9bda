"""What a training records as it runs: the store of runs always, metrics.csv in its folder, W&B when asked."""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only

from lesion import __version__
from lesion.config.schema import Config
from lesion.engine.mirror import Mirror, open_mirror
from lesion.engine.module import FIGURES
from lesion.errors import Interrupted, LesionError, brief
from lesion.run import FINISHED, Run
from lesion.tracking.database import store_url
from lesion.tracking.provenance import describe_environment, describe_source
from lesion.tracking.store import Store, Value, digest

log = logging.getLogger(__name__)


@contextmanager
def open_tracking(config: Config, run: Run, about: Mapping[str, str], resume: bool = False) -> Iterator["Tracking"]:
    """Record a training in the store; when the block is left, how it ended.

    Args:
        config: the resolved configuration; secrets in URLs are not recorded.
        run: its folder.
        about: what else is known of it: "data" and "split" (fingerprints), for example. Commit and environment are
            added.
        resume: go on with what is recorded of `run`.

    Raises what `open_engine` does, before any training. Later a store that fails costs a warning, nothing else.
    """
    tracking = Tracking(config, run, about, resume)
    try:
        yield tracking
    except BaseException as error:
        tracking.finish("interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed")
        raise
    tracking.finish(FINISHED)


class Tracking:
    """The records of one training; in all processes of it but the first, nothing is written."""

    def __init__(self, config: Config, run: Run, about: Mapping[str, str], resume: bool) -> None:
        self.run = run
        self._values: list[Value] = []
        self._waiting: list[tuple[str, int, float]] = []  # values whose epoch is not known yet
        self._artifacts: dict[str, str] = {}  # path in the run → kind
        self._epoch = 0
        self._warned = self._finished = False
        first = not getattr(rank_zero_only, "rank", None)
        self._store = Store.open(store_url(config.tracking.store, run.path.parent)) if first else None
        try:
            self.mirror: Mirror | None = open_mirror(config, run)
        except BaseException:
            if self._store is not None:
                self._store.close()
            raise
        if self._store is not None:
            known = {"lesion": __version__, **describe_environment(), "device": _name_device(config)}
            known |= {**describe_source(Path.cwd()), **about}
            self._id = self._store.start(run.path, config.model.tier, asdict(config), known, resume)
        self.loggers: list[Logger] = [
            StoreLogger(self),
            CSVLogger(save_dir=run.path, name="", version="metrics"),
            *([self.mirror.logger] if self.mirror else []),
        ]
        """For the Trainer."""

    def log(self, values: Mapping[str, float], step: int, epoch: int | None = None) -> None:
        """Record metrics of a step; without an epoch they belong to the next values that have one.

        An epoch is written as a whole, in one transaction, when the first value of the next one arrives.
        """
        if self._values and (epoch is None or epoch > self._epoch):
            self.flush()
        if epoch is None:
            self._waiting += [(name, step, value) for name, value in values.items()]
            return
        self._epoch = epoch
        self._settle()
        self._values += [(name, step, epoch, value) for name, value in values.items()]

    def log_steps(self, name: str, steps: npt.NDArray[np.int64], values: npt.NDArray[np.float32], epoch: int) -> None:
        """Record the (n,) values of an epoch at its (n,) global steps; `name` ends in "_step", as Lightning's do."""
        if self._values and epoch > self._epoch:
            self.flush()
        self._epoch = epoch
        self._values += [
            (name, step, epoch, value) for step, value in zip(steps.tolist(), values.tolist(), strict=True)
        ]

    def add_artifact(self, path: Path, kind: str) -> None:
        """Record a file of the run with its digest; `kind` is "model", "checkpoint" and the like."""
        folder, whole = self.run.path.resolve(), path.resolve()
        self._artifacts[(whole.relative_to(folder) if whole.is_relative_to(folder) else whole).as_posix()] = kind
        self.flush()

    def flush(self) -> None:
        """Write what was recorded since the last time; what cannot be written is kept for the next time."""
        store = self._store
        if store is None:
            return
        try:
            store.log(self._id, self._values)
            self._values.clear()
            for path, kind in list(self._artifacts.items()):
                store.add_artifact(self._id, path, kind, *digest(self.run.path / path))
                del self._artifacts[path]
        except Exception as error:  # whatever it is, no training ends for it
            self._warn(error)

    def finish(self, status: str, summary: Mapping[str, float | None] | None = None) -> None:
        """Record how the training ended and its figures ("val_auroc" …); of several calls the first counts."""
        if self._finished:
            return
        self._finished = True
        self._settle()
        self.flush()
        if self._store is not None:
            lost = [f"{len(self._values)} values"] if self._values else []
            lost += [f"the file {path}" for path in self._artifacts]
            try:
                self._store.finish(self._id, status, summary)
            except Exception as error:  # see flush
                self._warn(error)
                lost.append(f"that it {status}" if status == FINISHED else f"that it was {status}")
            if lost:
                log.warning("not in the store of runs: %s; %s has everything", ", ".join(lost), self.run.path)
            self._store.close()
        if self.mirror:
            self.mirror.finish(failed=status != FINISHED)

    def _settle(self) -> None:
        self._values += [(name, step, self._epoch, value) for name, step, value in self._waiting]
        self._waiting.clear()

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            said = error.message if isinstance(error, LesionError) else f"{type(error).__name__}: {brief(error)}"
            log.warning("the store of runs cannot be written, training goes on without it: %s", said)
        self._warned = True


class StoreLogger(Logger):
    """Lightning's metrics, handed to the store."""

    def __init__(self, tracking: Tracking) -> None:
        super().__init__()
        self._tracking = tracking

    @property
    def name(self) -> str:
        """No name of its own."""
        return ""

    @property
    def version(self) -> str:
        """The run's name."""
        return self._tracking.run.path.name

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record `metrics` of a global step; Lightning puts the epoch among them, except for the learning rate."""
        values = {name: float(value) for name, value in metrics.items()}
        if "val_loss" in values:  # what is undefined in this epoch becomes a gap
            values = {f"val_{name}": math.nan for name in FIGURES} | values
        epoch = values.pop("epoch", None)
        self._tracking.log(values, step or 0, None if epoch is None else int(epoch))

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the whole configuration is recorded when the run starts."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last epoch."""
        self._tracking.flush()


def _name_device(config: Config) -> str:
    if config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "MPS" if config.trainer.accelerator in ("auto", "gpu", "mps") and torch.mps.is_available() else "CPU"
