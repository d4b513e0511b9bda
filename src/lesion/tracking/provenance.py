"""Where a run comes from: commit, versions, machine type."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe_source(folder: Path) -> dict[str, str]:
    """`commit` and `dirty` ("yes" or "no", untracked files not counted) of the git checkout around `folder`.

    Empty when there is no checkout, or no git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, **({} if changes is None else {"dirty": "yes" if changes else "no"})}


def describe_environment() -> dict[str, str]:
    """Versions of Python and torch (if installed), the system, and the cores this process may use."""
    found = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
    }
    try:
        return {**found, "torch": version("torch")}
    except PackageNotFoundError:
        return found


def _git(folder: Path, *words: str) -> str | None:
    try:
        # Without optional locks: `git status` must not stand in the way of a commit made at the same time.
        done = subprocess.run(
            ["git", "--no-optional-locks", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
