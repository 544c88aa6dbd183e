"""What a search has found so far, as numbers: progress, front, preferences, cost, state."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detnet.engine.run_records import RunRecord
from detnet.report.search.effects import effects_by_origin
from detnet.report.search.networks import alike
from detnet.report.search.state import Phase, SearchState
from detnet.search.methods.nsga2 import front as undominated
from detnet.search.study.study import CandidateRecord

STATES = ("done", "failed", "running", "waiting")
BEST_SHARE = 0.1  # of the scored candidates, whose choices are set against those of all
QUANTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Generation:
    """How many candidates of a generation are in which state, and their scores.

    Args:
        quantiles: of the scores, by "0.25", "0.5" and "0.75".
    """

    generation: int
    done: int
    failed: int
    running: int
    waiting: int
    best: float | None
    best_so_far: float | None
    quantiles: dict[str, float | None]


@dataclass(frozen=True)
class Preference:
    """Shares of each choice of a gene, or of all genes of a stage (no name), among candidates."""

    stage: str
    name: str
    choices: tuple[str, ...]
    best: list[float]
    all: list[float]

    @property
    def shares(self) -> list[tuple[str, float, float]]:
        """Each choice, its share among the best and that among all."""
        return list(zip(self.choices, self.best, self.all, strict=True))


@dataclass(frozen=True)
class Preferences:
    """How often each choice is taken by the best tenth, `best` candidates, and by all `all`."""

    best: int
    all: int
    stages: list[Preference]
    genes: list[Preference]


@dataclass(frozen=True)
class Spread:
    """Seconds of some candidates; None where none was timed."""

    candidates: int
    seconds: float | None
    median_s: float | None
    longest_s: float | None


@dataclass(frozen=True)
class ScoringCost(Spread):
    """Of all candidates and, by name, of each worker's."""

    retries: int
    workers: dict[str, Spread]


@dataclass(frozen=True)
class PhaseSummary:
    """How far a training is, what it took and its last scores."""

    title: str
    folder: str
    state: str
    iteration: int
    share: float | None
    seconds: float | None
    loss: float | None
    scores: dict[str, float]


def generations(candidates: Sequence[CandidateRecord]) -> list[Generation]:
    """Per generation: how many in which state, its best and quantiles, the best so far."""
    rows: list[Generation] = []
    so_far: float | None = None
    for number in sorted({one.generation for one in candidates}):
        own = [one for one in candidates if one.generation == number]
        scores = [one.score for one in own if one.score is not None]
        if scores:
            so_far = max(scores) if so_far is None else max(so_far, *scores)
        cuts = np.quantile(scores, QUANTILES).tolist() if scores else [None] * len(QUANTILES)
        rows.append(
            Generation(
                generation=number,
                **count_states(own),
                best=max(scores, default=None),
                best_so_far=so_far,
                quantiles={str(q): cut for q, cut in zip(QUANTILES, cuts, strict=True)},
            )
        )
    return rows


def front(candidates: Sequence[CandidateRecord], costs: Sequence[str]) -> list[CandidateRecord]:
    """Those that none beats: none is as good in the score and all these costs and better in one.

    Candidates without one of the costs are left out. The best score comes first.
    """
    if not costs:
        return []
    there = [one for one in candidates if one.score is not None and set(costs) <= one.costs.keys()]
    kept = [there[index] for index in undominated(there, costs)]
    return sorted(kept, key=lambda one: -(one.score or 0.0))


def preferences(state: SearchState) -> Preferences | None:
    """How often each choice is taken by the best tenth, and by all that were scored."""
    scored = sorted(state.scored, key=lambda one: -(one.score or 0.0))
    if not scored:
        return None
    top = scored[: math.ceil(BEST_SHARE * len(scored))]
    open_ = state.space.genes

    def shares(stage: str, name: str, places: Sequence[int]) -> Preference:
        choices = open_[places[0]].choices
        found = [_shares(some, places, len(choices)) for some in (top, scored)]
        return Preference(stage, name, choices, *found)

    genes = [shares(gene.stage, gene.name, [index]) for index, gene in enumerate(open_)]
    stages = [
        shares(stage, "", [index for index, gene in enumerate(open_) if gene.stage == stage])
        for stage in (dict.fromkeys(gene.stage for gene in open_) if state.space.alike else ())
    ]
    return Preferences(len(top), len(scored), stages, genes)


def scoring_cost(candidates: Sequence[CandidateRecord]) -> ScoringCost:
    """Seconds of a candidate, and who scored how many."""
    timed = [one for one in candidates if one.seconds is not None]
    workers = sorted({one.worker for one in timed if one.worker is not None})
    return ScoringCost(
        **vars(_spread(timed)),
        retries=sum(one.attempts - 1 for one in candidates if one.attempts > 1),
        workers={name: _spread([one for one in timed if one.worker == name]) for name in workers},
    )


