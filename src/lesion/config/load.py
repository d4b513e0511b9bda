"""Defaults ← YAML files ← key=value, checked as a whole, returned as plain dataclasses.

OmegaConf is imported in these functions only, and nothing of it leaves this file.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from lesion.config.schema import ALIASES, Config
from lesion.errors import ConfigError, NotFoundError, brief
from lesion.files import sha256
from lesion.redaction import redact
from lesion.suggest import nearest


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it came from."""

    key: str
    value: Any
    origin: str


def load_config(files: Sequence[Path] = (), overrides: Sequence[str] = ()) -> Config:
    """Merge `files`, in order, and `overrides` ("key=value") over the defaults.

    Raises ConfigError that lists every unknown key, wrong type and value out of range, each with its origin;
    NotFoundError for a missing file.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    settings = [setting for file in files for setting in _read_yaml(file)] + _read_overrides(overrides)
    origins = {setting.key: setting.origin for setting in settings}
    known = dict(_leaves(Config()))
    problems = [_describe_unknown(setting, known) for setting in settings if setting.key not in known]
    defaults, merged = OmegaConf.structured(Config), OmegaConf.structured(Config)
    for setting in settings:
        if setting.key in known:
            try:
                OmegaConf.update(merged, setting.key, setting.value, merge=False)  # merging lets lists of lists through
                OmegaConf.select(merged, setting.key, throw_on_missing=True)
            except OmegaConfBaseException as error:
                problems.append(f"{setting.origin}: {setting.key}: {brief(error)}")
                OmegaConf.update(merged, setting.key, OmegaConf.select(defaults, setting.key), merge=False)
    try:
        config: Any = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:  # an interpolation whose target a later setting changed
        key = str(error.full_key).partition("[")[0]
        problems.append(f"{origins.get(key, 'defaults')}: {key}: {brief(error)}")
        config = Config()
    problems += _out_of_range(config, origins)
    if problems:
        raise ConfigError("\n".join(problems), hint="`lesion train --print-config` shows all keys; see docs/config.md")
    assert isinstance(config, Config)
    return config


def to_yaml(config: Config) -> str:
    """The configuration as YAML that `load_config` reads back; user names and passwords in URLs are left out."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.create(redact(asdict(config)))))


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


def _leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def _read_yaml(path: Path) -> list[Setting]:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        data = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError as error:
        raise NotFoundError(f"no such configuration file: {path}", hint="check the path") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: a mapping of keys to values expected, got {type(data).__name__}")
    return [Setting(key, value, str(path)) for key, value in _flatten(data)]


def _flatten(data: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    sections = {key.rpartition(".")[0] for key, _ in _leaves(Config())}
    for name, value in data.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key in sections:
            yield from _flatten(value, f"{key}.")
        elif value is not None or key not in sections:  # an empty section changes nothing
            yield key, value


def _read_overrides(overrides: Sequence[str]) -> list[Setting]:
    from omegaconf import OmegaConf

    settings = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"command line: {text!r} is not of the form key=value", hint="for example: trainer.epochs=5"
            )
        try:
            parsed = OmegaConf.to_container(OmegaConf.create(f"value: {value}"))
        except Exception as error:  # yaml and OmegaConf have no common base class
            raise ConfigError(f"command line: {key}: {value!r} is not a YAML value") from error
        assert isinstance(parsed, dict)
        settings.append(Setting(key, parsed["value"], "command line"))
    return settings


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
    for key, field in _leaves(config):
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if value is not None and (expected := _violated(value, field.metadata)):
            problems.append(f"{origins.get(key, 'defaults')}: {key}: {expected} expected, got {value!r}")
    return problems + [f"{_origin(origins, keys)}: {text}" for keys, text in _conflicts(config)]


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
