"""Markdown for the model card; what is given as cells and items is Markdown already."""

import re
from collections.abc import Iterable, Sequence

from lesion.escape import to_terminal


def to_markdown(text: object) -> str:
    """A text on one line that cannot become markup: neither Markdown's nor HTML's."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", to_terminal(text))


def draw_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines]) if lines else ""


def draw_list(items: Iterable[str]) -> str:
    """A list; empty without items."""
    return "\n".join(f"- {item}" for item in items)
