"""Line charts as inline SVG, drawn in the page's own colours so that they follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44
MAX_POINTS = 400


@dataclass(frozen=True)
class Line:
    """One curve: (x, y) in ascending x; `style` is a class of the page's style sheet."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str


def line_chart(lines: Sequence[Line], *, x_name: str, percent: bool = False) -> str:
    """Draws curves over a common pair of axes; points that are not finite are left out.

    Args:
        lines: drawn in order, the last on top.
        x_name: what the horizontal axis counts.
        percent: the vertical values are fractions, to be written as percent.

    Returns:
        An `<svg>` element, or an empty string when there is nothing to draw.
    """
    lines = [Line(line.name, _finite(line.points), line.style) for line in lines]
    everything = [point for line in lines for point in line.points]
    if not everything:
        return ""
    xs, ys = [x for x, _ in everything], [y for _, y in everything]
    x_ticks, y_ticks = nice_ticks(0, max(xs)), nice_ticks(min(0, min(ys)), max(ys))
    x_end, y_low, y_high = max(max(xs), 1e-9), y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / x_end * (WIDTH - LEFT - RIGHT)
        down = TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    names = ", ".join(line.name for line in lines)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(names)}">']
    for tick in y_ticks:
        _, y = place(0, tick)
        text = f"{tick:.0%}" if percent else f"{tick:g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 5}" text-anchor="end">{text}</text>')
    for tick in (tick for tick in x_ticks if tick <= x_end):
        x, _ = place(tick, y_low)
        parts.append(f'<text x="{x}" y="{HEIGHT - 26}" text-anchor="middle">{tick:,.0f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 7}" text-anchor="middle">{escape(x_name)}</text>'
    )
    for line in lines:
        placed = [place(x, y) for x, y in thinned(line.points)]
        path = " ".join(f"{x},{y}" for x, y in placed)
        parts.append(f'<polyline class="{line.style}" points="{path}"/>')
        if len(placed) <= 40:
            parts += [
                f'<circle class="{line.style}" cx="{x}" cy="{y}" r="2.5"/>' for x, y in placed
            ]
    return "".join([*parts, "</svg>"])


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


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None and math.isfinite(y)]
