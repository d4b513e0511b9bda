"""References such as `${data.root}` from one value of the configuration to another."""

import re
from collections.abc import Callable, Container, Mapping
from typing import Any

REFERENCE = re.compile(r"(\\*)\$\{(?:\s*([A-Za-z_][\w.]*)\s*\})?")
EXPANDED = 4096  # characters of a text with references


def has_reference(value: Any) -> bool:
    r"""Whether `${` stands in `value`, a text or a list of texts; also an escaped one, ``\${``."""
    return any("${" in each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))


def expand(text: str, find: Callable[[str], Any]) -> Any:
    r"""Return `text` with each `${key}` replaced by what `find(key)` returns, and ``\${`` by `${`.

    A text that is one reference and nothing else becomes the value itself. ValueError for anything else behind `${`:
    an expression that reads the environment could copy a secret into what is written down.
    """
    parts, end = [], 0
    for found in REFERENCE.finditer(text):
        slashes, key = found[1], found[2]
        parts.append(text[end : found.start()] + "\\" * (len(slashes) // 2))
        end = found.end()
        if len(slashes) % 2:
            parts.append(found[0][len(slashes) :])
        elif key is None:
            raise ValueError(
                f"{shorten(text[found.start() :])}: only references to other keys, such as ${{data.root}}, are "
                'supported; let the shell put in a value of the environment: KEY="$NAME"'
            )
        elif found[0] == text:
            return find(key)
        else:
            parts.append(str(find(key)))
        if sum(map(len, parts)) > EXPANDED:
            raise ValueError(f"more than {EXPANDED} characters")
    return "".join(parts) + text[end:]


class References:
    """The values of keys whose texts refer to other keys."""

    def __init__(self, texts: Mapping[str, Any], find_plain: Callable[[str], Any], known: Container[str]) -> None:
        """Keep `texts`, key → text or list with references; `find_plain` returns the value of any other known key."""
        self._texts, self._find_plain, self._known = texts, find_plain, known
        self._found: dict[str, Any] = {}
        self._via: list[str] = []

    def find(self, key: str) -> Any:
        """Return the value of `key`; ValueError when a reference leads nowhere, or back to where it stands."""
        if key not in self._known:
            raise ValueError(f"there is no key {key!r} to refer to")
        if key not in self._texts:
            return self._find_plain(key)
        if key in self._via:
            raise ValueError(f"refers to itself by {' → '.join((*self._via, key))}")
        if key not in self._found:  # each is worked out once: texts may name each other many times
            value = self._texts[key]
            self._via.append(key)
            try:
                self._found[key] = (
                    [expand(each, self.find) if isinstance(each, str) else each for each in value]
                    if isinstance(value, list)
                    else expand(value, self.find)
                )
            finally:
                self._via.pop()
        return self._found[key]


def escape(value: Any) -> Any:
    r"""Return `value` with every `${` in it, at any depth of dicts and lists, as ``\${``; `expand` undoes it."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    if isinstance(value, dict):
        return {key: escape(member) for key, member in value.items()}
    return [escape(member) for member in value] if isinstance(value, list) else value


def shorten(text: str) -> str:
    """Return at most 200 characters of `text`."""
    return text if len(text) <= 200 else f"{text[:200]}…"
