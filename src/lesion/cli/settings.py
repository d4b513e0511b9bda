"""From a command's options to one checked configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lesion.config.schema import Config

Flags = Mapping[str, str | float | None]


def merge(
    overrides: Sequence[str] | None,
    files: Sequence[Path] | None,
    env: str | None = None,
    flags: Flags | None = None,
    first: Sequence[Path] = (),
) -> Config:
    """Defaults ← `first` ← environment ← files ← flags (configuration key → value, None if not given) ← key=value."""
    from lesion.config.load import load_config, shipped

    layers = [*first, *([shipped("env", env)] if env else []), *(files or ())]
    given = [f"{key}={value}" for key, value in (flags or {}).items() if value is not None]
    return load_config(layers, [*given, *(overrides or ())])


def merge_with_tier(
    overrides: Sequence[str] | None, files: Sequence[Path] | None, env: str | None, flags: Flags, tier: str | None
) -> Config:
    """The same over the tier's own file; without a `tier`, that of the one which the rest of the words name."""
    from lesion.config.load import shipped

    chosen = tier or merge(overrides, files, env, flags).model.tier
    return merge(overrides, files, env, flags, first=[shipped("tier", chosen)])
