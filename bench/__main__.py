"""Runs every measurement and prints one line each."""

import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from bench import startup
from lesion.inference.threads import usable_cpus

if __name__ == "__main__":
    print(f"{platform.processor() or platform.machine()}, {usable_cpus()} cores, Python {platform.python_version()}, "
          f"lesion {version('lesion')}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for row in startup.measure(Path(folder)):
            print(row)
