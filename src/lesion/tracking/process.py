"""Which process a run belongs to, and whether it still lives."""

import platform

import psutil

TOLERANCE = 2.0  # seconds; a start time is derived from the clock, which may be set a little


def describe_process() -> dict[str, str | int | float]:
    """Host, process id and start time (seconds since 1970) of this process."""
    process = psutil.Process()
    return {"host": platform.node(), "pid": process.pid, "born": process.create_time()}


def has_died(host: str, pid: int, born: float) -> bool:
    """Whether the process is of this host and gone; an id that another process took since does not count as it."""
    if host != platform.node():
        return False
    try:
        process = psutil.Process(pid)
        return bool(abs(process.create_time() - born) > TOLERANCE or process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
