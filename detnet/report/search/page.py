"""One HTML page of a search, complete in itself; of one that goes on, the state so far."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detnet.files import write_text
from detnet.report.charts import Chart, training_charts
from detnet.report.rendering import flat_settings, render_template
from detnet.report.search.charts import cost_name, cost_text, front_chart, progress_chart
from detnet.report.search.measured import baselines_view, validation_view
from detnet.report.search.networks import alike, network_view
from detnet.report.search.state import Phase, SearchState
from detnet.report.search.summary import (
    STATES,
    Preference,
    Preferences,
    ScoringCost,
    count_states,
    front,
    generations,
    preferences,
    scoring_cost,
    summarise_phase,
)
from detnet.search.study.study import CandidateRecord
from detnet.text import duration, percent

_STATE = {
    "not begun": "The search has not begun.",
    "going on": "The search is not complete: this is the state so far.",
    "ended": "",
}


def write_search_page(path: Path, state: SearchState) -> Path:
    """Writes the page of a search, and gives its path."""
    write_text(path, render(state))
    return path


def render(state: SearchState) -> str:
    """Makes the page's HTML."""
    on_front = front(state.scored, state.front_costs)
    rows = candidate_rows(state, on_front)
    cost = scoring_cost(state.candidates)
    names = state.cost_names
    values: dict[str, Any] = {
        "progress": progress_chart(generations(state.candidates), state.candidates),
        "fronts": _fronts(state),
        "networks": _networks(state),
        "preferences": _preference_view(preferences(state)),
        "rows": rows,
        "phases": [_phase(one) for one in state.phases],
        "validation": validation_view(state.validation, state.score_name),
        "baselines": baselines_view(state.baselines),
        "config": flat_settings(asdict(state.run.config)),
        "environment": flat_settings(state.environment),
    }
    return render_template(
        "search.html.j2",
        name=state.run.name,
        described=_described(state),
        state=_STATE[state.progress],
        notes=state.notes,
        figures=_figures(state, cost),
        failed=_failed(state),
        errors=any(row["error"] for row in rows),
        score_name=state.score_name,
        limits=[f"{cost_name(n)} {cost_text(n, v)}" for n, v in state.limits.items()],
        front_rows=[row for row in rows if row["front"]],
        front_costs=[cost_name(name) for name in state.front_costs],
        weighed=bool(state.run.objectives),
        kinds=state.space.legend,
        genes=[
            {"name": gene.name, "labels": gene.labels, "choices": gene.choices, "note": gene.note}
            for gene in state.space.genes
        ],
        cost_heads=[(name, cost_name(name)) for name in names],
        cost=_cost(cost),
        phase_charts=_phase_charts(state),
        states=_states(state.candidates),
        sections=_sections(values),
        **values,
    )


def candidate_rows(state: SearchState, on_front: Sequence[CandidateRecord]) -> list[dict[str, Any]]:
    """The table's rows; numbers to sort by beside the texts."""
    workers = sorted({one.worker for one in state.candidates if one.worker})
    texts = [state.text(one) for one in state.candidates]
    order = {text: index for index, text in enumerate(sorted(set(texts)))}
    front_ = {(one.generation, one.slot) for one in on_front}
    return [
        {
            "number": number,
            "generation": one.generation,
            "slot": one.slot,
            "path": text,
            "order": order[text],
            "indices": "".join(map(str, one.path)),
            "score": _value(one.score),
            "score_text": percent(one.score, 2),
            "costs": [
                (_value(one.costs.get(n)), cost_text(n, one.costs.get(n))) for n in state.cost_names
            ],
            "state": one.state,
            "state_order": STATES.index(one.state),
            "seconds": _value(one.seconds),
            "seconds_text": "–" if one.seconds is None else f"{one.seconds:,.1f}",
            "worker": one.worker or "–",
            "worker_order": workers.index(one.worker) if one.worker else "",
            "attempts": one.attempts,
            "error": "" if one.state == "done" else one.error or "",
            "winner": one is state.best,
            "front": (one.generation, one.slot) in front_,
        }
        for number, (one, text) in enumerate(zip(state.candidates, texts, strict=True))
    ]


def _described(state: SearchState) -> str:
    """The line under the title."""
    config = state.run.config
    parts = [config.method, config.detector]
    if isinstance(config.space, str):
        parts.append(f"space {Path(config.space).name}")
    if config.width != 1:
        parts.append(f"width {config.width}")
    if config.data:
        parts.append(f"on {Path(config.data).name}")
    return " · ".join(parts)


