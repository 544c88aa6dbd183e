"""Measures how well a supernet ranks: random networks scored by it, and trained alone."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from detnet.engine import distributed
from detnet.engine.interrupt import Interrupt
from detnet.errors import InputError
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.search.standalone.networks import Search, budget_of, open_search, require_same_budget
from detnet.search.standalone.samples import draw_paths
from detnet.search.standalone.sharing import (
    Job,
    in_turn,
    read_json,
    require_one_process,
    share,
    write_json,
)
from detnet.search.standalone.statistics import kendall_tau, tau_interval
from detnet.search.standalone.text import draw_ranking
from detnet.search.standalone.training import Alone, expectation, train_alone
from detnet.training.run_state import Watch

Way = Literal["full", "cheap"]

FEWEST = 10  # networks
_SCORING = (
    *("recalibration_images", "recalibration_batch"),
    *("cheap_recalibration_images", "cheap_score_images", "cheap_proposals"),
)
_PURPOSE = 34  # keeps these draws apart from others of the same seed
RESAMPLES = 2000


def validate(
    run: Path,
    *,
    count: int | None = None,
    seed: int | None = None,
    ways: Sequence[Way] = (),
    watch: Watch,
) -> dict[str, Any] | None:
    """Draws networks of a search's space, scores them by its supernet, trains each alone.

    The networks are drawn among those that the search may take before any score is looked at, and
    written to RUN/validate/plan.json; later calls go on with these. Several processes may be at
    it, each started by itself. Writes validation.json and, for each way, a picture into
    RUN/validate.

    Args:
        run: of a search whose supernet is trained.
        count: of networks, at least `FEWEST`; by default as planned, else `FEWEST`. A larger
            number than planned adds networks, a smaller one is refused.
        seed: of the draw; by default as planned, else the search's.
        ways: of scoring, to be compared with what they find alone; by default the search's own.
        watch: called with the events of the trainings, and "note".

    Returns:
        What validation.json holds; None when it was interrupted and can be gone on with.

    Raises:
        InputError: another count or seed than planned, other settings, no trained supernet.
    """
    require_one_process("validate")
    search = open_search(run)
    ways = tuple(dict.fromkeys(ways or (search.config.scoring,)))
    folder = run / "validate"
    plan = _settle_plan(search, folder, count, seed)
    networks = _networks(search, folder, plan)
    require_same_budget(plan, _budget(search, networks), folder / "plan.json")
    watch({"event": "note", "text": expectation(networks, run)})
    with Interrupt() as interrupt:
        work = _Work(search, networks, lambda: interrupt.set, watch)
        complete = work.score(ways) and work.train()
    if not complete:
        return None
    found = _summary(plan, networks, ways)
    write_json(folder / "validation.json", found)
    for way in ways:
        draw_ranking(folder / f"ranking_{way}.svg", found, way)
    return found


@dataclass
class _Work:
    """Scoring and training, shared with other processes."""

    search: Search
    networks: Sequence[Alone]
    stop: Callable[[], bool]
    watch: Watch
    _scorer: Scorer | None = field(default=None)

    def score(self, ways: Sequence[Way]) -> bool:
        """Scores all networks by the supernet; False when interrupted."""
        jobs = [
            self._score_job(network, way, number, len(self.networks))
            for way in ways
            for number, network in enumerate(self.networks, 1)
        ]
        try:
            return share(jobs, stop=self.stop, watch=self.watch)
        finally:
            self._scorer = None  # the supernet need not stay in memory while others train

    def train(self) -> bool:
        """Trains all networks alone; False when interrupted."""
        jobs = training_jobs(self.networks, self.stop, self.watch)
        return share(jobs, stop=self.stop, watch=self.watch)

    def _score_job(self, network: Alone, way: Way, number: int, total: int) -> Job:
        result = network.folder / f"score_{way}.json"

        def work() -> bool:
            scorer, began = self._scorer_of(way, total), time.perf_counter()
            path = self.search.read_path(network.about["path"], network.folder)
            score = scorer.score(path, way)
            found = score if math.isfinite(score) else None  # the supernet cannot score it
            seconds = time.perf_counter() - began
            write_json(result, {**network.about, "way": way, "score": found, "seconds": seconds})
            said = "no number" if found is None else f"{100 * found:.2f}"
            text = f"{network.name}, {number} of {total}: {way} score {said}, {seconds:.1f} s"
            self.watch({"event": "note", "text": text})
            return True

        return Job(f"score of {network.name}", network.folder, result, work)

    def _scorer_of(self, way: Way, total: int) -> Scorer:
        """The supernet, loaded by the first who needs it."""
        if self._scorer is None:
            device = self.search.config.device
            process = distributed.alone(None if device == "auto" else device)
            self._scorer = scorer = make_scorer(self.search.config, self.search.folder, process)
            images = scorer.images(way)
            text = f"{total} networks to score by the supernet, each on {images:,} images ({way})"
            self.watch({"event": "note", "text": text})
        return self._scorer


def training_jobs(networks: Sequence[Alone], stop: Callable[[], bool], watch: Watch) -> list[Job]:
    """Networks to train alone, as work to share."""

    def job(network: Alone, number: int) -> Job:
        def work() -> bool:
            text = f"training {number} of {len(networks)}: {network.name}"
            watch({"event": "note", "text": text})
            return train_alone(network, stop=stop, watch=watch)

        return Job(network.name, network.folder, network.result, work)

    return [job(network, number) for number, network in enumerate(networks, 1)]


def _settle_plan(
    search: Search, folder: Path, count: int | None, seed: int | None
) -> dict[str, Any]:
    """Draws the networks, or those that a larger count adds, and writes them down."""
    place = folder / "plan.json"
    with in_turn(folder):
        plan = read_json(place) if place.exists() else None
        planned = plan["networks"] if plan else []
        if plan and seed not in (None, plan["seed"]):
            raise InputError(
                f"{place}: drawn with seed {plan['seed']}, not {seed}; leave --seed out, or delete "
                f"{folder} to begin anew"
            )
        count = _settle_count(count, len(planned))
        if plan and count == len(planned):
            return dict(plan)
        seed = plan["seed"] if plan else search.config.seed if seed is None else seed
        networks = _draw(search, planned, count, seed, place)
        plan = {"seed": seed, **(plan or {}), "networks": networks}
        if "budget" not in plan:
            plan["budget"] = _budget(search, _networks(search, folder, plan))
        write_json(place, plan)
        return plan


def _budget(search: Search, networks: Sequence[Alone]) -> dict[str, Any]:
    """What all networks must have in common: how they are scored, and trained."""
    scoring = {name: getattr(search.config, name) for name in _SCORING}
    return {"scoring": scoring, **budget_of(networks[0])}


def _settle_count(count: int | None, planned: int) -> int:
    least = max(FEWEST, planned)
    if count is not None and count < least:
        why = f"{planned} networks are planned" if planned else f"at least {FEWEST} are needed"
        raise InputError(f"--count {count}: {why}; fewer would be a choice among them")
    return count or least


def _draw(
    search: Search, planned: Sequence[dict[str, Any]], count: int, seed: int, place: Path
) -> list[dict[str, Any]]:
    known = [search.read_path(entry["path"], place) for entry in planned]
    allows = search.constraints.allows  # latency may be measured otherwise than it was before
    drawn = draw_paths(
        search.space,
        lambda path: path in known or allows(path),
        count,
        seed=seed,
        purpose=_PURPOSE,
    )
    new = [path for path in drawn if path not in known][: count - len(known)]
    numbered = enumerate(new, len(known) + 1)
    return [*planned, *({"name": f"{n:02d}", **search.about(path)} for n, path in numbered)]


def _networks(search: Search, folder: Path, plan: dict[str, Any]) -> list[Alone]:
    found = []
    for entry in plan["networks"]:
        place = folder / str(entry["name"])
        found.append(
            search.alone(
                f"network {entry['name']}",
                search.read_path(entry["path"], folder / "plan.json"),
                search.config.seed,
                folder=place,
                result=place / "result.json",
                changes=search.config.validate,
            )
        )
    return found


def _summary(
    plan: dict[str, Any], networks: Sequence[Alone], ways: Sequence[Way]
) -> dict[str, Any]:
    rows = []
    for entry, network in zip(plan["networks"], networks, strict=True):
        scores = {way: read_json(network.folder / f"score_{way}.json")["score"] for way in ways}
        result = read_json(network.result)
        rows.append({**result, **entry, "score": scores[ways[0]], "scores": scores})
    rankings = {way: _ranking(rows, way) for way in ways}
    first = rankings[ways[0]]
    return {
        "way": ways[0],
        **first,
        "confidence": 0.95,
        "resamples": RESAMPLES,
        "seed": plan["seed"],
        "count": len(rows),
        "rankings": rankings,
        "networks": rows,
    }


def _ranking(rows: Sequence[dict[str, Any]], way: Way) -> dict[str, Any]:
    """τ over the networks that have both scores; None where it is not defined."""
    pairs = [
        (row["scores"][way], row["AP"])
        for row in rows
        if row["scores"][way] is not None and row["AP"] is not None
    ]
    scores, real = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    try:
        tau: float | None = kendall_tau(scores, real)
        interval = list(tau_interval(scores, real, resamples=RESAMPLES))
    except ValueError as error:
        return {"tau": None, "interval": None, "compared": len(pairs), "undefined": str(error)}
    return {"tau": tau, "interval": interval, "compared": len(pairs)}
