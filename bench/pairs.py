"""Two things timed in turn, so that a machine whose speed drifts slows both."""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

Run = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """Medians, and the median of the pairwise ratios."""

    ours: str
    theirs: str
    ours_s: float
    theirs_s: float
    ratio: float
    unit: str = "s"

    def __str__(self) -> str:
        mine, other = (
            _text(value) if self.unit == "s" else f"{value:8.1f} {self.unit}" for value in (self.ours_s, self.theirs_s)
        )
        return f"{self.ours:<38} {mine}   {self.theirs:<26} {other}   ratio {self.ratio:.3f}"


def _text(seconds: float) -> str:
    return f"{seconds:8.3f} s " if seconds >= 0.01 else f"{seconds * 1000:8.3f} ms"


def processor_time() -> float:
    """Seconds of processors, of this process and of those that it started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + used.ru_utime + used.ru_stime


def compare(
    ours: str,
    run_ours: Run,
    theirs: str,
    run_theirs: Run,
    repeats: int = 11,
    warm_ups: int = 1,
    our_items: int = 1,
    their_items: int = 1,
    clock: Callable[[], float] = perf_counter,
) -> Row:
    """Time both in turn, after some warm-ups; seconds are per item. A run may time itself, and return its seconds."""
    pairs = []
    for attempt in range(repeats + warm_ups):
        times = []
        for run, items in ((run_ours, our_items), (run_theirs, their_items)):
            start = clock()
            measured = run()
            times.append((measured if isinstance(measured, float) else clock() - start) / items)
        if attempt >= warm_ups:
            pairs.append(times)
    mine, other = zip(*pairs, strict=True)
    return Row(ours, theirs, median(mine), median(other), median(a / b for a, b in pairs))
