"""Work through many images block by block, in threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

THREADS = min(os.cpu_count() or 1, 8)


def map_blocks(function: Callable[[int], T], count: int, step: int) -> list[T]:
    """What `function` says of the start of each block of `step` out of `count`, in order."""
    # Threads: numpy lets go of the interpreter in nearly all of the work.
    with ThreadPoolExecutor(THREADS) as executor:
        return list(executor.map(function, range(0, count, step)))
