"""One did-you-mean for keys, models, labels and splits."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from lesion.errors import ConfigError

T = TypeVar("T")


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, or None when nothing is close."""
    found = get_close_matches(word.lower(), list(choices), n=1, cutoff=0.5)
    return found[0] if found else None


def lookup(choices: Mapping[str, T], word: str, kind: str) -> T:
    """`choices[word]`, or a ConfigError that names the nearest and all choices."""
    if word in choices:
        return choices[word]
    close = nearest(word, choices)
    raise ConfigError(
        f"unknown {kind} {word!r}" + (f"; did you mean {close!r}?" if close else ""),
        hint=f"one of: {', '.join(choices)}",
    )
