"""Charts as SVG, for pages in their colours and for files; a run's course as such charts."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import Any

from detnet.evaluation.metrics import Metric, metrics_of, prefix

WIDTH, HEIGHT = 1000, 500  # of the drawing, stretched to whatever the page gives it
MAX_POINTS = 400
_DOTTED_UP_TO = 40
# Okabe and Ito's colours, which the colour-blind can tell apart; the next seven are dashed.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("none", "6 3", "1.5 3", "6 3 1.5 3")

STYLES = ("one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Line:
    """One curve: (x, y) in ascending x; `style` is of the page's style sheet."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str


def style_of(index: int) -> str:
    """Gives a curve's classes of the page's style sheet; after six the colours come again, dashed
    otherwise.
    """
    return STYLES[index % len(STYLES)] + (" again" if index // len(STYLES) % 2 else "")


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
    return plot(
        _drawn(lines, frame, dots),
        frame,
        [(tick, _text(tick, x_percent)) for tick in x_ticks],
        [(tick, _text(tick, percent)) for tick in y_ticks],
        x_name=x_name,
        label=", ".join(dict.fromkeys(line.name for line in lines)),
    )


def plot(
    content: Iterable[str],
    frame: "Frame",
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    *,
    x_name: str,
    label: str,
    style: str = "chart",
    below: str = "",
) -> str:
    """Puts a drawing over a grid between its axes, to be stretched.

    Args:
        content: SVG, within `WIDTH` by `HEIGHT`.
        frame: what values the edges are.
        x_ticks: value and text.
        y_ticks: the same, upwards.
        x_name: under the horizontal axis.
        label: for those who cannot see it.
        style: classes of the page's style sheet.
        below: HTML between the drawing and its horizontal axis.
    """
    low, wide = frame.x_low, frame.x_high - frame.x_low
    levels = [(frame.place(low, y)[1], text) for y, text in y_ticks]
    grid = [f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>' for y, _ in levels]
    across = [(100 * (x - low) / wide, escape(text)) for x, text in x_ticks]
    down = [(100 * y / HEIGHT, escape(text)) for y, text in levels]
    return (
        f'<div class="{style}"><div class="ticks-y" aria-hidden="true">'
        + "".join(f'<span style="top:{at:.2f}%">{text}</span>' for at, text in down)
        + f'</div><div class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" '
        + f'role="img" aria-label="{escape(label)}">{"".join([*grid, *content])}</svg></div>{below}'
        + '<div class="ticks-x" aria-hidden="true">'
        + "".join(f'<span style="left:{at:.2f}%">{text}</span>' for at, text in across)
        + f'</div><div class="x-name">{escape(x_name)}</div></div>'
    )


def _drawn(lines: Sequence[Line], frame: "Frame", dots: bool) -> Iterator[str]:
    for line in lines:
        placed = [frame.place(x, y) for x, y in thinned(line.points)]
        yield f'<polyline class="{line.style}" points="{path(placed)}"/>'
        if dots and len(placed) <= _DOTTED_UP_TO:
            yield from (f'<path class="dot {line.style}" d="M{x} {y}h0"/>' for x, y in placed)


def chart_file(lines: Sequence[Line], *, x_name: str, y_name: str) -> str:
    """Draws curves from 0 upwards as an SVG of its own, names and colours included.

    Args:
        lines: their styles do not count; points are finite, there is at least one.
        y_name: of the vertical axis, its values as they are.
    """
    xs, ys = zip(*(point for line in lines for point in line.points), strict=True)
    x_ticks, y_ticks = nice_ticks(0, max(xs)), nice_ticks(0, max(*ys, 0))
    frame = Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    left, top, row = 50, 10, 18
    across, down = WIDTH * 0.5, HEIGHT * 0.6
    height = max(down + top + 44, top + row * (len(lines) + 1))
    width = left + across + 40 + 7 * max(len(line.name) for line in lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
    ]

    def place(x: float, y: float) -> tuple[float, float]:
        x, y = frame.place(x, y)
        return round(left + x / WIDTH * across, 1), round(top + y / HEIGHT * down, 1)

    for tick in y_ticks:
        x, y = place(x_ticks[0], tick)
        parts.append(f'<path d="M{x} {y}h{across:g}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{_text(tick, False)}</text>')
    for tick in x_ticks:
        x, y = place(tick, y_ticks[0])
        parts.append(f'<text x="{x}" y="{y + 16}" text-anchor="middle">{_text(tick, False)}</text>')
    middle, bottom = left + across / 2, top + down
    parts += [
        f'<text x="{middle:g}" y="{bottom + 34:g}" text-anchor="middle">{escape(x_name)}</text>',
        f'<text transform="translate(14 {top + down / 2:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_name)}</text>",
    ]
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        dashes = _DASHES[index // len(COLOURS) % len(_DASHES)]
        style = f'fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"'
        placed = [place(x, y) for x, y in line.points]
        parts.append(f'<polyline {style} points="{path(placed)}"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="2" fill="{colour}"/>' for x, y in placed]
        x, y = left + across + 12, top + row * (index + 0.5)
        parts.append(f'<path {style} d="M{x:g} {y:g}h20"/>')
        parts.append(f'<text x="{x + 26:g}" y="{y + 4:g}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


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
    # Of blocks as long as the window each mean takes an end of one and the beginning of the next:
    # nothing is subtracted, which after one loss of 1e20 would leave nothing of the others.
    ends, result = [0.0] * window, []
    for start in range(0, len(points), window):
        block = points[start : start + window]
        begun = accumulate(y for _, y in block)
        for index, ((x, _), total) in enumerate(zip(block, begun, strict=True)):
            result.append((x, (ends[index] + total) / min(start + index + 1, window)))
        ends = [*accumulate((y for _, y in block[:0:-1]), initial=0.0)][::-1]
    return result


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about `MAX_POINTS` points, the first and the last among them."""
    step = math.ceil(len(points) / MAX_POINTS)
    return points if step <= 1 else [*points[:-1:step], points[-1]]


def nice_ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers, evenly spaced, the first not above `low` and the last not below `high`."""
    if not high > low:
        high = low + (abs(low) / 10 or 1)
    rough = (high - low) / about
    exponent = math.floor(math.log10(rough))
    size = 10.0**exponent
    step = size * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * index, 2 - exponent) for index in range(first, last + 1)]


def _text(value: float, percent: bool) -> str:
    if percent:
        return f"{value:.0%}" if round(value * 100, 6) % 1 == 0 else f"{value:.1%}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:g}"


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None and math.isfinite(y)]


@dataclass(frozen=True)
class Chart:
    """A drawing with its title and legend.

    Args:
        title: of the card.
        legend: (name, style) of each line; empty where there is only one.
        drawing: HTML.
        note: a line under the title.
    """

    title: str
    legend: list[tuple[str, str]]
    drawing: str
    note: str = ""


def training_charts(events: Sequence[dict[str, Any]]) -> list[Chart]:
    """The charts that the events have anything for."""
    return list(_charts(events))


def chart(title: str, lines: Sequence[Line], *, note: str = "", **axes: Any) -> Chart | None:
    """A chart of the lines that have points; None where none has."""
    lines = [line for line in lines if line.points]
    drawing = line_chart(lines, **axes)
    legend = [(line.name, line.style) for line in lines] if len(lines) > 1 else []
    return Chart(title, legend, drawing, note) if drawing else None


def _charts(events: Sequence[dict[str, Any]]) -> Iterator[Chart]:
    steps = [event for event in events if event.get("event") == "step"]
    evaluations = [event for event in events if event.get("event") == "evaluation"]
    loss, val_loss = _points(steps, "loss"), _points(evaluations, "val_loss")
    total = [
        Line("each step", loss, "raw"),
        Line("moving mean", smoothed(loss), "one"),
        Line("on val", val_loss, "two"),
    ]
    parts = [
        Line(name.removeprefix("loss_"), smoothed(_points(steps, name)), style_of(index))
        for index, name in enumerate(_parts_of(steps))
    ]
    found = [
        chart("Loss", total, x_name="iteration"),
        chart("Its parts", parts, note="moving means", x_name="iteration"),
    ]
    for kind, words in (("bbox", ""), ("segm", " of masks"), ("keypoints", " of keypoints")):
        scores = [
            Line(name, _points(evaluations, prefix(kind) + name), style)
            for (name, _), style in zip(_brief(kind), STYLES, strict=False)
        ]
        found.append(
            chart(
                f"Average precision{words} on val",
                scores,
                note=_best(evaluations, prefix(kind)),
                x_name="iteration",
                percent=True,
            )
        )
    errors = [
        Line(metric.title.removesuffix(" error"), _points(evaluations, key), style)
        for (key, metric), style in zip(_brief("classification"), STYLES, strict=False)
    ]
    found.append(chart("Error on val", errors, x_name="iteration", percent=True))
    rate = [Line("learning rate", _points(steps, "lr"), "one")]
    found.append(chart("Learning rate", rate, x_name="iteration"))
    yield from (each for each in found if each is not None)


def _brief(kind: str) -> list[tuple[str, Metric]]:
    return [(name, metric) for name, metric in metrics_of(kind) if metric.brief]


def _parts_of(steps: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the losses whose sum is the loss, in the order in which they were logged."""
    names = [name for event in steps for name in event if name.startswith("loss_")]
    return list(dict.fromkeys(names))


def _best(evaluations: Sequence[dict[str, Any]], before: str) -> str:
    points = _points(evaluations, f"{before}AP")
    if not points:
        return ""
    iteration, best = max(points, key=lambda point: point[1])
    return f"best AP {100 * best:.1f} at iteration {iteration:,}"


def _points(events: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [
        (event["iteration"], event[key])
        for event in events
        if isinstance(event.get(key), int | float) and "iteration" in event
    ]
