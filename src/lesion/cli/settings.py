"""From a command's options to one checked configuration."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from lesion.config.schema import Config
from lesion.errors import ConfigError

Flags = Mapping[str, str | float | None]
# What the keys begin with that a command uses; `lesion train` uses, or keeps, all.
USED = {
    "data audit": ("data.",),
    "data prepare": ("data.",),
    "data stats": ("data.",),
    "eval": ("data.", "eval.stress_images", "tracking.store"),
    "serve": ("serve.", "tracking.store"),
}
HAVE_MODEL = ("eval", "serve")


def merge(
    overrides: Sequence[str] | None,
    files: Sequence[Path] | None,
    env: str | None = None,
    flags: Flags | None = None,
    first: Sequence[Path] = (),
    command: str = "train",
) -> Config:
    """Defaults ← `first` ← environment ← files ← flags (configuration key → value, None if not given) ← key=value.

    Raises ConfigError as `load_config`, for a word of `overrides` that is no key=value, and for a key that `command`
    does not use: it would change nothing. A file may hold keys for several commands.
    """
    from lesion.config.load import load_config, shipped

    for word in overrides or ():
        _require_setting(word, command)
    layers = [*first, *([shipped("env", env)] if env else []), *(files or ())]
    given = [f"{key}={value}" for key, value in (flags or {}).items() if value is not None]
    merged = load_config(layers, [*given, *(overrides or ())])
    for word in overrides or ():
        _require_use(word, command)
    return merged


def merge_with_tier(
    overrides: Sequence[str] | None, files: Sequence[Path] | None, env: str | None, flags: Flags, tier: str | None
) -> Config:
    """The same over the tier's own file; without a `tier`, that of the one which the rest of the words name."""
    from lesion.config.load import shipped

    chosen = tier or merge(overrides, files, env, flags).model.tier
    return merge(overrides, files, env, flags, first=[shipped("tier", chosen)])


def is_model(word: str) -> bool:
    """Whether `word` names a model: *.onnx, a run folder, NAME@VERSION or NAME@ALIAS."""
    name, _, version = word.rpartition("@")
    is_version = bool(name) and (version.isdigit() or version in ("staging", "production"))
    # os.path, since Path's methods raise for a word that is too long for a name.
    is_reference = is_version and not set(word) & set("/\\") and not os.path.exists(word)  # noqa: PTH110
    is_run = os.path.isfile(os.path.join(word, "run.json"))  # noqa: PTH113, PTH118
    return is_reference or is_run or word.partition("#")[0].lower().endswith(".onnx")


def _require_setting(word: str, command: str) -> None:
    key, equals, _ = word.partition("=")
    if key and equals:
        return
    example = {"serve": "serve.port=8080"}.get(
        command, "trainer.epochs=5" if command == "train" else "data.root=FOLDER"
    )
    hint = f"for example: {example}"
    if command == "train" and os.path.isfile(os.path.join(word, "run.json")):  # noqa: PTH113, PTH118
        hint = f"lesion train --resume {shlex.quote(word)}"
    elif is_model(word) and command in HAVE_MODEL:
        hint = f"lesion {command} --model {shlex.quote(word)}"
    elif os.path.isdir(word) and command != "serve":  # noqa: PTH112
        hint = f"lesion {command} {shlex.quote(f'data.root={word}')}"
    raise ConfigError(f"command line: {word!r} is not of the form key=value", hint=hint)


def _require_use(word: str, command: str) -> None:
    key = word.partition("=")[0]
    if key.startswith(USED.get(command, ("",))):
        return
    hint = f"a model keeps what it was trained with; to train another: lesion train {shlex.quote(word)}"
    if key.startswith("serve."):
        hint = f"it belongs to the server: lesion serve {shlex.quote(word)}"
    elif not command.startswith("data") and key == "runs":
        hint = f"lesion {command} --runs FOLDER"
    raise ConfigError(f"command line: `lesion {command}` does not use {key}", hint=hint)
