"""How long work tells how far it is, without knowing who listens."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


@contextmanager
def show_bar(progress: Progress, label: str, total: int) -> Iterator[None]:
    """Show a bar of `total` steps inside the context, and remove it however that ends."""
    progress.begin(label, total)
    try:
        yield
    finally:
        progress.end()


def track(progress: Progress, items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield `items`, advancing `progress` after each."""
    with show_bar(progress, label, total):
        for item in items:
            yield item
            progress.advance()
