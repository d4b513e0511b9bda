"""How a key of the configuration is declared."""

from dataclasses import field
from typing import Any


def knob(
    default: Any,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    path: bool = False,
) -> Any:
    """A field with a default and the values it may take; `config.load` checks them all at once.

    In a `path`, which may also be an address, a leading `~` stands for the home folder.
    """
    limits = {"choices": choices, "at_least": at_least, "above": above, "at_most": at_most, "path": path or None}
    metadata = {name: limit for name, limit in limits.items() if limit not in (None, ())}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)
