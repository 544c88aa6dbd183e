"""A search as text for a terminal: state, best network, generations, front, preferences."""

from collections.abc import Mapping, Sequence
from typing import Any

from detnet.report.search.charts import cost_name, cost_text
from detnet.report.search.views import duration, score_text
from detnet.search.standalone.text import comparison_lines, ranking_line
from detnet.text import lay_out

_MOST_ROWS = 12
_INDENT = "  "


def format_search(summary: Mapping[str, Any]) -> str:
    """Lays out what `summarise` found, in at most 120 columns but for long paths."""
    blocks = [
        _heading(summary),
        _phases(summary["phases"]),
        _best(summary),
        _generations(summary["generations"]),
        _front(summary),
        _preferences(summary["preferences"]),
        _alone(summary),
        *(f"note: {note}" for note in summary["notes"]),
    ]
    return "\n\n".join(block for block in blocks if block)


def _heading(summary: Mapping[str, Any]) -> str:
    count = summary["count"]
    planned = f" of {count['planned']:,}" if count["planned"] else ""
    parts = [f"{count['done']:,}{planned} candidates scored"]
    parts += [f"{count[name]:,} {name}" for name in ("failed", "running", "waiting") if count[name]]
    cost = summary["cost"]
    if cost["median_s"] is not None:
        parts.append(f"{duration(cost['median_s'])} each, {duration(cost['seconds'])} in all")
    method = f" by {summary['method']}" if summary["method"] else ""
    return f"{summary['run']}: search{method}, {summary['state']}\n  " + "; ".join(parts)


def _phases(phases: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in phases:
        done = f" {one['share']:.0%}" if one["share"] and one["state"] == "under way" else ""
        scores = ", ".join(f"{name} {100 * value:.1f}" for name, value in one["scores"].items())
        rows.append([one["title"], one["state"] + done, duration(one["seconds"]), scores])
    return "Trainings\n" + lay_out(rows, left=(0, 1, 3), indent=_INDENT) if rows else ""


def _best(summary: Mapping[str, Any]) -> str:
    one = summary["best"]
    if one is None:
        return ""
    title = "Winner" if summary["state"] == "ended" else "Best so far"
    costs = _costs(one["costs"])
    lines = [
        f"{title}: {one['path']}",
        f"  {summary['score']} {score_text(one['score'])} with shared weights{costs}; "
        f"generation {one['generation']}, slot {one['slot']}",
    ]
    for other in summary["published"][:1]:
        alike = f"{other['alike']} choices alike{_costs(other['costs'])}"
        lines.append(f"  {other['name']}: {other['path']}, {alike}")
    return "\n".join(lines)


def _costs(costs: Mapping[str, float]) -> str:
    return "".join(f", {cost_text(name, value)} {cost_name(name)}" for name, value in costs.items())


def _generations(generations: Sequence[Mapping[str, Any]]) -> str:
    if not generations:
        return ""
    rows = [["generation", "scored", "failed", "open", "median", "best", "best so far"]]
    for row in generations:
        numbers = [row["generation"], row["done"], row["failed"], row["running"] + row["waiting"]]
        scores = [row["quantiles"]["0.5"], row["best"], row["best_so_far"]]
        rows.append([*map(str, numbers), *map(score_text, scores)])
    return lay_out(rows, indent=_INDENT)


def _front(summary: Mapping[str, Any]) -> str:
    costs, rows = summary["front"]["costs"], summary["front"]["candidates"]
    if not rows:
        return ""
    lines = [["path", summary["score"], *map(cost_name, costs)]]
    for one in rows[:_MOST_ROWS]:
        values = [cost_text(name, one["costs"][name]) for name in costs]
        lines.append([one["path"], score_text(one["score"]), *values])
    more = len(rows) - _MOST_ROWS
    rest = f"\n  … and {more} more" if more > 0 else ""
    return f"Front: none is cheaper and as good\n{lay_out(lines, left=(0,), indent=_INDENT)}{rest}"


def _preferences(preferences: Mapping[str, Any] | None) -> str:
    """Per stage, or per gene where genes differ, the shares of the best with those of all."""
    if preferences is None:
        return ""
    rows = []
    for row in preferences["stages"] or preferences["genes"]:
        cells = [
            f"{choice} {100 * best:.0f} ({100 * everyone:.0f})"
            for choice, best, everyone in zip(row["choices"], row["best"], row["all"], strict=True)
        ]
        rows.append([f"{row['stage']} {row.get('name', '')}".strip(), *cells])
    count = max(map(len, rows), default=0)
    rows = [row + [""] * (count - len(row)) for row in rows]
    title = f"Choices of the best {preferences['best']} in percent (of all {preferences['all']})"
    return f"{title}\n{lay_out(rows, left=range(count), indent=_INDENT)}"


def _alone(summary: Mapping[str, Any]) -> str:
    """What networks trained alone say of the search."""
    validation, baselines = summary["validation"], summary["baselines"]
    lines = [ranking_line(validation, way) for way in validation["rankings"]] if validation else []
    lines += comparison_lines(baselines) if baselines else []
    return "\n".join(["Networks trained alone", *(_INDENT + line for line in lines)]) * bool(lines)
