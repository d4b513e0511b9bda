"""Run by a test: forks a training that writes to the store and kills it (SIGKILL), many times; one line each.

Only one thread ever exists here, so that a fork is a whole process; it is much quicker than a new interpreter.
"""

import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

from lesion.tracking.database import store_url
from lesion.tracking.query import list_runs, read_curves
from lesion.tracking.store import Store

STEPS = 40  # of an epoch


def write(folder: Path, name: str, ready: int) -> None:
    """Make the store if need be, start a run, write epoch after epoch; a byte goes to `ready` after the first."""
    with Store.open(store_url(None, folder)) as store:
        run = store.start(folder / name, "baseline", {"seed": 0}, {})
        for epoch in range(10**6):
            store.log(run, [("loss_step", epoch * STEPS + step, epoch, 1.0) for step in range(STEPS)])
            if epoch == 0:
                os.write(ready, b"x")


def check(folder: Path) -> int:
    """The values in the store; every epoch is whole, and SQLite finds nothing wrong."""
    connection = sqlite3.connect(folder / "runs.db")
    (found,) = connection.execute("PRAGMA integrity_check").fetchone()
    assert found == "ok", found
    connection.close()
    values = 0
    with Store.open(store_url(None, folder)) as store:
        for entry in list_runs(store):
            assert entry.status == "died", entry
            steps = len(read_curves(store, entry.id)["loss_step"].steps) if entry.epochs else 0
            assert steps == entry.epochs * STEPS, (steps, entry)
            values += steps
    return values


def main(root: Path, times: int) -> None:
    random.seed(0)
    write_one(root / "warm")  # what is imported late is imported now, not in each child
    for attempt in range(times):
        new = attempt % 3 == 0  # a store of its own, to be killed while it is made
        folder = root / (f"new{attempt}" if new else "old")
        reading, ready = os.pipe()
        child = os.fork()
        if not child:
            write(folder, f"run{attempt}", ready)
        if not new:
            os.read(reading, 1)
        time.sleep(random.uniform(0.0, 0.12 if new else 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(ready)
        sys.stdout.write(f"{check(folder) if (folder / 'runs.db').exists() else 0}\n")


def write_one(folder: Path) -> None:
    """A store with one run that has ended."""
    with Store.open(store_url(None, folder)) as store:
        run = store.start(folder / "run", "baseline", {}, {})
        store.log(run, [("loss_step", 0, 0, 1.0)])
        read_curves(store, run)


main(Path(sys.argv[1]), int(sys.argv[2]))
