"""What a deployment is made of: a TOML file, checked as a whole before anything is touched."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from string import Template
from typing import Any, Self

HERE = Path(__file__).parent
IMAGE = re.compile(r"[a-z0-9.-]+(:\d+)?/[\w./-]+@sha256:[0-9a-f]{64}")
# Names become parts of commands and of YAML, so each must be a plain one.
PATTERNS = {
    "environment": r"development|staging|production",
    "project": r"[a-z][a-z0-9-]{4,28}[a-z0-9]",
    "regions": r"[a-z]+-[a-z]+[0-9]+",
    "service": r"[a-z][a-z0-9-]{0,30}",
    "tokens": r"[A-Za-z][A-Za-z0-9_-]{0,99}",
    "domain": r"([a-z0-9-]+\.)+[a-z]{2,}",
    "repository": r"[\w.-]+/[\w.-]+",
    "branch": r"[\w./-]+",
}


class Refusal(Exception):
    """Something is wrong before anything was touched."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a new revision is judged."""

    steps: tuple[int, ...] = (5, 50, 100)
    """Shares of the traffic, in per cent, rising to 100."""
    seconds: float = 300.0
    """Length of a step."""
    every_s: float = 5.0
    """Seconds between two images that the release sends."""
    latency_s: float = 2.0
    """An answer that takes longer counts as bad."""
    bad: float = 0.02
    """Largest share of bad answers in a step."""
    smoke_s: float = 60.0
    """Seconds until a new revision must answer at its own address."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One environment in the cloud."""

    environment: str
    project: str
    regions: tuple[str, ...]
    service: str
    domain: str
    repository: str
    tokens: str = ""
    branch: str = "main"
    min_instances: int = 1
    max_instances: int = 10
    watch: Watch = Watch()

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings of a file; Refusal that lists all that is wrong with it."""
        try:
            found = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise Refusal(f"{path}: {error}") from error
        watch = found.pop("watch", {})
        problems = _misfits(cls, found) + (_misfits(Watch, watch) if isinstance(watch, dict) else ["watch: no table"])
        if not problems:
            settings = cls(**_frozen(found), watch=Watch(**_frozen(watch)))
            problems = list(_odd_values(settings))
        if problems:
            raise Refusal("\n".join(f"{path.name}: {problem}" for problem in problems))
        return settings

    def render(self, image: str, revision: str, traffic: list[dict[str, Any]]) -> str:
        """The service file of a region, as `gcloud run services replace` reads it."""
        scalars = {field.name: getattr(self, field.name) for field in fields(self)}
        more = {"image": image, "revision": revision, "traffic": json.dumps(traffic)}
        return Template((HERE / "service.yaml").read_text("utf-8")).substitute(scalars, **more)


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _misfits(cls: type, table: Mapping[str, Any]) -> list[str]:
    """Keys that are unknown, missing, or of another type than their field."""
    known = {field.name: field for field in fields(cls) if field.name != "watch"}
    problems = [f"{key}: unknown; known are {', '.join(known)}" for key in table if key not in known]
    for name, field in known.items():
        if name not in table:
            problems += [f"{name}: missing"] if field.default is MISSING else []
        elif not _fits(table[name], field.type):
            problems.append(f"{name}: {table[name]!r} is no {getattr(field.type, '__name__', field.type)}")
    return problems


def _fits(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (str, int):
        return type(value) is kind
    inner = kind.__args__[0]
    return isinstance(value, list) and all(type(each) is inner for each in value)


def _odd_values(settings: Settings) -> list[str]:
    problems, watch = [], settings.watch
    for name, pattern in PATTERNS.items():
        value = getattr(settings, name)
        for each in value if isinstance(value, tuple) else (value,):
            if not re.fullmatch(pattern, each) and not (name == "tokens" and not each):
                problems.append(f"{name}: {each!r} is not of the form {pattern}")
    if not settings.regions or len(set(settings.regions)) < len(settings.regions):
        problems.append("regions: each once, and at least one")
    if not 1 <= settings.min_instances <= settings.max_instances:
        problems.append("min_instances: 1 or more, and at most max_instances")
    if list(watch.steps) != sorted({*watch.steps, 100}) or watch.steps[0] < 1:
        problems.append("watch.steps: rising, from 1 or more to 100")
    if min(watch.seconds, watch.every_s, watch.latency_s, watch.smoke_s) <= 0 or not 0 <= watch.bad < 1:
        problems.append("watch: times are above 0, and bad is 0 or more and below 1")
    return problems
