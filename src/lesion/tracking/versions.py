"""Versions of registered models, and which may replace which."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lesion.errors import ConfigError
from lesion.escape import to_terminal

ALIASES = ("staging", "production")
SPLITS = ("test", "val")  # what versions are compared on: the first that both know
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a file did on a split."""

    split: str
    """"train", "val" or "test"."""
    fingerprint: str
    """Of the split: figures compare only where it is the same."""
    figures: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Version:
    """One registered file."""

    name: str
    version: int
    """From 1."""
    sha256: str
    bytes: int
    registered: str
    """UTC, ISO 8601."""
    aliases: list[str]
    lineage: dict[str, str]
    """Those that are known of: model, run, folder, checkpoint, config and split (fingerprints), data, lesion, commit,
    dirty ("yes": with uncommitted changes), file (its address, if it was put elsewhere), quantized_from (SHA-256 of the
    file it was made of)."""
    evaluations: list[Evaluation]

    @property
    def reference(self) -> str:
        """What --model takes."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Promotion:
    """When an alias moved."""

    name: str
    alias: str
    previous: int | None
    """The version it stood at; None for the first."""
    version: int
    forced: str | None
    """Why it was refused without --force; None when it was not."""
    promoted: str
    """UTC, ISO 8601."""


def require_name(name: str) -> None:
    """ConfigError unless `name` can be the name of a model."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name of a model: 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-' expected, no sign first",
            hint="for example: ham",
        )


def to_line(text: str) -> str:
    """What a file says of itself, fit for a database and a terminal."""
    return to_terminal(text)[:500]


def to_figures(values: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers among `values`; None for what is none, or not finite: a file may say anything."""
    return {to_line(str(name)): _to_figure(value) for name, value in values.items()}


def _to_figure(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:  # an integer with hundreds of digits
        return None


def find_problem(new: Version, old: Version, alias: str) -> str | None:
    """Why `new` must not replace `old`, if so."""
    if new.sha256 == old.sha256:
        return None
    for split in SPLITS:
        ours, theirs = (_to_aurocs(version, split) for version in (new, old))
        common = sorted(ours.keys() & theirs.keys())
        for split_of in common:
            if ours[split_of] < theirs[split_of]:
                return (
                    f"{new.reference} is worse than {old.reference} in {alias}: {split} AUROC {ours[split_of]:.4f}, "
                    f"at least {theirs[split_of]:.4f} expected (split {split_of})"
                )
        if common:
            return None
    seen = [", ".join(sorted({each.fingerprint for each in version.evaluations})) or "none" for version in (new, old)]
    return (
        f"{new.reference} cannot be compared with {old.reference} in {alias}: they were measured on different splits "
        f"({seen[0]}; {seen[1]})"
    )


def _to_aurocs(version: Version, split: str) -> dict[str, float]:
    found = [(each.fingerprint, each.figures.get("auroc")) for each in version.evaluations if each.split == split]
    return {fingerprint: value for fingerprint, value in found if value is not None}
