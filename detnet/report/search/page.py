"""One HTML page of a search, complete in itself; of one that goes on, the state so far."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detnet.evaluation.comparison.bootstrap import NOISE
from detnet.files import write_text
from detnet.report.charts import Chart, training_charts
from detnet.report.comparison_view import Axis, Row, on_axis
from detnet.report.rendering import flat_settings, render_template, signs
from detnet.report.search.charts import (
    cost_name,
    cost_text,
    front_chart,
    progress_chart,
    ranking_chart,
)
from detnet.report.search.effects import Effects, effects_by_origin
from detnet.report.search.networks import alike
from detnet.report.search.state import SearchState
from detnet.report.search.summary import (
    STATES,
    ScoringCost,
    count_states,
    front,
    generations,
    preferences,
    scoring_cost,
    summarise_phase,
)
from detnet.search.records import ValidatedNetwork, Validation
from detnet.search.standalone.ranking import bound_lines
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
    values: dict[str, Any] = {
        "progress": progress_chart(generations(state.candidates), state.candidates),
        "fronts": _fronts(state),
        "best": state.best,
        "preferences": preferences(state),
        "effects": [(name, one, _forest(one)) for name, one in effects_by_origin(state).items()],
        "rows": rows,
        "phases": [summarise_phase(one) for one in state.phases],
        "validation": state.validation,
        "baselines": state.baselines,
        "config": flat_settings(asdict(state.run.config)),
        "environment": flat_settings(state.environment),
    }
    return render_template(
        "search.html.j2",
        search=state,
        name=state.run.name,
        described=_described(state),
        state=_STATE[state.progress],
        figures=_figures(state, cost),
        failed=_failed(state),
        score_name=state.score_name,
        genes=[
            {"name": gene.name, "labels": gene.labels, "choices": gene.choices, "note": gene.note}
            for gene in state.space.genes
        ],
        cost=cost,
        phase_charts=_phase_charts(state),
        states=_states(state.candidates),
        state_names=STATES,
        sections=_sections(values),
        trained=_by_score(state.validation),
        bounds=_bounds(state.validation),
        alike=alike,
        cost_name=cost_name,
        cost_text=cost_text,
        ranking_chart=ranking_chart,
        **values,
    )


@dataclass(frozen=True)
class CandidateRow:
    """A candidate in the page's table.

    Args:
        number: in the table, by which drawings know it.
        path: as it is written.
        order: place of the path among all, by which the table is sorted.
        worker: place of its worker among all, from 0; None where nobody took it.
        error: why it has no score.
        winner: whether it is the best so far.
    """

    number: int
    one: CandidateRecord
    path: str
    order: int
    worker: int | None
    error: str
    winner: bool
    front: bool


def candidate_rows(state: SearchState, on_front: Sequence[CandidateRecord]) -> list[CandidateRow]:
    """The table's rows."""
    workers = sorted({one.worker for one in state.candidates if one.worker})
    texts = [state.text(one) for one in state.candidates]
    order = {text: index for index, text in enumerate(sorted(set(texts)))}
    front_ = {(one.generation, one.slot) for one in on_front}
    return [
        CandidateRow(
            number,
            one,
            text,
            order[text],
            workers.index(one.worker) if one.worker else None,
            "" if one.state == "done" else one.error or "",
            one is state.best,
            (one.generation, one.slot) in front_,
        )
        for number, (one, text) in enumerate(zip(state.candidates, texts, strict=True))
    ]


def _by_score(found: Validation | None) -> list[ValidatedNetwork]:
    """The networks of a validation, the best first, those without a score last."""
    networks = found.networks if found else ()
    return sorted(networks, key=lambda one: -1.0 if one.AP is None else one.AP)[::-1]


def _bounds(found: Validation | None) -> list[str]:
    """What the ranking must be held against."""
    lines = bound_lines(found) if found else []
    # The letter, not what stands within names and paths.
    return [re.sub(r"(?<![\w./-])tau(?![\w./-])", "τ", signs(line)) for line in lines]


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


def _fronts(state: SearchState) -> list[tuple[str, Chart]]:
    """A chart for each cost, by its name."""
    charts = []
    for name in state.cost_names:
        objectives = state.run.objectives
        drawing = front_chart(state, name, costs=objectives if name in objectives else [name])
        if drawing:
            limit = state.limits.get(name)
            text = f"limit {cost_text(name, limit)}" if limit is not None else ""
            charts.append((name, Chart(cost_name(name), [], drawing, text)))
    return charts


def _forest(found: Effects) -> Axis:
    """The intervals of all effects on a common axis."""
    rows, last = [], ""
    for one in found.effects:
        low, high = one.interval
        verdict = "higher" if low > 0 else "lower" if high < 0 else NOISE
        row = Row(
            f"{one.choice} for {one.first}",
            first=0.0,
            other=one.difference,
            difference=one.difference,
            low=low,
            high=high,
            verdict=verdict,
            group="" if one.gene == last else one.gene,
            objects=one.networks,
        )
        rows.append(row)
        last = one.gene
    return on_axis(rows, room=math.inf)  # the largest effects matter most


def _phase_charts(state: SearchState) -> list[tuple[str, list[Chart]]]:
    found = [(row.title, training_charts(row.record.events)) for row in state.phases if row.record]
    return [(title, charts) for title, charts in found if charts]


def _states(candidates: Sequence[CandidateRecord]) -> list[tuple[str, int]]:
    """The table's selections; nothing to select where all are in one state."""
    found = [(name, number) for name, number in count_states(candidates).items() if number]
    return [("all", sum(number for _, number in found)), *found] if len(found) > 1 else []


def _sections(values: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Anchor and title of the sections that the page has."""
    there = [
        ("progress", "Progress", values["progress"]),
        ("front", "Front", values["fronts"]),
        ("network", "Best network", values["best"]),
        ("preferences", "Preferences", values["preferences"]),
        ("effects", "Effects", values["effects"]),
        ("validation", "Ranking", values["validation"]),
        ("baselines", "Baselines", values["baselines"]),
        ("phases", "Phases and cost", values["phases"]),
        ("candidates", "Candidates", values["rows"]),
        ("settings", "Settings", values["config"] or values["environment"]),
    ]
    return [(anchor, title) for anchor, title, content in there if content]
