"""What a search has found so far, as numbers: progress, front, preferences, cost, state."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from detnet.engine.runs import RunRecord
from detnet.report.search.records import STATES, CandidateRow, PhaseRow, SearchRecord

BEST_SHARE = 0.1  # of the scored candidates, whose choices are set against those of all
QUANTILES = (0.25, 0.5, 0.75)


def summarise(record: SearchRecord) -> dict[str, Any]:
    """Makes one JSON object of a search: what `detnet search show --json` prints."""
    winner = best(record)
    front_costs = record.objectives or record.cost_names[:1]
    return {
        "run": record.name,
        "state": state(record),
        "method": record.config.get("method"),
        "space": record.config.get("space"),
        "score": record.score_name,
        "limits": record.limits,
        "count": {"planned": record.planned, **_counted(record.candidates)},
        "best": _plain(winner) if winner else None,
        "generations": generations(record.candidates),
        "front": {
            "costs": front_costs,
            "candidates": [_plain(one) for one in front(record.scored, front_costs)],
        },
        "preferences": preferences(record),
        "cost": cost(record.candidates),
        "phases": [phase(row) for row in record.phases],
        "published": [
            {
                "name": one.name,
                "path": one.text,
                "costs": dict(one.costs),
                "alike": _alike(one.path, winner.path) if winner else None,
            }
            for one in record.known
        ],
        "validation": dict(record.validation) or None,
        "baselines": dict(record.baselines) or None,
        "candidates": [_plain(one) for one in record.candidates],
        "notes": list(record.notes),
    }


def best(record: SearchRecord) -> CandidateRow | None:
    """The winner of a search that has ended; before, the best so far, the first of equals."""
    named = next((one for one in record.scored if one.path == record.winner_path), None)
    if named is not None:
        return named
    return max(record.scored, key=lambda one: one.score or 0.0, default=None)


def state(record: SearchRecord) -> str:
    """Of the search itself: "not begun", "going on" or "ended"."""
    if record.winner:
        return "ended"
    if not record.candidates:
        return "not begun"
    settled = sum(one.state in ("done", "failed") for one in record.candidates)
    return "ended" if settled >= (record.planned or math.inf) else "going on"


def generations(candidates: Sequence[CandidateRow]) -> list[dict[str, Any]]:
    """Per generation: how many in which state, its best and quantiles, the best so far."""
    rows, so_far = [], None
    for number in sorted({one.generation for one in candidates}):
        own = [one for one in candidates if one.generation == number]
        scores = [one.score for one in own if one.score is not None]
        if scores:
            so_far = max(scores) if so_far is None else max(so_far, *scores)
        cuts = np.quantile(scores, QUANTILES).tolist() if scores else [None] * len(QUANTILES)
        rows.append(
            {
                "generation": number,
                **_counted(own),
                "best": max(scores, default=None),
                "best_so_far": so_far,
                "quantiles": {str(q): cut for q, cut in zip(QUANTILES, cuts, strict=True)},
            }
        )
    return rows


def front(candidates: Sequence[CandidateRow], costs: Sequence[str]) -> list[CandidateRow]:
    """Those that none beats: none is as good in the score and all these costs and better in one.

    Candidates without one of the costs are left out. The best score comes first.
    """
    if not costs:
        return []
    there = [one for one in candidates if one.score is not None and set(costs) <= one.costs.keys()]
    if not there:
        return []
    points = np.array(
        [[-(one.score or 0.0), *(one.costs[name] for name in costs)] for one in there]
    )
    kept = []
    for one, point in zip(there, points, strict=True):
        as_good, better = (points <= point).all(1), (points < point).any(1)
        if not (as_good & better).any():
            kept.append(one)
    return sorted(kept, key=lambda one: -(one.score or 0.0))


def preferences(record: SearchRecord) -> dict[str, Any] | None:
    """How often each choice is taken by the best tenth, and by all that were scored."""
    scored = sorted(record.scored, key=lambda one: -(one.score or 0.0))
    if not scored:
        return None
    top = scored[: math.ceil(BEST_SHARE * len(scored))]
    genes = [
        {
            "stage": gene.stage,
            "name": gene.name,
            "choices": list(gene.choices),
            "best": _shares(top, [index], len(gene.choices)),
            "all": _shares(scored, [index], len(gene.choices)),
        }
        for index, gene in enumerate(record.genes)
    ]
    stages = []
    for stage in dict.fromkeys(gene.stage for gene in record.genes) if record.alike else ():
        places = [index for index, gene in enumerate(record.genes) if gene.stage == stage]
        choices = record.genes[places[0]].choices
        stages.append(
            {
                "stage": stage,
                "choices": list(choices),
                "best": _shares(top, places, len(choices)),
                "all": _shares(scored, places, len(choices)),
            }
        )
    return {"best": len(top), "all": len(scored), "stages": stages, "genes": genes}


def cost(candidates: Sequence[CandidateRow]) -> dict[str, Any]:
    """Seconds of a candidate, and who scored how many."""
    timed = [one for one in candidates if one.seconds is not None]
    seconds = [one.seconds for one in timed if one.seconds is not None]
    workers = []
    for worker in sorted({one.worker for one in timed if one.worker is not None}):
        own = [one.seconds or 0.0 for one in timed if one.worker == worker]
        workers.append({"worker": worker, "candidates": len(own), **_spread(own)})
    extra = sum(one.attempts - 1 for one in candidates if one.attempts > 1)
    return {"candidates": len(seconds), **_spread(seconds), "retries": extra, "workers": workers}


def phase(row: PhaseRow) -> dict[str, Any]:
    """How far a training is, what it took and its last scores."""
    record = row.record
    events = record.events if record else []
    steps = [event for event in events if event.get("event") == "step"]
    evaluations = [event for event in events if event.get("event") == "evaluation"]
    ended = bool(record and record.ended)
    scores = {k: v for k, v in (evaluations or [{}])[-1].items() if _is_score(k, v)}
    return {
        "title": row.title,
        "folder": row.folder,
        "state": "complete" if ended else "under way" if steps else "not begun",
        "iteration": max((event["iteration"] for event in steps), default=0),
        "share": 1.0 if ended else _share(record.config, steps) if record else None,
        "seconds": events[-1].get("seconds") if ended else _seconds(record, steps),
        "loss": next((event.get("loss") for event in reversed(steps)), None),
        "scores": scores,
    }


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


def _spread(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return {"seconds": None, "median_s": None, "longest_s": None}
    return {
        "seconds": float(sum(seconds)),
        "median_s": float(np.median(seconds)),
        "longest_s": float(max(seconds)),
    }


def _shares(candidates: Sequence[CandidateRow], genes: Iterable[int], count: int) -> list[float]:
    taken = Counter(one.path[gene] for gene in genes for one in candidates)
    total = taken.total()
    return [taken[index] / total for index in range(count)]


def _counted(candidates: Sequence[CandidateRow]) -> dict[str, int]:
    states = Counter(one.state for one in candidates)
    return {name: states[name] for name in STATES}


def _alike(path: Sequence[int], other: Sequence[int]) -> int:
    """How many genes are the same."""
    return sum(a == b for a, b in zip(path, other, strict=True))


def _plain(one: CandidateRow) -> dict[str, Any]:
    fields = asdict(one)
    fields["path"] = fields.pop("text")
    return fields
