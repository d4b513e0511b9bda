"""How the process keeps the memory that it frees."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's mallopt
_NEVER = 2**31 - 1
_LARGEST = 32 * 2**20  # bytes; glibc takes no higher threshold of what it maps by itself

_kept = 0


def keep_freed_memory(most: int = _NEVER) -> bool:
    """Let glibc reuse what is freed, up to `most` bytes, rather than give it back; False where there is no glibc.

    Each step of a training frees and takes the same hundreds of megabytes, each answer the same few. Given back in
    between, every page of them has to be faulted in and cleared again, which took a fourth of the time of an epoch on
    a virtual machine. The peak stays what it was. Once more was allowed, less is not asked for.
    """
    global _kept
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    if most > _kept:
        all_of_it = most == _NEVER
        mapped = mallopt(_MMAP_MAX, 0) if all_of_it else mallopt(_MMAP_THRESHOLD, min(most, _LARGEST))
        _kept = most if mapped and mallopt(_TRIM_THRESHOLD, most) else 0
    return _kept >= most
