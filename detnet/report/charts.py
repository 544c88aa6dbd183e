"""Line charts as HTML and inline SVG, drawn in the page's own colours.

The lines are stretched to the width there is; type and line widths are not, so that a chart reads
as well on a telephone as on a desk. The style sheet (`style.css.j2`) belongs to it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 1000, 500  # of the drawing, stretched to whatever the page gives it
MAX_POINTS = 400
_DOTTED_UP_TO = 40


@dataclass(frozen=True)
class Line:
    """One curve: (x, y) in ascending x; `style` is a class of the page's style sheet."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str


def line_chart(
    lines: Sequence[Line],
    *,
    x_name: str,
    percent: bool = False,
    x_percent: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    dots: bool = True,
) -> str:
    """Draws curves over a common pair of axes; points that are not finite are left out.

    Args:
        lines: drawn in order, the last on top.
        x_name: what the horizontal axis counts.
        percent: the vertical values are fractions, to be written as percent.
        x_percent: the horizontal ones are.
        x_range: ends of the axis, 0 and the last point's by default.
        y_range: the same; by default round numbers around all points and 0.
        dots: mark the points where they are few.

    Returns:
        A `<div class="chart">`, or an empty string when there is nothing to draw.
    """
    lines = [Line(line.name, _finite(line.points), line.style) for line in lines]
    everything = [point for line in lines for point in line.points]
    if not everything:
        return ""
    xs, ys = [x for x, _ in everything], [y for _, y in everything]
    x_low, x_high = x_range or (0, max(*xs, 1e-9))
    y_ticks = nice_ticks(*(y_range or (min(0, min(ys)), max(ys))))
    x_ticks = [tick for tick in nice_ticks(x_low, x_high) if x_low <= tick <= x_high]
    frame = Frame(x_low, x_high, y_ticks[0], y_ticks[-1])
    across = [(100 * (x - x_low) / (x_high - x_low), _text(x, x_percent)) for x in x_ticks]
    down = [(100 * frame.place(x_low, y)[1] / HEIGHT, _text(y, percent)) for y in y_ticks]
    return (
        '<div class="chart"><div class="ticks-y" aria-hidden="true">'
        + "".join(f'<span style="top:{at:.2f}%">{text}</span>' for at, text in down)
        + f'</div><div class="plot">{_drawing(lines, frame, y_ticks, dots)}</div>'
        + '<div class="ticks-x" aria-hidden="true">'
        + "".join(f'<span style="left:{at:.2f}%">{text}</span>' for at, text in across)
        + f'</div><div class="x-name">{escape(x_name)}</div></div>'
    )


def _drawing(lines: Sequence[Line], frame: "Frame", y_ticks: Sequence[float], dots: bool) -> str:
    """The lines over a grid, to be stretched."""
    names = ", ".join(line.name for line in lines)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(names)}">'
    ]
    for tick in y_ticks:
        _, y = frame.place(frame.x_low, tick)
        parts.append(f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>')
    for line in lines:
        placed = [frame.place(x, y) for x, y in thinned(line.points)]
        parts.append(f'<polyline class="{line.style}" points="{path(placed)}"/>')
        if dots and len(placed) <= _DOTTED_UP_TO:
            parts += [f'<path class="dot {line.style}" d="M{x} {y}h0"/>' for x, y in placed]
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class Frame:
    """The values at the edges of a drawing of `WIDTH` by `HEIGHT`."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_low) / (self.x_high - self.x_low) * WIDTH
        down = (self.y_high - y) / (self.y_high - self.y_low) * HEIGHT
        return round(across, 1), round(down, 1)


def path(placed: Sequence[tuple[float, float]]) -> str:
    """The points as an SVG attribute."""
    return " ".join(f"{x:g},{y:g}" for x, y in placed)


def smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The moving mean over a twentieth of the curve, looking back only."""
    points = _finite(points)
    window = max(1, len(points) // 20)
    total, result = 0.0, []
    for index, (x, y) in enumerate(points):
        total += y - (points[index - window][1] if index >= window else 0.0)
        result.append((x, total / min(index + 1, window)))
    return result


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about `MAX_POINTS` points, the first and the last among them."""
    step = math.ceil(len(points) / MAX_POINTS)
    return points if step <= 1 else [*points[:-1:step], points[-1]]


def nice_ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers, evenly spaced, the first not above `low` and the last not below `high`."""
    if not high > low:
        high = low + 1
    rough = (high - low) / about
    size = 10 ** math.floor(math.log10(rough))
    step = size * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * index, 12) for index in range(first, last + 1)]


def _text(value: float, percent: bool) -> str:
    if percent:
        return f"{value:.0%}" if round(value * 100, 6) % 1 == 0 else f"{value:.1%}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None and math.isfinite(y)]
