"""One HTML page of a search, complete in itself; of one that goes on, the state so far."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detnet.files import write_text
from detnet.report.curves import Chart, training_charts
from detnet.report.rendering import render_template
from detnet.report.search.charts import cost_name, cost_text, front_chart, progress_chart
from detnet.report.search.measured import baselines_view, validation_view
from detnet.report.search.records import CandidateRow, SearchRecord
from detnet.report.search.settings import flat_settings
from detnet.report.search.summary import best, front
from detnet.report.search.views import (
    candidate_rows,
    cost_heads,
    duration,
    genes_for_script,
    kinds_legend,
    network_view,
    preference_view,
    score_text,
)

_STATE = {
    "not begun": "The search has not begun.",
    "going on": "The search is not complete: this is the state so far.",
    "ended": "",
}


def write_search_page(path: Path, record: SearchRecord, summary: Mapping[str, Any]) -> Path:
    """Writes the page of a search.

    Args:
        path: the file.
        record: what the search's folder tells.
        summary: `summarise(record)`.

    Returns:
        The page's path.
    """
    write_text(path, render(record, summary))
    return path


def render(record: SearchRecord, summary: Mapping[str, Any]) -> str:
    """Makes the page's HTML.

    Args:
        record: what the search's folder tells.
        summary: `summarise(record)`.
    """
    winner = best(record)
    front_costs = summary["front"]["costs"]
    on_front = front(record.scored, front_costs)
    rows = candidate_rows(record, winner=winner, on_front=on_front)
    values: dict[str, Any] = {
        "progress": progress_chart(summary["generations"], record.candidates),
        "fronts": _fronts(record, winner),
        "networks": _networks(record, winner),
        "preferences": preference_view(summary["preferences"]),
        "rows": rows,
        "phases": [_phase(one) for one in summary["phases"]],
        "validation": validation_view(record.validation, record.score_name),
        "baselines": baselines_view(record.baselines, record.score_name),
        "config": flat_settings(record.config),
        "environment": flat_settings(record.environment),
    }
    return render_template(
        "search.html.j2",
        name=record.name,
        described=_described(record),
        state=_STATE[summary["state"]],
        notes=record.notes,
        figures=_figures(record, summary, winner),
        failed=_failed(summary),
        errors=any(one.error for one in record.candidates),
        score_name=record.score_name,
        score_text=score_text,
        limits=[f"{cost_name(n)} {cost_text(n, v)}" for n, v in record.limits.items()],
        front_rows=[row for row in rows if row["front"]],
        front_costs=[cost_name(name) for name in front_costs],
        weighed=bool(record.objectives),
        kinds=kinds_legend(record),
        genes=genes_for_script(record.genes),
        cost_heads=cost_heads(record),
        cost=_cost(summary["cost"]),
        phase_charts=_phase_charts(record),
        states=_states(summary["count"]),
        sections=_sections(values),
        **values,
    )


def _described(record: SearchRecord) -> str:
    """The line under the title."""
    config = record.config
    parts = [str(config[key]) for key in ("method", "detector") if config.get(key)]
    space = config.get("space")
    if isinstance(space, str):
        parts.append(f"space {Path(space).name}")
    if config.get("width") not in (None, 1, 1.0):
        parts.append(f"width {config['width']}")
    if config.get("data"):
        parts.append(f"on {Path(str(config['data'])).name}")
    return " · ".join(parts)


def _figures(
    record: SearchRecord, summary: Mapping[str, Any], winner: CandidateRow | None
) -> list[tuple[str, str]]:
    """The numbers above everything: (value, what it is)."""
    if winner is None:
        return []
    count = summary["count"]
    planned = f" of {count['planned']:,}" if count["planned"] else ""
    found = [(score_text(winner.score), f"{record.score_name} of the best, shared weights")]
    found += [(cost_text(n, winner.costs.get(n)), f"its {cost_name(n)}") for n in record.cost_names]
    found.append((f"{count['done']:,}", f"scored{planned}"))
    found.append((f"{count['failed']:,}", "failed"))
    if summary["cost"]["median_s"] is not None:
        found.append((duration(summary["cost"]["median_s"]), "median of a candidate"))
    return found


def _failed(summary: Mapping[str, Any]) -> str:
    """Which generations lost candidates, in words."""
    lost = [(row["generation"], row["failed"]) for row in summary["generations"] if row["failed"]]
    if not lost:
        return ""
    where = ", ".join(f"{number} ({count})" for number, count in lost)
    return f"{summary['count']['failed']} failed, in generation {where}; the table tells why."


def _fronts(record: SearchRecord, winner: CandidateRow | None) -> list[dict[str, Any]]:
    """A chart for each cost."""
    charts = []
    for name in record.cost_names:
        weighed = [name] if name not in record.objectives else record.objectives
        drawing = front_chart(record, name, winner=winner, costs=weighed)
        if drawing:
            limit = record.limits.get(name)
            text = f"limit {cost_text(name, limit)}" if limit is not None else ""
            charts.append(
                {"key": name, "title": cost_name(name), "drawing": drawing, "limit": text}
            )
    return charts


def _networks(record: SearchRecord, winner: CandidateRow | None) -> dict[str, Any] | None:
    """The best network, and the published ones beside it."""
    if winner is None or not record.genes:
        return None
    known = []
    for one in record.known:
        alike = sum(a == b for a, b in zip(one.path, winner.path, strict=True))
        known.append(
            {
                "name": one.name,
                "path": one.text,
                "costs": [(cost_name(n), cost_text(n, v)) for n, v in one.costs.items()],
                "alike": f"{alike} of {len(one.path)}",
                "view": network_view(record, one.path, beside=winner.path),
            }
        )
    return {
        "winner": winner,
        "number": list(record.candidates).index(winner),
        "costs": [(cost_name(n), cost_text(n, v)) for n, v in winner.costs.items()],
        "indices": "".join(map(str, winner.path)),
        "view": network_view(record, winner.path),
        "known": known,
    }


def _phase(one: Mapping[str, Any]) -> dict[str, Any]:
    done = "" if one["share"] is None or one["state"] == "complete" else f" ({one['share']:.0%})"
    return {
        **one,
        "state": one["state"] + done,
        "time": duration(one["seconds"]),
        "scores": ", ".join(f"{name} {100 * value:.1f}" for name, value in one["scores"].items()),
        "loss": "–" if one["loss"] is None else f"{one['loss']:.3g}",
    }


def _phase_charts(record: SearchRecord) -> list[tuple[str, list[Chart]]]:
    found = [(row.title, training_charts(row.record.events)) for row in record.phases if row.record]
    return [(title, charts) for title, charts in found if charts]


def _cost(cost: Mapping[str, Any]) -> dict[str, Any] | None:
    if not cost["candidates"]:
        return None
    return {
        "candidates": cost["candidates"],
        "all": duration(cost["seconds"]),
        "median": duration(cost["median_s"]),
        "longest": duration(cost["longest_s"]),
        "retries": cost["retries"],
        "workers": [
            (one["worker"], one["candidates"], duration(one["median_s"]), duration(one["seconds"]))
            for one in cost["workers"]
        ],
    }


def _states(count: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The table's selections; nothing to select where all are in one state."""
    found = [(name, count[name]) for name in ("done", "failed", "running", "waiting")]
    found = [(name, number) for name, number in found if number]
    return [("all", sum(number for _, number in found)), *found] if len(found) > 1 else []


def _sections(values: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Anchor and title of the sections that the page has."""
    there = [
        ("progress", "Progress", values["progress"]),
        ("front", "Front", values["fronts"]),
        ("network", "Best network", values["networks"]),
        ("preferences", "Preferences", values["preferences"]),
        ("validation", "Ranking", values["validation"]),
        ("baselines", "Baselines", values["baselines"]),
        ("phases", "Phases and cost", values["phases"]),
        ("candidates", "Candidates", values["rows"]),
        ("settings", "Settings", values["config"] or values["environment"]),
    ]
    return [(anchor, title) for anchor, title, content in there if content]
