"""Two things timed in turn, so that a machine whose speed drifts slows both."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter


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
            f"{self.ours:<32} {self.ours_s:8.3f} s   {self.theirs:<24} {self.theirs_s:8.3f} s   ratio {self.ratio:.2f}"
        )


def compare(
    ours: str, run_ours: Callable[[], None], theirs: str, run_theirs: Callable[[], None], repeats: int = 11
) -> Row:
    """Time both in turn, after one warm-up each."""
    pairs = []
    for attempt in range(repeats + 1):
        times = []
        for run in (run_ours, run_theirs):
            start = perf_counter()
            run()
            times.append(perf_counter() - start)
        if attempt:
            pairs.append(times)
    mine, other = zip(*pairs, strict=True)
    return Row(ours, theirs, median(mine), median(other), median(a / b for a, b in pairs))
