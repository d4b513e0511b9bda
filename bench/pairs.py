"""Two things timed in turn, so that a machine whose speed drifts slows both."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

Run = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """Medians in seconds, and the median of the pairwise ratios."""

    ours: str
    theirs: str
    ours_s: float
    theirs_s: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"{self.ours:<34} {_text(self.ours_s)}   {self.theirs:<26} {_text(self.theirs_s)}   ratio {self.ratio:.3f}"
        )


def _text(seconds: float) -> str:
    return f"{seconds:8.3f} s " if seconds >= 0.01 else f"{seconds * 1000:8.3f} ms"


def compare(
    ours: str,
    run_ours: Run,
    theirs: str,
    run_theirs: Run,
    repeats: int = 11,
    warm_ups: int = 1,
    our_items: int = 1,
    their_items: int = 1,
) -> Row:
    """Time both in turn, after some warm-ups; seconds are per item. A run may time itself, and return its seconds."""
    pairs = []
    for attempt in range(repeats + warm_ups):
        times = []
        for run, items in ((run_ours, our_items), (run_theirs, their_items)):
            start = perf_counter()
            measured = run()
            times.append((measured if isinstance(measured, float) else perf_counter() - start) / items)
        if attempt >= warm_ups:
            pairs.append(times)
    mine, other = zip(*pairs, strict=True)
    return Row(ours, theirs, median(mine), median(other), median(a / b for a, b in pairs))
