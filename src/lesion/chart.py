"""What line charts share: a frame, round ticks, paths with gaps; inline SVG, colours from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lesion.escape import to_html

Point = tuple[float, float | None]  # None: a gap


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values lie in a drawing: ranges of x and y, both wider than 0, and the room around the axes."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 480
    height: int = 250
    left: int = 52
    right: int = 30
    top: int = 10
    bottom: int = 34

    def to_x(self, x: float) -> float:
        """Where the value `x` lies."""
        start, end = self.x
        return self.left + (self.width - self.left - self.right) * (x - start) / (end - start)

    def to_y(self, y: float) -> float:
        """Where the value `y` lies; the drawing's y grows downwards."""
        low, high = self.y
        return self.top + (self.height - self.top - self.bottom) * (high - y) / (high - low)

    def place(self, points: Sequence[Point]) -> list[Point]:
        """Points in the drawing."""
        return [(self.to_x(x), None if y is None else self.to_y(y)) for x, y in points]

    def draw(self, title: str, body: str, description: str = "") -> str:
        """The drawing with this content (safe), its title and description (plain text)."""
        told = f"<title>{to_html(title)}</title>" + (f"<desc>{to_html(description)}</desc>" if description else "")
        return f'<svg viewBox="0 0 {self.width} {self.height}" role="img">{told}{body}</svg>'

    def draw_axes(self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str) -> str:
        """Lines across at `y_ticks`, numbers at both, and the name (plain text) of what runs to the right."""
        end, below = self.width - self.right, self.height - self.bottom
        parts = []
        for tick in y_ticks:
            y = self.to_y(tick)
            parts.append(
                f'<path class="grid" d="M{self.left} {y:.1f}H{end}"/>'
                f'<text x="{self.left - 7}" y="{y + 4:.1f}" text-anchor="end">{write_tick(tick, y_ticks)}</text>'
            )
        for tick in x_ticks:
            text = write_tick(tick, x_ticks)
            parts.append(f'<text x="{self.to_x(tick):.1f}" y="{below + 17}" text-anchor="middle">{text}</text>')
        middle = (self.left + end) / 2
        parts.append(f'<text x="{middle:.0f}" y="{self.height - 2}" text-anchor="middle">{to_html(x_name)}</text>')
        return "".join(parts)


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


def write_tick(tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as the distance of two needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    largest = max(abs(each) for each in ticks)
    if largest and (largest < 1e-3 or largest >= 1e6):
        return f"{tick:.1e}".replace("e-0", "e-").replace("e+0", "e") if tick else "0"
    return f"{tick:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def draw_line(points: Sequence[Point], style: str) -> str:
    """A path through placed points with gaps at None; a point without neighbours, which has no line, is a dot."""
    path, pen, dots = "", "M", ""
    heights = [None, *(y for _, y in points), None]
    for (x, y), before, after in zip(points, heights, heights[2:], strict=False):
        if y is not None:
            path += f"{pen}{x:.1f} {y:.1f}"
            if before is None and after is None:
                dots += f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        pen = "M" if y is None else "L"
    return f'<path class="line {style}" d="{path}"/>{dots}'
