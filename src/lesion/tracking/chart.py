"""Curves over epochs as inline SVG: no script, colours from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lesion.chart import Frame, Point, choose_ticks, draw_line
from lesion.escape import to_html
from lesion.tracking.texts import show_figure

MOST_POINTS = 300  # of a line; more cannot be told apart
LABEL = 15  # least distance of two labels
COLOURS = 7


@dataclass(frozen=True, slots=True)
class Line:
    """A curve of one run."""

    label: str
    """What stands at its end; empty for none."""
    colour: int
    """Which colour, from 0; past the last they repeat, dashed."""
    points: Sequence[Point]
    """In the order of x."""
    faint: bool = False


def draw_chart(title: str, lines: Sequence[Line]) -> str:
    """The chart over epochs, every line with its label at its end; lines without any value are left out."""
    shown = [Line(line.label, line.colour, thin(line.points), line.faint) for line in lines]
    shown = [line for line in shown if any(y is not None for _, y in line.points)]
    heights = [y for line in shown for _, y in line.points if y is not None]
    if not heights:
        return ""
    ticks = choose_ticks(min(heights), max(heights))
    end = max(x for line in shown for x, _ in line.points)
    frame = Frame((0, end), (ticks[0], ticks[-1]))
    body = frame.draw_axes(choose_epochs(end), ticks, "epoch")
    for line in sorted(shown, key=lambda line: not line.faint):
        dashed = " dashed" if line.colour >= COLOURS else ""
        body += draw_line(frame.place(line.points), f"{_colour(line)}{' faint' if line.faint else ''}{dashed}")
    return frame.draw(_tell(title, shown), body + _draw_labels(frame, [line for line in shown if line.label]))


def thin(points: Sequence[Point]) -> list[Point]:
    """At most 300 points: beyond that, the mean of each of as many groups of neighbours."""
    if len(points) <= MOST_POINTS:
        return list(points)
    groups = [points[len(points) * i // MOST_POINTS : len(points) * (i + 1) // MOST_POINTS] for i in range(MOST_POINTS)]
    thinned: list[Point] = []
    for group in groups:
        known = [y for _, y in group if y is not None]
        thinned.append((group[-1][0], sum(known) / len(known) if known else None))
    return thinned


def choose_epochs(end: float, most: int = 6) -> list[int]:
    """Whole epochs for the axis, 0 first."""
    step = next(
        unit * factor for unit in (1, 10, 100, 1000, 10**9) for factor in (1, 2, 5) if unit * factor * most >= end
    )
    return list(range(0, math.floor(end) + 1, step))


def spread(places: Sequence[tuple[float, float]], lowest: float) -> list[float]:
    """The heights of labels that belong at these places (x, y), moved so that none overlaps another or is too low."""
    order = sorted(range(len(places)), key=lambda index: places[index][1])
    heights = _push(places, order, {index: y for index, (_, y) in enumerate(places)}, 1)
    above = {index: min(y, lowest) for index, y in heights.items()}
    heights = _push(places, order[::-1], above, -1)  # what was pushed out at the bottom, back up
    return [heights[index] for index in range(len(places))]


def _push(
    places: Sequence[tuple[float, float]], order: Sequence[int], wished: dict[int, float], way: int
) -> dict[int, float]:
    placed: dict[int, float] = {}
    for index in order:
        near = [y for other, y in placed.items() if abs(places[other][0] - places[index][0]) < 2 * LABEL]
        placed[index] = way * max([way * wished[index], *(way * y + LABEL for y in near)])
    return placed


def _draw_labels(frame: Frame, lines: Sequence[Line]) -> str:
    ends = [(frame.to_x(x), frame.to_y(y)) for x, y in map(_last, lines)]
    heights = spread(ends, frame.height - frame.bottom)
    return "".join(
        f'<text class="label {_colour(line)}" x="{x + 5:.1f}" y="{y + 4:.1f}">{to_html(line.label)}</text>'
        for line, (x, _), y in zip(lines, ends, heights, strict=True)
    )


def _colour(line: Line) -> str:
    return f"k{line.colour % COLOURS}"


def _last(line: Line) -> tuple[float, float]:
    return next((x, y) for x, y in reversed(line.points) if y is not None)


def _tell(title: str, lines: Sequence[Line]) -> str:
    ends = [
        (line.label, next(y for _, y in line.points if y is not None), _last(line)[1]) for line in lines if line.label
    ]
    return f"{title}: " + ", ".join(f"{label} from {show_figure(a)} to {show_figure(b)}" for label, a, b in ends)
