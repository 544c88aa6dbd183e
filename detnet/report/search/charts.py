"""The charts of a search: its progress by generation, its front, scores against real ones.

Points are zero-long strokes with round ends, so that they stay round in a drawing that is
stretched; `data-c` is the candidate's number in the table, by which the page's script tells more.
"""

from collections.abc import Sequence
from html import escape

from detnet import text
from detnet.report.charts import HEIGHT, WIDTH, Frame, nice_ticks, path, plot
from detnet.report.search.state import SearchState
from detnet.report.search.summary import STATES, Generation, front
from detnet.search.records import ValidatedNetwork, Validation
from detnet.search.study.study import CandidateRecord
from detnet.text import amount

COST_NAMES = {
    "macs": "multiply-adds",
    "params": "parameters",
    "latency_ms": "latency",
}


def cost_name(name: str) -> str:
    """A cost in words."""
    return COST_NAMES.get(name, name)


def cost_text(name: str, value: float | None) -> str:
    """A cost with its unit, short: 288.1 M, 1.85 M, 12.3 ms."""
    if value is None:
        return amount(None)
    if name == "latency_ms":
        return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} ms"
    return amount(value, 2 if value < 10 * _unit(name, value)[0] else 1)


def _unit(name: str, largest: float) -> tuple[float, str]:
    """What to divide a cost by, and the letter for it."""
    if name == "latency_ms":
        return 1.0, "ms"
    sizes = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    return next(((size, letter) for size, letter in sizes if largest >= size), (1.0, ""))


def progress_chart(generations: Sequence[Generation], candidates: Sequence[CandidateRecord]) -> str:
    """The best so far, each generation's median and middle half, every candidate faintly.

    Under it, on the same axis, how many of each generation are done, failed, running and waiting.
    """
    scored = [(number, one) for number, one in enumerate(candidates) if one.score is not None]
    if not scored:
        return ""
    frame, y_ticks = _frame(generations, [one.score or 0.0 for _, one in scored])
    content = _band(frame, generations)
    for number, one in scored:
        content.append(_dot(frame, one.generation, one.score or 0.0, "faint", number))
    for style, values in (
        ("two", [(row.generation, row.quantiles["0.5"]) for row in generations]),
        ("one", [(row.generation, row.best_so_far) for row in generations]),
    ):
        placed = [frame.place(x, y) for x, y in values if y is not None]
        content.append(f'<polyline class="{style}" points="{path(placed)}"/>')
        if len(placed) == 1:
            content.append(f'<path class="dot {style}" d="M{_xy(placed[0])}h0"/>')
    x_ticks = [
        (tick, f"{tick:g}")
        for tick in nice_ticks(frame.x_low + 0.5, frame.x_high - 0.5)
        if tick == int(tick) and frame.x_low <= tick <= frame.x_high
    ]
    y_texts = [(tick, percent(tick, y_ticks)) for tick in y_ticks]
    return plot(
        content,
        frame,
        x_ticks,
        y_texts,
        x_name="generation",
        label="score by generation",
        below=_tally(frame, generations),
        style="chart dots",
    )


def front_chart(state: SearchState, cost: str, *, costs: Sequence[str] = ()) -> str:
    """Every candidate's score against one cost; the front stands out, and so does the winner.

    Args:
        state: the search.
        cost: the horizontal axis.
        costs: those the front is of; `cost` alone by default.
    """
    placed = [
        (number, one)
        for number, one in enumerate(state.candidates)
        if one.score is not None and cost in one.costs
    ]
    if not placed:
        return ""
    limit = state.limits.get(cost)
    xs = [float(one.costs[cost]) for _, one in placed]
    near = [limit] if limit is not None and limit < 2 * max(xs) else []
    x_ticks = nice_ticks(min(xs), max([*xs, *near]))
    y_ticks = score_ticks([one.score or 0.0 for _, one in placed])
    unit, letter = _unit(cost, x_ticks[-1])
    frame = Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    best = {(one.generation, one.slot) for one in front(state.scored, costs or [cost])}
    content = _limit(frame, limit)
    on_front = [each for each in placed if (each[1].generation, each[1].slot) in best]
    if set(costs) <= {cost}:
        content.append(_steps(frame, [(one.costs[cost], one.score or 0.0) for _, one in on_front]))
    for style, some in (("faint", placed), ("front", on_front)):
        for number, one in some:
            if style == "front" or (one.generation, one.slot) not in best:
                content.append(_dot(frame, one.costs[cost], one.score or 0.0, style, number))
    for number, one in placed:
        if one is state.best:
            for style in ("winner", "winner-core"):
                content.append(_dot(frame, one.costs[cost], one.score or 0.0, style, number))
    return plot(
        content,
        frame,
        [(tick, f"{tick / unit:g}") for tick in x_ticks],
        [(tick, percent(tick, y_ticks)) for tick in y_ticks],
        x_name=f"{cost_name(cost)}, {letter}" if letter else cost_name(cost),
        label=f"score against {cost_name(cost)}",
        style="chart dots",
    )


