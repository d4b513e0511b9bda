"""Figures, times and parameters in words, the same on a terminal and on a page."""

import json

from lesion.escape import to_terminal


def show_figure(value: float | None) -> str:
    """Four significant digits; "–" for None."""
    if value is None:
        return "–"
    return f"{value:.3f}" if 0.1 <= abs(value) < 10 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def show_seconds(seconds: float) -> str:
    """A duration: "45 s", "12 min" or "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def show_parameter(text: str) -> str:
    """A parameter's JSON text as one would write it; "–" when a run has none."""
    if not text:
        return "–"
    value = json.loads(text)
    shown = ", ".join(map(str, value)) if isinstance(value, list) else text if not isinstance(value, str) else value
    return to_terminal(shown)
