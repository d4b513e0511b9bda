"""How the process keeps its memory while it trains on a CPU."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc reuse what is freed rather than give it back; False where there is no glibc.

    Each step of a training frees and takes the same hundreds of megabytes. Given back in between, every page of them
    has to be faulted in and cleared again, which took a fourth of the time of an epoch on a virtual machine. The peak
    stays what it was.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
