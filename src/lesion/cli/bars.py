"""How progress looks on a terminal."""

import logging
import sys
from typing import Any

log = logging.getLogger("lesion.cli")


class Bars:
    """Progress on stderr, when that is a terminal and the log is not silenced."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def begin(self, label: str, total: int, unit: str = "") -> None:
        """Start a bar of `total` steps, with the rate beside it when they are bytes."""
        if not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO):
            return
        from rich import progress as bars
        from rich.console import Console

        counts = (bars.DownloadColumn(), bars.TransferSpeedColumn()) if unit == "B" else (bars.MofNCompleteColumn(),)
        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), *counts, bars.TimeRemainingColumn())
        figures = bars.TextColumn("{task.fields[figures]}")
        self._bar = bars.Progress(*columns, figures, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(label, total=total, figures="")
        self._bar.start()
        _log_to_stderr()  # which is rich's now: lines appear above the bar

    def advance(self, steps: int = 1, **figures: float) -> None:
        """So many steps further, or back; `figures` stand beside the bar."""
        if self._bar is not None:
            known = [f"{name} {value:.3g}" for name, value in figures.items() if value == value]  # NaN: not known yet
            shown = {"figures": "  ".join(known)} if known else {}
            self._bar.update(self._task, advance=steps, **shown)

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            _log_to_stderr()


def _log_to_stderr() -> None:
    for handler in logging.getLogger("lesion").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