def ranking_chart(found: Validation, name: str, score_name: str) -> str:
    """Networks' AP trained alone against their scores with shared weights.

    Args:
        found: the networks; those of several seeds have these on a line through their mean.
        name: of the scoring budget.
        score_name: what the supernet's score is.
    """
    pairs = [
        (score, one.AP, one)
        for one in found.networks
        if (score := one.scores[name]) is not None and one.AP is not None
    ]
    if not pairs:
        return ""
    x_ticks = score_ticks([x for x, _, _ in pairs])
    y_ticks = score_ticks([value for _, y, one in pairs for value in (y, *one.values)])
    frame = Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    content = []
    for x, _, one in pairs:
        if len(one.values) > 1:
            seeds = [frame.place(x, value) for value in sorted(one.values)]
            content.append(f'<polyline class="front-line" points="{path(seeds)}"/>')
            content += [f'<path class="dot pt faint" d="M{_xy(place)}h0"/>' for place in seeds]
    content += [
        f'<path class="dot pt front" d="M{_xy(frame.place(x, y))}h0" '
        f'data-tip="{escape(_told(one, x, score_name))}"/>'
        for x, y, one in pairs
    ]
    return plot(
        content,
        frame,
        [(tick, percent(tick, x_ticks)) for tick in x_ticks],
        [(tick, percent(tick, y_ticks)) for tick in y_ticks],
        x_name=f"{score_name} with shared weights",
        label=f"trained alone against {name}",
        style="chart dots",
    )


def _told(one: ValidatedNetwork, score: float, score_name: str) -> str:
    lines = [
        one.path,
        f"{score_name} with shared weights {text.percent(score, 2)}",
        f"AP trained alone {text.percent(one.AP)}",
    ]
    if len(one.values) > 1:
        lines[-1] += f", by seeds {', '.join(map(text.percent, one.values))}"
    lines += [f"{cost_name(name)} {cost_text(name, value)}" for name, value in one.costs.items()]
    return "\n".join(lines)


def score_ticks(scores: Sequence[float]) -> list[float]:
    """Round numbers around the scores, not down to 0: what matters here are differences."""
    low, high = min(scores), max(scores)
    if high - low < 1e-3:
        low, high = low - 5e-4, high + 5e-4
    return nice_ticks(low, high)


def percent(value: float, ticks: Sequence[float]) -> str:
    """A tick as percent, with as many decimals as the ticks need to differ."""
    step = abs(ticks[1] - ticks[0]) * 100
    digits = next((n for n in range(4) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 4)
    return f"{100 * value:.{digits}f} %"


def _frame(generations: Sequence[Generation], scores: Sequence[float]) -> tuple[Frame, list[float]]:
    """Half a generation of room on both sides."""
    ticks = score_ticks(scores)
    numbers = [row.generation for row in generations]
    return Frame(min(numbers) - 0.5, max(numbers) + 0.5, ticks[0], ticks[-1]), ticks


def _band(frame: Frame, generations: Sequence[Generation]) -> list[str]:
    """The middle half of each generation."""
    upper, lower = (
        [
            frame.place(row.generation, value)
            for row in generations
            if (value := row.quantiles[name]) is not None
        ]
        for name in ("0.75", "0.25")
    )
    if len(upper) == 1:  # a band of one generation would have no width
        return [
            f'<line class="middle" x1="{x}" x2="{x}" y1="{y}" y2="{lower[0][1]}"/>'
            for x, y in upper
        ]
    return [f'<polygon class="middle" points="{path([*upper, *lower[::-1]])}"/>']


def _tally(frame: Frame, generations: Sequence[Generation]) -> str:
    """How many candidates of each generation are in which state, as stacked bars."""
    counted = [{state: getattr(row, state) for state in STATES} for row in generations]
    most = max(sum(counts.values()) for counts in counted)
    bar = 0.7 * WIDTH / (frame.x_high - frame.x_low)
    parts = []
    for row, counts in zip(generations, counted, strict=True):
        x, top = frame.place(row.generation, frame.y_low)[0] - bar / 2, 100.0
        told = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        for state, number in counts.items():
            height = 100 * number / most
            top -= height
            if height:
                parts.append(
                    f'<rect class="state-{state}" x="{x:.1f}" y="{top:.1f}" width="{bar:.1f}" '
                    f'height="{height:.1f}" data-tip="generation {row.generation}: {told}"/>'
                )
    return (
        f'<div class="tally"><svg viewBox="0 0 {WIDTH} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="candidates by generation and state">{"".join(parts)}</svg></div>'
    )


def _limit(frame: Frame, limit: float | None) -> list[str]:
    if limit is None or not frame.x_low <= limit <= frame.x_high:
        return []
    x, _ = frame.place(limit, frame.y_low)
    return [f'<line class="limit" x1="{x}" x2="{x}" y1="0" y2="{HEIGHT}"/>']


def _steps(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    """The best score that each cost buys."""
    corners: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    if corners:
        corners.append((frame.x_high, corners[-1][1]))
    placed = [frame.place(x, y) for x, y in corners]
    return f'<polyline class="front-line" points="{path(placed)}"/>'


def _dot(frame: Frame, x: float, y: float, style: str, number: int) -> str:
    return f'<path class="dot pt {style}" d="M{_xy(frame.place(x, y))}h0" data-c="{number}"/>'


def _xy(placed: tuple[float, float]) -> str:
    return f"{placed[0]:g} {placed[1]:g}"
