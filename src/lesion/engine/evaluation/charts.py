"""The drawings of the page as inline SVG: curves with bands, reliability, intervals, a thousand lesions."""

from collections.abc import Sequence
from dataclasses import dataclass

from lesion.chart import Frame, choose_ticks, draw_line
from lesion.escape import to_html
from lesion.evaluation import Bin
from lesion.records import Curve, Estimate

TENTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SQUARE = {"width": 360, "height": 330, "right": 14, "top": 14, "bottom": 40}
WIDE = {"width": 400, "height": 250, "left": 56, "right": 14, "bottom": 40}
INTERVAL = (150, 18)  # width and height of an interval in a table
COLUMNS, ROWS, CELL = 50, 20, 9  # of the thousand lesions
NO_BAND: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True, slots=True)
class Line:
    """A curve and the class of its style."""

    curve: Curve
    style: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point worth a word."""

    x: float
    y: float
    label: str


def draw_straight(start: tuple[float, float], end: tuple[float, float]) -> Line:
    """A thin line to compare with."""
    return Line(Curve((start[0], end[0]), (start[1], end[1]), NO_BAND, NO_BAND), "k6 dashed thin")


def draw_curves(
    title: str, told: str, frame: Frame, x_name: str, lines: Sequence[Line], mark: Mark | None = None
) -> str:
    """Curves, each with its band, in `frame`; `told` is what the drawing shows, for those who do not see it."""
    axes = frame.draw_axes(choose_inside(*frame.x), choose_inside(*frame.y), x_name)
    bands = "".join(draw_band(frame, line) for line in lines)
    curves = "".join(draw_line(frame.place(_keep_inside(frame, line.curve)), line.style) for line in lines)
    return frame.draw(title, axes + bands + curves + (_draw_mark(frame, mark) if mark else ""), told)


def is_drawable(curve: Curve) -> bool:
    """Whether there is anything to draw."""
    return any(y is not None for y in curve.y)


def choose_inside(low: float, high: float) -> list[float]:
    """Round numbers at equal distances within [low, high]."""
    return [tick for tick in choose_ticks(low, high) if low - 1e-9 <= tick <= high + 1e-9]


def choose_scale(estimates: Sequence[Estimate], reference: float | None) -> tuple[float, float]:
    """A round range that holds all intervals and the reference."""
    values = [each for estimate in estimates for each in (estimate.value, estimate.low, estimate.high)]
    known = [each for each in (*values, reference) if each is not None]
    ticks = choose_ticks(min(known), max(known)) if known else [0.0, 1.0]
    return round(ticks[0], 9), round(ticks[-1], 9)


def draw_band(frame: Frame, line: Line) -> str:
    """The area between the ends of the intervals, one piece for each stretch of x where there are any."""
    curve, low = line.curve, frame.y[0]
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for x, a, b in zip(curve.x, curve.low, curve.high, strict=True):
        if a is None or b is None or b < low:
            pieces.append([])
        else:
            pieces[-1].append((frame.to_x(x), frame.to_y(max(a, low)), frame.to_y(b)))
    paths = []
    for piece in filter(None, pieces):
        outline = [(x, high) for x, _, high in piece] + [(x, low) for x, low, _ in reversed(piece)]
        paths.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in outline) + "Z")
    return f'<path class="band {line.style}" d="{"".join(paths)}"/>' if paths else ""


def draw_reliability(title: str, told: str, bins: Sequence[Bin]) -> str:
    """Frequency over mean probability with intervals, and below it how the images are spread over the bins."""
    frame = Frame((0, 1), (0, 1), **SQUARE)
    body = frame.draw_axes(TENTHS, TENTHS, "probability of malignant")
    most = max((each.count for each in bins), default=0) or 1
    for each in bins:
        left, right = frame.to_x(each.low) + 1, frame.to_x(each.high) - 1
        top, bottom = frame.to_y(0.18 * each.count / most), frame.to_y(0)
        body += (
            f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"/>'
        )
    body += draw_line(frame.place([(0, 0), (1, 1)]), "k6 dashed thin")
    points = [(each.mean, each.frequency.value) for each in bins if each.mean is not None]
    body += draw_line(frame.place(points), "k0 thin")
    return frame.draw(title, body + "".join(_draw_bin(frame, each) for each in bins), told)


def draw_interval(estimate: Estimate, low: float, high: float, reference: float | None) -> str:
    """An interval on a scale from `low` to `high`, with a line at `reference`; its numbers stand beside it."""
    width, height = INTERVAL
    frame = Frame((low, high), (0, 1), width, height, left=6, right=6, top=0, bottom=0)
    body = ""
    if reference is not None:
        body += f'<path class="reference" d="M{frame.to_x(reference):.1f} 0V{height}"/>'
    if estimate.low is not None and estimate.high is not None:
        body += f'<path class="line k0" d="M{frame.to_x(estimate.low):.1f} 9H{frame.to_x(estimate.high):.1f}"/>'
    if estimate.value is not None:
        body += f'<circle class="k0" cx="{frame.to_x(estimate.value):.1f}" cy="9" r="4"/>'
    return f'<svg class="interval" viewBox="0 0 {width} {height}" aria-hidden="true">{body}</svg>'


def draw_thousand(title: str, counts: Sequence[tuple[str, int]]) -> str:
    """A thousand squares, each group (style, how many; together 1,000) after the other, column by column."""
    body, at = "", 0
    for style, count in counts:
        places = [divmod(index, ROWS) for index in range(at, at + count)]
        squares = "".join(f"M{column * CELL + 1} {row * CELL + 1}h7v7h-7z" for column, row in places)
        body += f'<path class="{style}" d="{squares}"/>'
        at += count
    size = f"0 0 {COLUMNS * CELL} {ROWS * CELL}"
    return f'<svg viewBox="{size}" role="img"><title>{to_html(title)}</title>{body}</svg>'


def _keep_inside(frame: Frame, curve: Curve) -> list[tuple[float, float | None]]:
    low, high = frame.y
    return [(x, y if y is not None and low <= y <= high else None) for x, y in zip(curve.x, curve.y, strict=True)]


def _draw_mark(frame: Frame, mark: Mark) -> str:
    x, y = frame.to_x(mark.x), frame.to_y(mark.y)
    anchor, shift = ("end", -11) if mark.x > 0.5 else ("start", 11)
    return (
        f'<path class="mark" d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"/>'
        f'<text class="label" x="{x + shift:.1f}" y="{y + 20:.1f}" text-anchor="{anchor}">{to_html(mark.label)}</text>'
    )


def _draw_bin(frame: Frame, each: Bin) -> str:
    if each.mean is None or each.frequency.value is None:
        return ""
    x, body = frame.to_x(each.mean), ""
    if each.frequency.low is not None and each.frequency.high is not None:
        low, high = frame.to_y(each.frequency.low), frame.to_y(each.frequency.high)
        body = f'<path class="line k0" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
    return f'{body}<circle class="k0" cx="{x:.1f}" cy="{frame.to_y(each.frequency.value):.1f}" r="4"/>'
