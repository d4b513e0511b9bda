"""Bounds that figures must keep, for whoever lets a machine decide about a model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from lesion.errors import CheckFailed, ConfigError
from lesion.evaluation import Evaluation, Referral
from lesion.metrics import OF_CALIBRATION, measure
from lesion.records import Estimate
from lesion.suggest import lookup

FIGURES = (*measure([0.0, 1.0], [False, True], 0.5), *OF_CALIBRATION)
OF_REFERRAL = tuple(field.name for field in fields(Referral) if field.type is Estimate)
NAMES = (*FIGURES, *(f"lesion.{name}" for name in FIGURES), *(f"referral.{name}" for name in OF_REFERRAL))
ALIASES = {"ece": "calibration_error", "auprc": "average_precision", "recall": "sensitivity"}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure must at least, or at most, be."""

    figure: str
    at_least: bool
    limit: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a figure keeps its bound."""

    figure: str
    at_least: bool
    limit: float
    value: float | None
    passed: bool
    reason: str
    """Why there is no value; empty when there is one."""


def read_bounds(minima: Iterable[str], maxima: Iterable[str]) -> list[Bound]:
    """From "auroc=0.9" and the like; ConfigError for an unknown figure or a limit that is no number."""
    return [_read(text, True) for text in minima] + [_read(text, False) for text in maxima]


def check_bounds(evaluation: Evaluation, bounds: Sequence[Bound]) -> list[Verdict]:
    """The verdict on every bound: by the figure itself, not by its interval. What has no value does not pass."""
    return [_check(evaluation, bound) for bound in bounds]


def require(verdicts: Sequence[Verdict]) -> None:
    """CheckFailed that names the bounds which are not kept."""
    if failed := [verdict.figure for verdict in verdicts if not verdict.passed]:
        raise CheckFailed(f"{len(failed)} of {len(verdicts)} bounds not kept: {', '.join(failed)}")


def _read(text: str, at_least: bool) -> Bound:
    name, _, number = text.partition("=")
    prefix, dot, last = name.strip().rpartition(".")
    known = prefix + dot + ALIASES.get(last, last)
    lookup(dict.fromkeys(NAMES), known, "figure")
    try:
        limit = float(number)
    except ValueError:
        limit = float("nan")
    if limit != limit:
        raise ConfigError(f"{text!r}: a number expected after '='", hint=f"for example {known}=0.9")
    return Bound(known, at_least, limit)


def _check(evaluation: Evaluation, bound: Bound) -> Verdict:
    place, _, name = bound.figure.rpartition(".")
    if place == "referral":
        value = getattr(evaluation.referral, name).value
    else:
        value = (evaluation.lesion_metrics if place else evaluation.metrics)[name].value
    reason = "" if value is not None else evaluation.undefined.get(bound.figure, "it cannot be computed")
    passed = value is not None and (value >= bound.limit if bound.at_least else value <= bound.limit)
    return Verdict(bound.figure, bound.at_least, bound.limit, value, passed, reason)
