"""A line chart as inline SVG: no script, colours from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lesion.page import to_text
from lesion.tracking.texts import show_figure

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 30, 10, 34
MOST_POINTS = 300  # of a line; more cannot be told apart
LABEL = 15  # least distance of two labels
COLOURS = 7
Point = tuple[float, float | None]  # None: a gap


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
    low, high = ticks[0], ticks[-1]
    end = max(x for line in shown for x, _ in line.points)

    def to_x(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * x / end

    def to_y(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{to_text(_tell(title, shown))}</title>']
    for tick in ticks:
        y = to_y(tick)
        parts.append(
            f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_write(tick, ticks)}</text>'
        )
    for tick in choose_epochs(end):
        parts.append(f'<text x="{to_x(tick):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{tick}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 2}" text-anchor="middle">epoch</text>')
    for line in sorted(shown, key=lambda line: not line.faint):
        parts.append(_draw_line(line, [(to_x(x), None if y is None else to_y(y)) for x, y in line.points]))
    ends = [(line, *_last(line)) for line in shown if line.label]
    heights_of_labels = spread([(to_x(x), to_y(y)) for _, x, y in ends])
    for (line, x, _), y in zip(ends, heights_of_labels, strict=True):
        colour = f"k{line.colour % COLOURS}"
        parts.append(f'<text class="label {colour}" x="{to_x(x) + 5:.1f}" y="{y + 4:.1f}">{to_text(line.label)}</text>')
    return "".join([*parts, "</svg>"])


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


def choose_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers at equal distances that enclose [low, high]; at least two."""
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # a constant: what differs is rounding
        span = abs(high) or 2.0
        low, high = (low - span / 2, high + span / 2) if high else (0.0, span / 2)
    raw = span / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if unit * factor >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def choose_epochs(end: float, most: int = 6) -> list[int]:
    """Whole epochs for the axis, 0 first."""
    step = next(
        unit * factor for unit in (1, 10, 100, 1000, 10**9) for factor in (1, 2, 5) if unit * factor * most >= end
    )
    return list(range(0, math.floor(end) + 1, step))


def spread(places: Sequence[tuple[float, float]]) -> list[float]:
    """The heights of labels that belong at these places (x, y), moved so that none overlaps another or the axis."""
    order = sorted(range(len(places)), key=lambda index: places[index][1])
    heights = _push(places, order, {index: y for index, (_, y) in enumerate(places)}, 1)
    lowest = {index: min(y, HEIGHT - BOTTOM) for index, y in heights.items()}
    heights = _push(places, order[::-1], lowest, -1)  # what was pushed out at the bottom, back up
    return [heights[index] for index in range(len(places))]


def _push(
    places: Sequence[tuple[float, float]], order: Sequence[int], wished: dict[int, float], way: int
) -> dict[int, float]:
    placed: dict[int, float] = {}
    for index in order:
        near = [y for other, y in placed.items() if abs(places[other][0] - places[index][0]) < 2 * LABEL]
        placed[index] = way * max([way * wished[index], *(way * y + LABEL for y in near)])
    return placed


def _draw_line(line: Line, points: Sequence[Point]) -> str:
    path, pen = "", "M"
    for x, y in points:
        if y is not None:
            path += f"{pen}{x:.1f} {y:.1f}"
        pen = "M" if y is None else "L"
    style = f"k{line.colour % COLOURS}{' faint' if line.faint else ''}{' dashed' if line.colour >= COLOURS else ''}"
    dots = ""
    for before, (x, y), after in zip([None, *points[:-1]], points, [*points[1:], None], strict=True):
        alone = (before is None or before[1] is None) and (after is None or after[1] is None)
        if y is not None and alone:  # a line of one point cannot be seen
            dots += f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    return f'<path class="line {style}" d="{path}"/>{dots}'


def _last(line: Line) -> tuple[float, float]:
    return next((x, y) for x, y in reversed(line.points) if y is not None)


def _tell(title: str, lines: Sequence[Line]) -> str:
    ends = [
        (line.label, next(y for _, y in line.points if y is not None), _last(line)[1]) for line in lines if line.label
    ]
    return f"{title}: " + ", ".join(f"{label} from {show_figure(a)} to {show_figure(b)}" for label, a, b in ends)


def _write(tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as the distance of two needs."""
    step = ticks[1] - ticks[0]
    largest = max(abs(each) for each in ticks)
    if largest < 1e-3 or largest >= 1e6:
        return f"{tick:.1e}".replace("e-0", "e-").replace("e+0", "e") if tick else "0"
    return f"{tick:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
