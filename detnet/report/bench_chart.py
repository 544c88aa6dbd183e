"""Draws how long detectors take, stage by stage, as an SVG of its own."""

from html import escape

from detnet.inference.bench import BenchReport, Timing
from detnet.inference.stages import STAGES
from detnet.report.charts import COLOURS, nice_ticks

_ACROSS, _BAR, _ROW, _TOP = 560, 26, 62, 44
_LEGEND_ROW = 20


def draw_bench(report: BenchReport) -> str:
    """Draws a bar a detector, its stages side by side, with marks at the percentiles.

    Stages are as long as their medians; the marks are of whole images.
    """
    timings = report.timings
    left = 24 + 7 * max(len(timing.candidate.name) for timing in timings)
    longest = max(max(t.total.p99_ms, sum(s.p50_ms for s in t.stages.values())) for t in timings)
    ticks = nice_ticks(0, longest)
    scale = _ACROSS / ticks[-1]
    bottom = _TOP + _ROW * len(timings)
    names = [name for name in STAGES if any(name in timing.stages for timing in timings)]
    height = bottom + 52 + _LEGEND_ROW * -(-len(names) // 4)
    width = left + _ACROSS + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="20" font-size="14">Milliseconds an image, by stage</text>',
    ]
    for tick in ticks:
        x = round(left + tick * scale, 1)
        parts.append(f'<path d="M{x} {_TOP - 8}V{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    for index, timing in enumerate(timings):
        parts += _bar(timing, report.ratios[index], left, _TOP + _ROW * index, scale, names)
    for index, name in enumerate(names):
        x = left + 140 * (index % 4)
        y = bottom + 44 + _LEGEND_ROW * (index // 4)
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{_colour(name)}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(
    timing: Timing, ratio: float, left: float, top: float, scale: float, names: list[str]
) -> list[str]:
    parts, x = [], float(left)
    for name in names:
        if name in timing.stages:
            wide = timing.stages[name].p50_ms * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{top}" width="{wide:.1f}" height="{_BAR}" '
                f'fill="{_colour(name)}"/>'
            )
            x += wide
    middle = top + _BAR / 2
    total = timing.total
    for value, tall in ((total.p50_ms, 7), (total.p90_ms, 5), (total.p99_ms, 3)):
        at = left + value * scale
        parts.append(
            f'<path d="M{at:.1f} {middle - tall}v{2 * tall}" stroke="#000" stroke-width="1.5"/>'
        )
    parts.append(
        f'<path d="M{left + total.p50_ms * scale:.1f} {middle}H{left + total.p99_ms * scale:.1f}" '
        'stroke="#000"/>'
    )
    words = f"p50 {total.p50_ms:.1f}, p90 {total.p90_ms:.1f}, p99 {total.p99_ms:.1f}"
    words += f"; {ratio:.2f} times as fast as the first" if ratio != 1 else ""
    return [
        *parts,
        f'<text x="{left - 10}" y="{middle + 4}" text-anchor="end">'
        f"{escape(timing.candidate.name)}</text>",
        f'<text x="{left}" y="{top + _BAR + 15}" font-size="11" fill="#555">{words}</text>',
    ]


def _colour(stage: str) -> str:
    """The same in every picture."""
    return (*COLOURS[:6], "#666666", "#999999")[STAGES.index(stage)]
