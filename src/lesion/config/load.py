"""Defaults ← YAML files ← key=value, checked as a whole, returned as plain dataclasses.

OmegaConf is imported in these functions only, and nothing of it leaves this file. It converts and checks types; it
never evaluates a text.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lesion.config.reading import Setting, leaves, read_overrides, read_yaml
from lesion.config.references import References, escape, has_reference, shorten
from lesion.config.schema import ALIASES, Config
from lesion.errors import ConfigError, brief
from lesion.files import expand_home, sha256
from lesion.redaction import redact
from lesion.run import find_name_problem
from lesion.suggest import nearest


def load_config(files: Sequence[Path] = (), overrides: Sequence[str] = ()) -> Config:
    """Merge `files`, in order, and `overrides` ("key=value") over the defaults.

    Raises ConfigError that lists every unknown key, wrong type and value out of range, each with its origin;
    NotFoundError for a missing file.
    """
    from omegaconf import OmegaConf

    settings = [setting for file in files for setting in read_yaml(file)] + read_overrides(overrides)
    origins = {setting.key: setting.origin for setting in settings}
    known = dict(leaves(Config()))
    problems = [_describe_unknown(setting, known) for setting in settings if setting.key not in known]
    merged, referring = OmegaConf.structured(Config), dict[str, Any]()
    for setting in settings:
        referring.pop(setting.key, None)
        if setting.key in known and has_reference(setting.value):
            referring[setting.key] = setting.value
        elif setting.key in known:
            problems += _set(merged, setting.key, setting.value, setting.origin)
    find = References(referring, lambda key: _get(merged, key), known).find
    for key in referring:
        try:
            value = find(key)
        except ValueError as error:
            problems.append(f"{origins[key]}: {key}: {error}")
        else:
            problems += _set(merged, key, escape(value), origins[key])
    problems += [
        line for key, field in known.items() if field.metadata.get("path") for line in _go_home(merged, key, origins)
    ]
    config: Any = OmegaConf.to_object(merged)
    problems += _out_of_range(config, origins)
    if problems:
        raise ConfigError(problems, hint="`lesion train --print-config` shows all keys; see docs/config.md")
    assert isinstance(config, Config)
    return config


def _set(merged: Any, key: str, value: Any, origin: str) -> list[str]:
    """Set `key` to `value`, or back to its default with a line on what is wrong."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(value, str) and OmegaConf.is_list(OmegaConf.select(merged, key)):
        return [f"{origin}: {key}: a list expected, got {shorten(repr(value))}; write {key}=[{shorten(value)}]"]
    try:
        OmegaConf.update(merged, key, value, merge=False)  # merging lets lists of lists through
        OmegaConf.select(merged, key, throw_on_missing=True)
    except OmegaConfBaseException as error:
        OmegaConf.update(merged, key, OmegaConf.select(OmegaConf.structured(Config), key), merge=False)
        return [f"{origin}: {key}: {shorten(brief(error))}"]
    return []


def _go_home(merged: Any, key: str, origins: Mapping[str, str]) -> list[str]:
    """Replace a leading `~` of a path as a shell does; a line on what is wrong when this user has no home."""
    path = _get(merged, key)
    try:
        return _set(merged, key, escape(expand_home(path)), origins[key]) if (path or "").startswith("~") else []
    except ValueError as error:
        return [f"{origins[key]}: {key}: {error}"]


def _get(merged: Any, key: str) -> Any:
    from omegaconf import OmegaConf

    found = OmegaConf.select(merged, key)
    return OmegaConf.to_object(found) if OmegaConf.is_config(found) else found


