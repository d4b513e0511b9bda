"""How many processors this process may really use."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(quota: Path = CGROUP) -> int:
    """Processors by affinity and by the container's quota; onnxruntime alone would count the host's."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text().split()
        return max(1, min(affinity, math.ceil(int(limit) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup v2, or "max"
        return max(1, affinity)