def summarise_phase(phase: Phase) -> PhaseSummary:
    """Says how far a training is."""
    record = phase.record
    events = record.events if record else []
    steps = [event for event in events if event.get("event") == "step"]
    evaluations = [event for event in events if event.get("event") == "evaluation"]
    ended = bool(record and record.ended)
    return PhaseSummary(
        title=phase.title,
        folder=phase.folder,
        state="complete" if ended else "under way" if steps else "not begun",
        iteration=max((event["iteration"] for event in steps), default=0),
        share=1.0 if ended else _share(record.config, steps) if record else None,
        seconds=events[-1].get("seconds") if ended else _seconds(record, steps),
        loss=next((event.get("loss") for event in reversed(steps)), None),
        scores={k: v for k, v in (evaluations or [{}])[-1].items() if _is_score(k, v)},
    )


def summarise(state: SearchState) -> dict[str, Any]:
    """Makes one JSON object of a search: what `detnet search show --json` prints."""
    found, cost = preferences(state), scoring_cost(state.candidates)
    published = [
        {
            "name": one.name,
            "path": one.path,
            "costs": one.costs,
            "alike": alike(one.indices, state.best.path) if state.best else None,
        }
        for one in state.published
    ]
    workers = [{"worker": name, **vars(spread)} for name, spread in cost.workers.items()]
    on_front = front(state.scored, state.front_costs)
    return {
        "run": state.run.name,
        "state": state.progress,
        "method": state.run.config.method,
        "space": state.run.config.space,
        "score": state.score_name,
        "limits": state.limits,
        "supernet": state.supernet and asdict(state.supernet),
        "count": {"planned": state.planned, **count_states(state.candidates)},
        "best": _plain(state, state.best) if state.best else None,
        "generations": [vars(row) for row in generations(state.candidates)],
        "front": {"costs": state.front_costs, "candidates": [_plain(state, o) for o in on_front]},
        "preferences": found and asdict(found),
        "effects": {name: asdict(one) for name, one in effects_by_origin(state).items()},
        "cost": {**vars(cost), "workers": workers},
        "phases": [vars(summarise_phase(phase)) for phase in state.phases],
        "published": published,
        "validation": state.validation and asdict(state.validation),
        "baselines": state.baselines and asdict(state.baselines),
        "candidates": [_plain(state, one) for one in state.candidates],
        "notes": list(state.notes),
    }


def count_states(candidates: Sequence[CandidateRecord]) -> dict[str, int]:
    """How many candidates are in each of `STATES`."""
    states = Counter(str(one.state) for one in candidates)
    return {name: states[name] for name in STATES}


def _is_score(name: str, value: Any) -> bool:
    known = ("AP", "AP50", "AP75", "top1", "top5", "top1_error", "top5_error")
    return name in known and isinstance(value, int | float)


def _share(config: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> float | None:
    """What part of a training is done."""
    if not steps:
        return None
    for key, total in (("iteration", "iterations"), ("epoch", "epochs")):
        if config.get(total) and steps[-1].get(key) is not None:
            return min(1.0, float(steps[-1][key]) / float(config[total]))
    return None


def _seconds(record: RunRecord | None, steps: Sequence[Mapping[str, Any]]) -> float | None:
    """Of a training under way, from the pace of its steps; evaluations are not in it."""
    batch = record.config.get("batch_size") if record else None
    if not batch or not steps:
        return None
    total, before = 0.0, 0
    for step in steps:
        if step.get("images_per_s"):
            total += (step["iteration"] - before) * batch / step["images_per_s"]
            before = step["iteration"]
    return total or None


def _spread(candidates: Sequence[CandidateRecord]) -> Spread:
    seconds = [one.seconds for one in candidates if one.seconds is not None]
    if not seconds:
        return Spread(0, None, None, None)
    return Spread(len(seconds), sum(seconds), float(np.median(seconds)), max(seconds))


def _shares(candidates: Sequence[CandidateRecord], genes: Iterable[int], count: int) -> list[float]:
    taken = Counter(one.path[gene] for gene in genes for one in candidates)
    total = taken.total()
    return [taken[index] / total for index in range(count)]


def _plain(state: SearchState, one: CandidateRecord) -> dict[str, Any]:
    error = None if one.state == "done" else one.error
    kept = {name: value for name, value in vars(one).items() if name != "values"}
    return {**kept, "path": state.text(one), "score": one.score, "error": error}
