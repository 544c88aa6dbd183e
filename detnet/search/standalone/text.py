"""Networks of a search that were trained alone, as text, as Markdown and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detnet.files import replacing
from detnet.text import lay_out

_SIZE = (5.0, 4.0)  # inches


def format_ranking(found: Mapping[str, Any]) -> str:
    """What validation.json says, for a terminal.

    Args:
        found: see `detnet.search.standalone.validate`.
    """
    ways = list(found["rankings"])
    rows = [["network", *(f"score, {way}" for way in ways), "AP", "multiply-adds", "path"]]
    ordered = sorted(found["networks"], key=lambda row: -(row["AP"] or 0.0))
    for row in ordered:
        scores = [_percent(row["scores"][way], 2) for way in ways]
        macs = f"{row['macs'] / 1e6:.1f} M"
        rows.append([row["name"], *scores, _percent(row["AP"], 1), macs, row["path"]])
    lines = [ranking_line(found, way) for way in ways]
    errors = [f"{row['name']}: {row['error']}" for row in ordered if row.get("error")]
    return "\n".join([lay_out(rows, left=(0, len(ways) + 3)), "", *lines, *errors])


def ranking_line(found: Mapping[str, Any], way: str) -> str:
    """Kendall's τ of one way of scoring, in a sentence."""
    one = found["rankings"][way]
    if one["tau"] is None:
        return f"Kendall's tau ({way} scoring) is not defined: {one['undefined']}"
    low, high = one["interval"]
    return (
        f"Kendall's tau between the supernet's score ({way} scoring) and AP trained alone: "
        f"{one['tau']:.2f} ({low:.2f} to {high:.2f}, {_sure(found)} interval, "
        f"{one['compared']} networks)"
    )


def draw_ranking(path: Path, found: Mapping[str, Any], way: str) -> Path:
    """Draws the AP that networks reach alone against their scores by the supernet, as SVG."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    pairs = [
        (100 * row["scores"][way], 100 * row["AP"])
        for row in found["networks"]
        if row["scores"][way] is not None and row["AP"] is not None
    ]
    # Equal numbers give equal files: no date, no random ids.
    with matplotlib.rc_context({"svg.hashsalt": "detnet", "font.size": 9}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.plot([x for x, _ in pairs], [y for _, y in pairs], "o", markersize=4, color="#1f5f99")
        axes.set_xlabel(f"score with shared weights ({way}), percent")
        axes.set_ylabel("AP trained alone, percent")
        one = found["rankings"][way]
        if one["tau"] is not None:
            low, high = one["interval"]
            axes.set_title(f"Kendall's τ {one['tau']:.2f} ({low:.2f} to {high:.2f})", fontsize=9)
        axes.grid(alpha=0.3)
        with replacing(path) as beside_it:
            figure.savefig(beside_it, format="svg", metadata={"Date": None})
    return path


def format_baselines(found: Mapping[str, Any]) -> str:
    """What baselines.json says, for a terminal."""
    heads, *rows = _baseline_rows(found)
    table = lay_out([heads, *rows], left=(0, len(heads) - 1))
    return "\n".join([table, "", *comparison_lines(found)])


def baselines_markdown(found: Mapping[str, Any]) -> str:
    """What baselines.json says, as a section of RESULTS.md."""
    heads, *rows = _baseline_rows(found)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        lines.append("| " + " | ".join([*row[:-1], f"`{row[-1]}`" if row[-1] else ""]) + " |")
    said = [f"- {line}" for line in comparison_lines(found)]
    return "\n".join([*lines, "", *said]) + "\n"


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """What the winner has over each baseline, a sentence each."""
    lines = []
    for one in found["differences"]:
        text = f"the winner less {one['name']}: {_points(one['difference'])} points of AP"
        if one["interval"] is not None:
            low, high = (_points(end) for end in one["interval"])
            text += f" ({low} to {high}, {_sure(found)} interval, Welch's)"
        lines.append(text)
    random = found["random"]
    if random["values"] and found["winner_mean"] is not None:
        below = sum(value < found["winner_mean"] for value in random["values"])
        lines.append(f"{below} of {len(random['values'])} random networks lie below its mean")
    for row in found["networks"]:
        lines += [f"{row['name']}: {text}" for text in row.get("notes", ())]
    return lines


def _baseline_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells, its head first."""
    rows = [["network", "multiply-adds", "params", "AP of each seed", "AP", "interval", "path"]]
    for one in found["networks"]:
        values = " ".join(_percent(value, 1) for value in one["values"])
        rows.append(
            [
                one["name"],
                f"{one['macs'] / 1e6:.1f} M",
                f"{one['params'] / 1e6:.2f} M",
                values or "–",
                _percent(one["AP"], 1),
                _interval(one["interval"]),
                one["path"],
            ]
        )
    random = found["random"]
    if len(random["values"]) > 1:
        spread = f"{_percent(min(random['values']), 1)} to {_percent(max(random['values']), 1)}"
        mean, interval = _percent(random["mean"], 1), _interval(random["interval"])
        rows.append(["the random ones together", "", "", spread, mean, interval, ""])
    return rows


def _interval(value: Sequence[float] | None) -> str:
    return "–" if value is None else f"{100 * value[0]:.1f} to {100 * value[1]:.1f}"


def _percent(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _sure(found: Mapping[str, Any]) -> str:
    return f"{100 * found['confidence']:g} %"
