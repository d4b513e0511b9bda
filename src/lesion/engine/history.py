"""The metrics.csv of a run that is resumed."""

import csv
from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger


def carry_over(loggers: Iterable[Logger], steps: int) -> None:
    """Let the CSV logger among `loggers` begin with the rows of the first `steps` steps; it alone would drop all.

    What came after belongs to an epoch that is trained again.
    """
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            path = Path(logger.log_dir) / "metrics.csv"
            kept = [row for row in _read(path) if int(row["step"]) < steps]
            writer = logger.experiment  # from here on the old file is gone
            writer.metrics += [{name: value for name, value in row.items() if value != ""} for row in kept]
            logger.save()


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]  # a killed process cut the last off
