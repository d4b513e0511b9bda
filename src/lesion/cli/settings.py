"""From a command's options to one checked configuration."""

from collections.abc import Sequence
from pathlib import Path

from lesion.config.schema import Config


def merge(
    overrides: Sequence[str] | None,
    files: Sequence[Path] | None,
    tier: str | None = None,
    env: str | None = None,
    first: Sequence[Path] = (),
    **flags: object,
) -> Config:
    """Defaults ← `first` ← tier ← environment ← files ← flags ← key=value."""
    from lesion.config.load import load_config, shipped

    layers = [
        *first,
        *(shipped(kind, name) for kind, name in (("tier", tier), ("env", env)) if name),
        *(files or ()),
    ]
    given = [f"{key.replace('__', '.')}={value}" for key, value in flags.items() if value is not None]
    return load_config(layers, [*given, *(overrides or ())])
