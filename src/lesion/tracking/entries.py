"""Runs as they are read from the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lesion.records import Estimate

# Words in the name of a figure of which less is better.
LESS = ("loss", "brier", "error", "seconds", "latency", "memory", "mb", "bytes")
SPLITS = ("train_", "val_", "test_")


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run on a line."""

    id: int
    name: str
    path: str
    """Its folder: where it was made, or where the store of a moved folder of runs finds it."""
    tier: str
    status: str
    """"running", "finished", "failed", "interrupted", or "died": running, but its process on this host is gone."""
    started: str
    """UTC, ISO 8601, as are all times."""
    ended: str | None
    seconds: float
    """From the start to the end or, while it runs, to the last thing it recorded."""
    epochs: int
    """Epochs of which something is recorded."""
    split: str
    """Fingerprint of the split, empty if unknown: figures of different splits do not compare."""
    kept_epoch: int | None
    """The epoch, from 1, with the lowest validation loss, whose checkpoint is kept; None without one."""
    figures: dict[str, float]
    """What was recorded of the run as a whole and, for any other metric, its value in the kept epoch."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over a training."""

    steps: list[int]
    epochs: list[int]
    """The epoch of each value, from 0."""
    values: list[float | None]
    """None: NaN or infinity."""


@dataclass(frozen=True, slots=True)
class ArtifactEntry:
    """A file that a run made."""

    path: str
    """Within the run's folder."""
    kind: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RunDetail:
    """All that is recorded of a run."""

    entry: RunEntry
    intervals: dict[str, Estimate] = field(default_factory=dict)
    """Recorded figures with their 95 % intervals."""
    config: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    """Dotted key → JSON text."""
    facts: dict[str, str] = field(default_factory=dict)
    artifacts: list[ArtifactEntry] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)


def is_less_better(name: str) -> bool:
    """Whether a smaller value of the figure is the better one: of losses, errors, times and sizes."""
    return any(word in LESS for word in name.lower().partition("@")[0].replace("-", "_").split("_"))


def find_best(name: str, values: Sequence[float | None]) -> set[int]:
    """Where the best of the values of a figure stand.

    None does when there is nothing to choose, or when the figure says nothing of quality: only those of a split do.
    """
    known = [value for value in values if value is not None]
    if len(set(known)) < 2 or not is_quality(name):
        return set()
    best = (min if is_less_better(name) else max)(known)
    return {index for index, value in enumerate(values) if value == best}


def drop_groups(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The curves with one learning rate, the highest, in place of those of all parameter groups (lr-AdamW/pg1 …)."""
    groups = [name for name in curves if name.startswith("lr") and "/pg" in name]
    kept = max(groups, key=lambda name: max(value or 0 for value in curves[name].values), default=None)
    return {name: curve for name, curve in curves.items() if name == kept or name not in groups}


def is_quality(name: str) -> bool:
    """Whether the figure is one of a split: a loss, an AUROC; no time, no memory."""
    return name.startswith(SPLITS)


def is_per_step(name: str) -> bool:
    """Whether a metric has a value for every step rather than every epoch: Lightning's suffix."""
    return name.endswith("_step")


def find_differences(details: Sequence[RunDetail]) -> dict[str, list[str]]:
    """Parameter → its JSON text in each run, empty where a run has none; only those that are not the same in all."""
    keys = dict.fromkeys(key for detail in details for key in detail.parameters)
    values = {key: [detail.parameters.get(key, "") for detail in details] for key in keys}
    return {key: texts for key, texts in values.items() if len(set(texts)) > 1}
