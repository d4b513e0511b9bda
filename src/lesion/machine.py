"""What this machine is, as far as figures that were measured on it depend on it."""

import platform
import sys
from contextlib import suppress
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# From the fastest down; those of EXACT multiply 8-bit integers into 32 bits, the others lose what 16 bits cannot hold.
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512f", "avx2", "asimd")
EXACT = {"amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "asimd"}
UNKNOWN = "unknown"


def find_instructions(cpuinfo: Path = CPUINFO) -> str:
    """The best of INSTRUCTIONS that the processor has; "unknown" where the system does not tell."""
    words: set[str] = set()
    with suppress(OSError):
        for line in cpuinfo.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                words |= {*value.split()}
    if platform.machine() == "arm64":  # macOS has no such file; every one of its processors has these
        words.add("asimddp")
    return next((each for each in INSTRUCTIONS if each in words), UNKNOWN)


def name_processor(cpuinfo: Path = CPUINFO) -> str:
    """What the processor calls itself."""
    with suppress(OSError):
        for line in cpuinfo.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def peak_memory() -> int | None:
    """Most bytes of memory that this process ever held at once; None where the system does not tell."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "darwin":
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return None
