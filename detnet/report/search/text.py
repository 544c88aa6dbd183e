"""A search as text: for a terminal, and as a section of RESULTS.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from detnet.report.results import command_of, hardware, put_section
from detnet.report.search.charts import cost_name, cost_text
from detnet.report.search.effects import Effect, Effects, effects_by_origin
from detnet.report.search.networks import alike
from detnet.report.search.state import SearchState
from detnet.report.search.summary import (
    Preferences,
    count_states,
    front,
    generations,
    preferences,
    scoring_cost,
    summarise_phase,
)
from detnet.search.records import Validation
from detnet.search.run import SearchRun
from detnet.search.standalone.baselines import (
    baselines_markdown,
    baselines_so_far,
    comparison_lines,
)
from detnet.search.standalone.ranking import validation_lines
from detnet.text import (
    amount,
    count,
    duration,
    lay_out,
    markdown_row,
    percent,
    points,
    points_between,
)

_MOST_ROWS = 12
_INDENT = "  "


def format_search(state: SearchState) -> str:
    """Lays a search out in at most 120 columns but for long paths."""
    blocks = [
        _heading(state),
        _phases(state),
        _best(state),
        _generations(state),
        _front(state),
        _preferences(preferences(state)),
        *(_effects(name, one) for name, one in effects_by_origin(state).items()),
        _standalone(state),
        *(f"note: {note}" for note in state.notes),
    ]
    return "\n\n".join(block for block in blocks if block)


def write_results_section(page: Path, state: SearchState) -> None:
    """Puts the search's section into a Markdown page, in the place of the one before.

    Raises:
        InputError: as `put_section`.
    """
    put_section(page, f"search: {state.run.name}", results_section(state))


def results_section(state: SearchState) -> str:
    """The search as Markdown: its command, what it found, how well it ranks, what choices add."""
    commit = state.environment.get("commit") or "?"
    lines = [
        search_section(state.run, validation=state.validation).replace("###", "##", 1),
        f"`{command_of(state.environment)}`; commit {commit}, {hardware(state.environment)}.",
    ]
    if state.validation:
        names = list(state.validation.rankings)
        rows = [["network", "multiply-adds", "AP alone", *(f"score, {name}" for name in names)]]
        for one in sorted(state.validation.networks, key=lambda one: -(one.AP or 0.0)):
            if one.AP is not None:
                scores = [percent(one.scores[name], 2) for name in names]
                values = " ".join(map(percent, one.values)) or percent(one.AP)
                rows.append([f"`{one.path}`", amount(one.macs), values, *scores])
        lines.append(_table(rows))
    for name, effects in effects_by_origin(state).items():
        rows = [["choice", f"points, {name}", "interval", "networks"]]
        for effect in effects.effects:
            title = f"{effect.gene}: {effect.choice} for {effect.first}"
            ends = points_between(effect.interval)
            told = points(effect.difference, side=_is_clear(effect))
            rows.append([title, told, ends, str(effect.networks)])
        said = f"What each choice adds, {name}: {effects.networks} networks, "
        said += f"{percent(effects.explained, 0)} % of the variance in these sums."
        lines += [said, _table(rows)]
    return "\n\n".join(lines) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    heads, *others = map(markdown_row, rows)
    return "\n".join([heads, "|" + "---|" * len(rows[0]), *others])


def search_section(run: SearchRun, *, validation: Validation | None = None) -> str:
    """Writes what was searched, how well the supernet ranks, and what the winner reached.

    Args:
        validation: as far as it is by now; else the complete one, if there is one.
    """
    parts = [f"### {run.name}: {_what(run)}"]
    winner, baselines = run.winner, baselines_so_far(run) or run.baselines
    validation = validation or run.validation
    if winner is not None:
        parts.append(
            f"Winner `{winner.path}`, {amount(winner.macs)} multiply-adds (body), score with "
            f"shared weights {percent(winner.score)}."
        )
    if validation is not None:
        parts += [f"{line}." for line in validation_lines(validation)]
    if baselines is not None:
        parts.append(baselines_markdown(baselines).strip())
    return "\n\n".join(parts)


def _what(run: SearchRun) -> str:
    config = run.config
    own = not isinstance(config.space, str) or "/" in config.space
    return (
        f"{'a space of its own' if own else config.space} at width {config.width:g}, "
        f"{config.method}, {config.generations} generations of {config.population}, "
        f"{config.detector} on {Path(config.data or '?').name}"
    )


def _heading(state: SearchState) -> str:
    count, cost = count_states(state.candidates), scoring_cost(state.candidates)
    parts = [f"{count['done']:,} of {state.planned:,} candidates scored"]
    parts += [f"{count[name]:,} {name}" for name in ("failed", "running", "waiting") if count[name]]
    if cost.median_s is not None:
        parts.append(f"{duration(cost.median_s)} each, {duration(cost.seconds)} in all")
    title = f"{state.run.name}: search by {state.run.config.method}, {state.progress}"
    taken = f"\n  {state.supernet.told}" if state.supernet else ""
    return f"{title}\n  " + "; ".join(parts) + taken


def _phases(state: SearchState) -> str:
    rows = []
    for one in map(summarise_phase, state.phases):
        done = f" {one.share:.0%}" if one.share and one.state == "under way" else ""
        scores = ", ".join(f"{name} {percent(value)}" for name, value in one.scores.items())
        rows.append([one.title, one.state + done, duration(one.seconds), scores])
    return "Trainings\n" + lay_out(rows, left=(0, 1, 3), indent=_INDENT) if rows else ""


def _best(state: SearchState) -> str:
    one = state.best
    if one is None:
        return ""
    lines = [
        f"{'Winner' if state.progress == 'ended' else 'Best so far'}: {state.text(one)}",
        f"  {state.score_name} {percent(one.score, 2)} with shared weights{_costs(one.costs)}; "
        f"generation {one.generation}, slot {one.slot}",
    ]
    for other in state.published[:1]:
        same = f"{alike(other.indices, one.path)} choices alike{_costs(other.costs)}"
        lines.append(f"  {other.name}: {other.path}, {same}")
    return "\n".join(lines)


def _costs(costs: Mapping[str, float]) -> str:
    return "".join(f", {cost_text(name, value)} {cost_name(name)}" for name, value in costs.items())


def _generations(state: SearchState) -> str:
    if not state.candidates:
        return ""
    rows = [["generation", "scored", "failed", "open", "median", "best", "best so far"]]
    for row in generations(state.candidates):
        numbers = [row.generation, row.done, row.failed, row.running + row.waiting]
        scores = [row.quantiles["0.5"], row.best, row.best_so_far]
        rows.append([*map(str, numbers), *(percent(score, 2) for score in scores)])
    return lay_out(rows, indent=_INDENT)


def _front(state: SearchState) -> str:
    costs = state.front_costs
    found = front(state.scored, costs)
    if not found:
        return ""
    rows = [["path", state.score_name, *map(cost_name, costs)]]
    for one in found[:_MOST_ROWS]:
        values = [cost_text(name, one.costs[name]) for name in costs]
        rows.append([state.text(one), percent(one.score, 2), *values])
    more = len(found) - _MOST_ROWS
    rest = f"\n  … and {more} more" if more > 0 else ""
    return f"Front: none is cheaper and as good\n{lay_out(rows, left=(0,), indent=_INDENT)}{rest}"


def _preferences(found: Preferences | None) -> str:
    """Per stage, or per gene where genes differ, the shares of the best with those of all."""
    if found is None:
        return ""
    rows = []
    for row in found.stages or found.genes:
        cells = [
            f"{choice} {percent(best, 0)} ({percent(everyone, 0)})"
            for choice, best, everyone in row.shares
        ]
        rows.append([f"{row.stage} {row.name}".strip(), *cells])
    count = max(map(len, rows), default=0)
    rows = [row + [""] * (count - len(row)) for row in rows]
    title = f"Choices of the best {found.best} in percent (of all {found.all})"
    return f"{title}\n{lay_out(rows, left=range(count), indent=_INDENT)}"


def _effects(name: str, found: Effects) -> str:
    """The choices whose interval does not hold zero, the largest effect first."""
    clear = [one for one in found.effects if _is_clear(one)]
    clear.sort(key=lambda one: -abs(one.difference))
    rows = [
        [f"{one.gene} {one.choice} for {one.first}", points(one.difference, side=True)]
        + [points_between(one.interval)]
        for one in clear[:_MOST_ROWS]
    ]
    title = (
        f"What a choice adds, {name}, in points ({found.networks} networks, "
        f"{100 * found.confidence:g} % intervals; {percent(found.explained, 0)} % of the variance)"
    )
    rest = len(found.effects) - len(clear)
    rows += [[f"{count(rest, 'other')} cannot be told from nothing", "", ""]] if rest else []
    return f"{title}\n{lay_out(rows, left=(0,), indent=_INDENT)}"


def _is_clear(effect: Effect) -> bool:
    """Whether its interval does not hold zero."""
    return effect.interval[0] > 0 or effect.interval[1] < 0


def _standalone(state: SearchState) -> str:
    """What networks trained alone say of the search."""
    validation, baselines = state.validation, state.baselines
    lines = validation_lines(validation) if validation else []
    lines += comparison_lines(baselines) if baselines else []
    return "\n".join(["Networks trained alone", *(_INDENT + line for line in lines)]) * bool(lines)