def to_yaml(config: Config) -> str:
    """The configuration as YAML that `load_config` reads back; user names and passwords in URLs are left out."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.create(escape(redact(asdict(config))))))


def fingerprint(config: Config) -> str:
    """12 hex digits that change whenever a value does."""
    return sha256(to_yaml(config).encode())[:12]


def shipped(kind: str, name: str) -> Path:
    """The file configs/<kind>/<name>.yaml that comes with lesion; ConfigError with the nearest name if none does."""
    package = Path(__file__).parents[1] / "configs"  # in an installed wheel
    folder = (package if package.is_dir() else Path(__file__).parents[3] / "configs") / kind
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        close = nearest(name, names)
        raise ConfigError(
            f"unknown {kind} {name!r}" + (f"; did you mean {close!r}?" if close else ""),
            hint=f"one of: {', '.join(names)}",
        )
    return folder / f"{name}.yaml"


def _describe_unknown(setting: Setting, known: Mapping[str, Any]) -> str:
    sections = {key.rpartition(".")[0] for key in known}
    if setting.key in sections - ALIASES.keys():
        inside = ", ".join(key for key in known if key.startswith(f"{setting.key}."))
        return f"{setting.origin}: {setting.key!r} is a section; set one of {inside}"
    leaf = setting.key.rpartition(".")[2]
    elsewhere = (key for key in known if key.rpartition(".")[2] == leaf)  # a right name in the wrong section
    close = ALIASES.get(setting.key) or next(elsewhere, None) or ALIASES.get(leaf) or nearest(setting.key, known)
    return f"{setting.origin}: unknown key {setting.key!r}" + (f"; did you mean {close!r}?" if close else "")


def _out_of_range(config: Config, origins: Mapping[str, str]) -> list[str]:
    problems = []
    for key, field in leaves(config):
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        expected = "" if value is None else _violated(value, field.metadata) or _find_text_problem(key, value)
        if expected:
            problems.append(f"{origins.get(key, 'defaults')}: {key}: {expected} expected, got {shorten(repr(value))}")
    return problems + [f"{_origin(origins, keys)}: {text}" for keys, text in _conflicts(config)]


def _find_text_problem(key: str, value: Any) -> str:
    """What is expected instead of a text that can be no path, or for `name` no folder's name."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    for text in texts:
        if "\0" in text or text != text.encode("utf-8", "replace").decode():
            return "Unicode text without NUL characters"
    return find_name_problem(value) if key == "name" else ""


def _conflicts(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Values that are right alone but not together: their keys, and what is wrong."""
    data, augment = config.data, config.augment
    if data.val + data.test >= 1:
        yield ("data.test", "data.val"), "data.val and data.test leave nothing for training"
    if data.folds == 1:
        yield ("data.folds",), "data.folds: 0, or at least 2 expected, got 1"
    if data.folds and data.calibration + data.test >= 1:
        yield ("data.calibration", "data.test"), "data.calibration and data.test leave nothing for the folds"
    if data.folds and data.val_fold is None and not data.calibration:
        yield ("data.val_fold", "data.calibration"), "data.val_fold=null: a share as data.calibration expected, got 0"
    if data.val_fold is not None and data.val_fold >= max(data.folds, 1):
        yield (
            ("data.val_fold", "data.folds"),
            f"data.val_fold: less than data.folds ({data.folds}) expected, got {data.val_fold}",
        )
    if augment.mixup + augment.cutmix > 1:
        yield (
            ("augment.cutmix", "augment.mixup"),
            f"augment.mixup and augment.cutmix: at most 1 together expected, got {augment.mixup + augment.cutmix:g}",
        )


def _origin(origins: Mapping[str, str], keys: Sequence[str]) -> str:
    return next((origins[key] for key in keys if key in origins), "defaults")


def _violated(value: Any, limits: Mapping[str, Any]) -> str:
    if "choices" in limits and value not in limits["choices"]:
        close = nearest(str(value), limits["choices"])
        return f"one of {', '.join(limits['choices'])}" + (f" (did you mean {close!r}?)" if close else "")
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    low, above, high = limits.get("at_least"), limits.get("above"), limits.get("at_most")
    if low is not None and value < low:
        return f"at least {low}"
    if above is not None and value <= above:
        return f"more than {above}"
    if high is not None and value > high:
        return f"at most {high}"
    return ""
