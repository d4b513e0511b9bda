"""Runs every measurement and prints one line each: python -m bench [startup] [data] [--ham10000 F] [--native F]."""

import argparse
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from bench import data, startup
from lesion.inference.threads import usable_cpus


def main() -> None:
    """Measure what the words name, all by default."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", help="startup, data; default: all")
    parser.add_argument("--ham10000", type=Path, help="a dataset in HAM10000's layout; default: synthetic")
    parser.add_argument("--native", type=Path, help="a folder of 600×450 JPEGs; default: synthetic")
    words = parser.parse_args()
    names = words.names or ["startup", "data"]
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {usable_cpus()} cores, Python {platform.python_version()}, lesion {version('lesion')}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "startup" in names:
            print(*startup.measure(folder), sep="\n")
        if "data" in names:
            drawn = (None, None) if words.ham10000 and words.native else data.draw_images(folder)
            print(*data.measure(folder, words.ham10000 or drawn[0], words.native or drawn[1]), sep="\n")


if __name__ == "__main__":
    main()