def _figures(state: SearchState, cost: ScoringCost) -> list[tuple[str, str]]:
    """The numbers above everything: (value, what it is)."""
    best, count = state.best, count_states(state.candidates)
    if best is None:
        return []
    found = [(percent(best.score, 2), f"{state.score_name} of the best, shared weights")]
    found += [(cost_text(n, best.costs.get(n)), f"its {cost_name(n)}") for n in state.cost_names]
    found.append((f"{count['done']:,}", f"scored of {state.planned:,}"))
    found.append((f"{count['failed']:,}", "failed"))
    if cost.median_s is not None:
        found.append((duration(cost.median_s), "median of a candidate"))
    return found


def _failed(state: SearchState) -> str:
    """Which generations lost candidates, in words."""
    lost = [(row.generation, row.failed) for row in generations(state.candidates) if row.failed]
    if not lost:
        return ""
    where = ", ".join(f"{number} ({count})" for number, count in lost)
    total = sum(count for _, count in lost)
    return f"{total} failed, in generation {where}; the table tells why."


def _fronts(state: SearchState) -> list[dict[str, Any]]:
    """A chart for each cost."""
    charts = []
    for name in state.cost_names:
        objectives = state.run.objectives
        drawing = front_chart(state, name, costs=objectives if name in objectives else [name])
        if drawing:
            limit = state.limits.get(name)
            text = f"limit {cost_text(name, limit)}" if limit is not None else ""
            charts.append(
                {"key": name, "title": cost_name(name), "drawing": drawing, "limit": text}
            )
    return charts


def _networks(state: SearchState) -> dict[str, Any] | None:
    """The best network, and the published ones beside it."""
    best = state.best
    if best is None:
        return None
    known = [
        {
            "name": one.name,
            "path": one.path,
            "costs": _named_costs(one.costs),
            "alike": f"{alike(one.indices, best.path)} of {len(best.path)}",
            "view": network_view(state.space, one.indices, beside=best.path),
        }
        for one in state.published
    ]
    return {
        "winner": best,
        "path": state.text(best),
        "score": percent(best.score, 2),
        "number": list(state.candidates).index(best),
        "costs": _named_costs(best.costs),
        "view": network_view(state.space, best.path),
        "known": known,
    }


def _named_costs(costs: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(cost_name(name), cost_text(name, value)) for name, value in costs.items()]


def _preference_view(found: Preferences | None) -> dict[str, Any] | None:
    """Heat tables: rows by stage (where all genes are alike) and by gene."""
    if not found:
        return None
    return {
        "best": found.best,
        "all": found.all,
        "stages": [_heat_row(row) for row in found.stages],
        "genes": [_heat_row(row) for row in found.genes],
    }


def _heat_row(row: Preference) -> dict[str, Any]:
    cells = []
    for choice, best, everyone in zip(row.choices, row.best, row.all, strict=True):
        more = best - everyone
        cells.append(
            {
                "choice": choice,
                "best": percent(best, 0),
                "all": percent(everyone, 0),
                "kind": "more" if more >= 0 else "less",
                "strength": f"{min(50.0, 110 * abs(more)):.0f}",
                "most": best > 0 and best == max(row.best),
            }
        )
    return {"stage": row.stage, "name": row.name, "cells": cells}


def _phase(phase: Phase) -> dict[str, Any]:
    one = summarise_phase(phase)
    done = "" if one.share is None or one.state == "complete" else f" ({one.share:.0%})"
    return {
        "title": one.title,
        "folder": one.folder,
        "iteration": one.iteration,
        "state": one.state + done,
        "time": duration(one.seconds),
        "scores": ", ".join(f"{name} {percent(value)}" for name, value in one.scores.items()),
        "loss": "–" if one.loss is None else f"{one.loss:.3g}",
    }


def _phase_charts(state: SearchState) -> list[tuple[str, list[Chart]]]:
    found = [(row.title, training_charts(row.record.events)) for row in state.phases if row.record]
    return [(title, charts) for title, charts in found if charts]


def _cost(cost: ScoringCost) -> dict[str, Any] | None:
    if not cost.candidates:
        return None
    return {
        "candidates": cost.candidates,
        "all": duration(cost.seconds),
        "median": duration(cost.median_s),
        "longest": duration(cost.longest_s),
        "retries": cost.retries,
        "workers": [
            (name, one.candidates, duration(one.median_s), duration(one.seconds))
            for name, one in cost.workers.items()
        ],
    }


def _states(candidates: Sequence[CandidateRecord]) -> list[tuple[str, int]]:
    """The table's selections; nothing to select where all are in one state."""
    found = [(name, number) for name, number in count_states(candidates).items() if number]
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


def _value(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"
