"""What must hold before a run is continued: the same configuration, the same data, and something left to do."""

import logging
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.data.datamodule import LesionData
from lesion.data.split import Dataset
from lesion.errors import ConfigError, DataError
from lesion.files import sha256
from lesion.run import FINISHED, Run

log = logging.getLogger(__name__)
# What may differ from the run's own configuration, since no weight depends on it; "x." is a whole section.
FREE = ("runs", "data.root", "data.processed", "data.workers", "data.memory_gb", "trainer.max_minutes",
        "export.", "serve.", "tracking.")  # fmt: skip


def recipe(config: Config) -> str:
    """12 hex digits that change whenever a value does on which the weights depend."""
    return sha256(repr(list(_decisive(config))).encode())[:12]


def require_resumable(run: Run, wanted: Config, processes: int = 1) -> None:
    """ConfigError when `run` is finished, its config.yaml was changed, or `wanted` would train other weights.

    So would another number of `processes`: they share an epoch's images, each with batches of its own.
    """
    state = run.read_state()
    if state.get("status") == FINISHED:
        raise ConfigError(
            f"{run.path} is finished, nothing is left to resume",
            hint=f"`lesion predict IMAGE --model {run.path}` uses it; `lesion train` starts a new run",
        )
    own = load_config([run.config])
    if state.get("recipe") not in (None, recipe(own)):
        raise ConfigError(
            f"{run.config} is not the configuration that the run began with: it was changed, or this is another "
            "version of lesion",
            hint=f"restore it, or start a new run with `lesion train --config {run.config}`",
        )
    if state.get("processes") not in (None, processes):
        raise ConfigError(
            f"{run.path} was trained by {state['processes']} processes, one a device, now there are {processes}",
            hint="resume it with as many devices, or start a new run",
        )
    asked = dict(_decisive(wanted))
    differing = [
        f"{key}: {value} in the run, {asked[key]} asked for" for key, value in _decisive(own) if value != asked[key]
    ]
    if differing:
        raise ConfigError(
            ["a run is resumed with its own configuration", *differing],
            hint="leave them out, or start a new run; " + ", ".join(key.rstrip(".") for key in FREE) + " may differ",
        )


def require_same_data(run: Run, dataset: Dataset, data: LesionData) -> None:
    """DataError when the split or the images are not those that the run began with."""
    state = run.read_state()
    for what, known, found in (
        ("split", state.get("split"), dataset.fingerprint),
        ("images", state.get("images"), data.fingerprint),
    ):
        if known not in (None, found):
            raise DataError(
                f"{run.path} was trained on other data: the fingerprint of its {what} is {known}, that of "
                f"{dataset.root} is {found}",
                hint="name the data it was trained on with data.root=FOLDER and data.processed=FOLDER, or train anew",
            )


def warn_of_changes(run: Run, **facts: str) -> None:
    """Say when the device, the precision or the version is not what the run began with: its bits may differ then."""
    state = run.read_state()
    for name, found in facts.items():
        if state.get(name) not in (None, found):
            log.warning("the run was trained with %s %s, now %s: its weights can differ in the last bits",
                        name, state[name], found)  # fmt: skip


def _decisive(config: Config) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in _values(config) if not key.startswith(FREE))


def _values(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            yield from _values(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value
