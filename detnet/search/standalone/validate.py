"""Measures how well a supernet ranks: random networks scored by it, and trained standalone."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from detnet.engine import distributed
from detnet.errors import InputError
from detnet.search.config import BudgetName
from detnet.search.costs.constraints import Constraints
from detnet.search.records import (
    CONFIDENCE,
    PlannedNetwork,
    Ranking,
    StandaloneResult,
    SupernetScore,
    TrainingBudget,
    ValidatedNetwork,
    Validation,
    ValidationPlan,
    read_record,
    write_record,
)
from detnet.search.run import SearchRun
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.search.standalone.plan import carry_out_plan, resolve_plan
from detnet.search.standalone.samples import draw_paths
from detnet.search.standalone.sharing import Job, require_one_process
from detnet.search.standalone.spread import measure_spread, spread_lines
from detnet.search.standalone.statistics import kendall_tau, tau_interval
from detnet.search.standalone.training import StandaloneTraining, mean_scores
from detnet.text import amount, lay_out, percent
from detnet.training.run_state import OnEvent

FEWEST = 10  # networks
RESAMPLES = 2000
_SCORING = (
    *("recalibration_images", "recalibration_batch"),
    *("cheap_recalibration_images", "cheap_score_images", "cheap_proposals"),
)
_PURPOSE = 34  # keeps these draws apart from others of the same seed


def validate(
    folder: Path,
    *,
    count: int | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    budgets: Sequence[BudgetName] = (),
    on_event: OnEvent,
) -> Validation | None:
    """Draws networks of a search's space, scores them by its supernet, trains each standalone.

    The networks are drawn among those that the search may take before any score is looked at, and
    written to RUN/validate/plan.json; later calls go on with these. Several processes may be at
    it, each started by itself. Writes RUN/validate/validation.json.

    Args:
        folder: of a search whose supernet is trained.
        count: of networks, at least `FEWEST`; by default as planned, else `FEWEST`. A larger
            number than planned adds networks, a smaller one is refused.
        seeds: trainings of each network, by the search's seed and those after it, all networks
            by one seed after the other; by default as planned, else 1. From two on, it tells how
            far networks differ beside their seeds, which bounds τ. More than planned are added,
            fewer refused.
        seed: of the draw; by default as planned, else the search's.
        budgets: of scoring, to be compared with what they find standalone; by default the
            search's own.
        on_event: called with the events of the trainings, and "note".

    Returns:
        What it found; None when it was interrupted and can be gone on with.

    Raises:
        InputError: fewer networks or seeds than planned, another seed of the draw, other
            settings, no trained supernet.
    """
    require_one_process("validate")
    run = SearchRun.open(folder)
    names = tuple(dict.fromkeys(budgets or (run.config.scoring,)))
    plan = resolve_plan(
        _plan_file(run),
        ValidationPlan,
        lambda before: _plan(run, before, count, seeds, seed),
        lambda plan: _budget(run, plan),
    )
    trainings = _trainings(run, plan)
    scoring = _Scoring(run, trainings[0], on_event)
    # All are scored first: the supernet need not stay in memory while others train.
    together = [one for by_seed in trainings for one in by_seed]
    if not carry_out_plan(together, on_event, before=scoring.jobs(names)):
        return None
    found = _summary(plan, trainings, names)
    write_record(folder / "validate" / "validation.json", found)
    return found


@dataclass
class _Scoring:
    """Scores networks by the supernet, which the first that is left to score loads."""

    run: SearchRun
    trainings: Sequence[StandaloneTraining]
    on_event: OnEvent
    scorer: Scorer | None = None

    def jobs(self, names: Sequence[BudgetName]) -> list[Job]:
        """One for each network and budget."""
        return [
            Job(
                f"score of {one.name}",
                one.folder,
                _score_file(one, name),
                partial(self.score, one, name, f"{number} of {len(self.trainings)}"),
            )
            for name in names
            for number, one in enumerate(self.trainings, 1)
        ]

    def score(self, training: StandaloneTraining, name: BudgetName, place: str) -> bool:
        scorer, began = self._loaded(name), time.perf_counter()
        path = self.run.read_path(training.network.path, training.folder)
        score = scorer.score(path, name)
        found = score if math.isfinite(score) else None  # the supernet cannot score it
        seconds = time.perf_counter() - began
        write_record(_score_file(training, name), SupernetScore(score=found, seconds=seconds))
        text = f"{name} score {percent(found, 2, none='no number')}, {seconds:.1f} s"
        self.on_event({"event": "note", "text": f"{training.title}, {place}: {text}"})
        return True

    def _loaded(self, name: BudgetName) -> Scorer:
        if self.scorer is None:
            device = self.run.config.device
            process = distributed.single_process(None if device == "auto" else device)
            self.scorer = make_scorer(self.run.config, self.run.folder, process)
            text = (
                f"{len(self.trainings)} networks to score by the supernet, each on "
                f"{self.scorer.images(name):,} images ({name})"
            )
            self.on_event({"event": "note", "text": text})
        return self.scorer


def _score_file(training: StandaloneTraining, name: str) -> Path:
    return training.folder / f"score_{name}.json"


def _plan_file(run: SearchRun) -> Path:
    return run.folder / "validate" / "plan.json"


def _plan(
    run: SearchRun,
    plan: ValidationPlan | None,
    count: int | None,
    seeds: int | None,
    seed: int | None,
) -> ValidationPlan:
    """Draws the networks, or those that a larger count adds; all have the same seeds."""
    if plan and seed not in (None, plan.seed):
        place = _plan_file(run)
        raise InputError(
            f"{place}: drawn with seed {plan.seed}, not {seed}; leave --seed out, or delete "
            f"{place.parent} to begin anew"
        )
    count = _resolve_count(count, len(plan.networks) if plan else 0)
    planned = len(plan.networks[0].seeds) if plan else 0
    seeds = _resolve_seeds(seeds, planned)
    if plan is None:
        plan = ValidationPlan(seed=run.config.seed if seed is None else seed)
    if (count, seeds) == (len(plan.networks), planned):
        return plan
    networks = plan.networks
    if count > len(networks):
        networks = _draw(run, networks, count, plan.seed)
    numbers = tuple(run.config.seed + number for number in range(seeds))
    return replace(plan, networks=tuple(replace(one, seeds=numbers) for one in networks))


def _budget(run: SearchRun, plan: ValidationPlan) -> TrainingBudget:
    """What all networks must have in common: how they are scored, and trained."""
    scoring = {name: getattr(run.config, name) for name in _SCORING}
    return {"scoring": scoring, **_trainings(run, plan)[0][0].budget}


def _resolve_count(count: int | None, planned: int) -> int:
    least = max(FEWEST, planned)
    if count is not None and count < least:
        why = f"{planned} networks are planned" if planned else f"at least {FEWEST} are needed"
        raise InputError(f"--count {count}: {why}; fewer would be a choice among them")
    return count or least


def _resolve_seeds(seeds: int | None, planned: int) -> int:
    if seeds is not None and seeds < max(1, planned):
        why = f"{planned} are planned" if planned else "at least one is needed"
        raise InputError(f"--seeds {seeds}: {why}; fewer would be a choice among them")
    return seeds or planned or 1


def _draw(
    run: SearchRun, planned: Sequence[PlannedNetwork], count: int, seed: int
) -> tuple[PlannedNetwork, ...]:
    known = [run.read_path(one.path, _plan_file(run)) for one in planned]
    constraints: Constraints = run.constraints()
    drawn = draw_paths(
        run.space,
        # Latency may be measured otherwise than it was before.
        lambda path: path in known or constraints.allows(path),
        count,
        seed=seed,
        purpose=_PURPOSE,
    )
    new = [path for path in drawn if path not in known][: count - len(known)]
    found = [
        run.plan(path, constraints, name=f"{number:02d}", seeds=(run.config.seed,))
        for number, path in enumerate(new, len(known) + 1)
    ]
    return (*planned, *found)


def _trainings(run: SearchRun, plan: ValidationPlan) -> list[list[StandaloneTraining]]:
    """The trainings of all networks by the first seed, then by the second, …"""
    for network in plan.networks:
        run.read_path(network.path, _plan_file(run))
    return [
        [_training(run, network, network.seeds[number]) for network in plan.networks]
        for number in range(len(plan.networks[0].seeds))
    ]


def _training(run: SearchRun, network: PlannedNetwork, seed: int) -> StandaloneTraining:
    folder = run.folder / "validate" / network.name
    if seed != network.seeds[0]:
        folder = folder / f"seed{seed}"
    return StandaloneTraining(
        run,
        network,
        f"network {network.name}",
        seed,
        folder=folder,
        result=folder / "result.json",
        pretrain_folder=folder / "pretrain",
        pretrain_seed=seed,
        changes=run.config.validate,
    )


def _summary(
    plan: ValidationPlan,
    trainings: Sequence[Sequence[StandaloneTraining]],
    names: Sequence[BudgetName],
) -> Validation:
    networks = []
    for planned, *of_network in zip(plan.networks, *trainings, strict=True):
        scores: dict[str, float | None] = {
            name: read_record(SupernetScore, _score_file(of_network[0], name)).score
            for name in names
        }
        results = [read_record(StandaloneResult, one.result) for one in of_network]
        networks.append(_validated(planned.name, results, scores))
    complete = [one.values for one in networks if len(one.values) == len(trainings)]
    return Validation(
        seed=plan.seed,
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        rankings={name: rank(networks, name) for name in names},
        networks=tuple(networks),
        spread=measure_spread(complete, confidence=CONFIDENCE),
    )


def _validated(
    name: str, results: Sequence[StandaloneResult], scores: dict[str, float | None]
) -> ValidatedNetwork:
    """A network with the means over its trainings."""
    means = mean_scores(results)
    errors = [one.error for one in results if one.error]
    first = {**vars(results[0]), **means, "name": name, "error": errors[0] if errors else None}
    values = tuple(one.AP for one in results if one.AP is not None)
    return ValidatedNetwork(**first, scores=scores, values=values)


def rank(networks: Sequence[ValidatedNetwork], name: BudgetName) -> Ranking:
    """τ over the networks that have both scores; None where it is not defined.

    Args:
        name: of the scoring budget.
    """
    pairs = [
        (score, one.AP)
        for one in networks
        if (score := one.scores[name]) is not None and one.AP is not None
    ]
    scores, real = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    try:
        tau = kendall_tau(scores, real)
        interval = tau_interval(scores, real, resamples=RESAMPLES, confidence=CONFIDENCE)
    except ValueError as error:
        return Ranking(tau=None, interval=None, compared=len(pairs), undefined=str(error))
    return Ranking(tau=tau, interval=interval, compared=len(pairs))


def format_validation(found: Validation) -> str:
    """How well a supernet ranks, for a terminal."""
    names = list(found.rankings)
    several = found.spread is not None
    heads = ["AP", *(["by seeds"] if several else []), "multiply-adds", "path"]
    rows = [["network", *(f"score, {name}" for name in names), *heads]]
    ordered = sorted(found.networks, key=lambda one: -(one.AP or 0.0))
    for one in ordered:
        scores = [percent(one.scores[name], 2) for name in names]
        values = [" ".join(map(percent, one.values))] if several else []
        rows.append([one.name, *scores, percent(one.AP), *values, amount(one.macs), one.path])
    errors = [f"{one.name}: {one.error}" for one in ordered if one.error]
    table = lay_out(rows, left=(0, len(rows[0]) - 1))
    return "\n".join([table, "", *validation_lines(found), *errors])


def validation_lines(found: Validation) -> list[str]:
    """How well each scoring budget ranks, and how well any could, a sentence each."""
    lines = [ranking_line(found, name) for name in found.rankings]
    return lines + (spread_lines(found.spread, found.confidence) if found.spread else [])


def ranking_line(found: Validation, name: str) -> str:
    """Kendall's τ of one scoring budget, in a sentence."""
    one = found.rankings[name]
    if one.tau is None or one.interval is None:
        return f"Kendall's tau ({name} scoring) is not defined: {one.undefined}"
    low, high = one.interval
    return (
        f"Kendall's tau between the supernet's score ({name} scoring) and AP trained alone: "
        f"{one.tau:.2f} ({low:.2f} to {high:.2f}, {100 * found.confidence:g} % interval, "
        f"{one.compared} networks)"
    )
