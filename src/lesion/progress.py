"""How long work tells how far it is, without knowing who listens."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """One bar at a time. The command line shows it on a terminal; a notebook may bring its own."""

    def begin(self, label: str, total: int, unit: str = "") -> None:
        """Start a bar of `total` steps; of unit "B" they are bytes, shown with their rate."""

    def advance(self, steps: int = 1, **figures: float) -> None:
        """So many steps further, or back; `figures` are shown beside the bar."""

    def end(self) -> None:
        """Remove the bar."""


class Silent:
    """Progress that nobody watches."""

    def begin(self, label: str, total: int, unit: str = "") -> None:
        """Say nothing."""

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""


def track(progress: Progress, items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield `items`, advancing `progress` after each."""
    progress.begin(label, total)
    try:
        for item in items:
            yield item
            progress.advance()
    finally:
        progress.end()
