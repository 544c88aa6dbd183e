"""Measures how well a supernet ranks: random networks scored by it, and trained standalone."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from detnet.engine import distributed
from detnet.engine.loop import Interrupt
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
from detnet.search.standalone.samples import draw_paths
from detnet.search.standalone.sharing import in_turn, require_one_process, share
from detnet.search.standalone.statistics import kendall_tau, tau_interval
from detnet.search.standalone.training import (
    StandaloneTraining,
    expectation,
    require_same_budget,
    share_trainings,
)
from detnet.text import percent
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
        seed: of the draw; by default as planned, else the search's.
        budgets: of scoring, to be compared with what they find standalone; by default the
            search's own.
        on_event: called with the events of the trainings, and "note".

    Returns:
        What it found; None when it was interrupted and can be gone on with.

    Raises:
        InputError: another count or seed than planned, other settings, no trained supernet.
    """
    require_one_process("validate")
    run = SearchRun.open(folder)
    names = tuple(dict.fromkeys(budgets or (run.config.scoring,)))
    plan = _resolve_plan(run, count, seed)
    trainings = _trainings(run, plan)
    require_same_budget(plan.budget, _budget(run, trainings), _plan_file(run))
    on_event({"event": "note", "text": expectation(trainings)})
    with Interrupt() as interrupt:
        complete = _score(run, trainings, names, lambda: interrupt.set, on_event)
        if not complete or not share_trainings(
            trainings, stop=lambda: interrupt.set, on_event=on_event
        ):
            return None
    found = _summary(plan, trainings, names)
    write_record(folder / "validate" / "validation.json", found)
    return found


@dataclass
class _SharedScorer:
    """The supernet, loaded by the first job that needs it."""

    run: SearchRun
    on_event: OnEvent
    networks: int
    _scorer: Scorer | None = field(default=None)

    def get(self, name: BudgetName) -> Scorer:
        if self._scorer is None:
            device = self.run.config.device
            process = distributed.single_process(None if device == "auto" else device)
            self._scorer = make_scorer(self.run.config, self.run.folder, process)
            text = (
                f"{self.networks} networks to score by the supernet, each on "
                f"{self._scorer.images(name):,} images ({name})"
            )
            self.on_event({"event": "note", "text": text})
        return self._scorer


@dataclass(frozen=True)
class _ScoringJob:
    """A network's score by the supernet as a piece of work that processes share."""

    training: StandaloneTraining
    budget: BudgetName
    place: str
    scorer: _SharedScorer

    @property
    def name(self) -> str:
        return f"score of {self.training.name}"

    @property
    def folder(self) -> Path:
        return self.training.folder

    @property
    def result(self) -> Path:
        return _score_file(self.training, self.budget)

    def work(self) -> bool:
        scorer, began = self.scorer.get(self.budget), time.perf_counter()
        path = self.training.run.read_path(self.training.network.path, self.folder)
        score = scorer.score(path, self.budget)
        found = score if math.isfinite(score) else None  # the supernet cannot score it
        seconds = time.perf_counter() - began
        write_record(self.result, SupernetScore(score=found, seconds=seconds))
        text = (
            f"{self.training.title}, {self.place}: {self.budget} score "
            f"{percent(found, 2, none='no number')}, {seconds:.1f} s"
        )
        self.scorer.on_event({"event": "note", "text": text})
        return True


def _score(
    run: SearchRun,
    trainings: Sequence[StandaloneTraining],
    names: Sequence[BudgetName],
    stop: Callable[[], bool],
    on_event: OnEvent,
) -> bool:
    """Scores all networks by the supernet, which need not stay in memory while others train."""
    scorer = _SharedScorer(run, on_event, len(trainings))
    jobs = [
        _ScoringJob(one, name, f"{number} of {len(trainings)}", scorer)
        for name in names
        for number, one in enumerate(trainings, 1)
    ]
    return share(jobs, stop=stop, on_event=on_event)


def _score_file(training: StandaloneTraining, name: str) -> Path:
    return training.folder / f"score_{name}.json"


def _plan_file(run: SearchRun) -> Path:
    return run.folder / "validate" / "plan.json"


def _resolve_plan(run: SearchRun, count: int | None, seed: int | None) -> ValidationPlan:
    """Draws the networks, or those that a larger count adds, and writes them down."""
    place = _plan_file(run)
    with in_turn(place.parent):
        plan = read_record(ValidationPlan, place) if place.exists() else None
        if plan and seed not in (None, plan.seed):
            raise InputError(
                f"{place}: drawn with seed {plan.seed}, not {seed}; leave --seed out, or delete "
                f"{place.parent} to begin anew"
            )
        count = _resolve_count(count, len(plan.networks) if plan else 0)
        if plan and count == len(plan.networks):
            return plan
        seed = plan.seed if plan else run.config.seed if seed is None else seed
        networks = _draw(run, plan.networks if plan else (), count, seed)
        plan = ValidationPlan(seed=seed, networks=networks, budget=plan.budget if plan else {})
        if not plan.budget:
            plan = replace(plan, budget=_budget(run, _trainings(run, plan)))
        write_record(place, plan)
        return plan


def _budget(run: SearchRun, trainings: Sequence[StandaloneTraining]) -> TrainingBudget:
    """What all networks must have in common: how they are scored, and trained."""
    scoring = {name: getattr(run.config, name) for name in _SCORING}
    return {"scoring": scoring, **trainings[0].budget}


def _resolve_count(count: int | None, planned: int) -> int:
    least = max(FEWEST, planned)
    if count is not None and count < least:
        why = f"{planned} networks are planned" if planned else f"at least {FEWEST} are needed"
        raise InputError(f"--count {count}: {why}; fewer would be a choice among them")
    return count or least


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
        PlannedNetwork(
            **asdict(run.describe(path, constraints)),
            name=f"{number:02d}",
            seeds=(run.config.seed,),
        )
        for number, path in enumerate(new, len(known) + 1)
    ]
    return (*planned, *found)


def _trainings(run: SearchRun, plan: ValidationPlan) -> list[StandaloneTraining]:
    found = []
    for network in plan.networks:
        run.read_path(network.path, _plan_file(run))
        folder = run.folder / "validate" / network.name
        (seed,) = network.seeds
        found.append(
            StandaloneTraining(
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
        )
    return found


def _summary(
    plan: ValidationPlan, trainings: Sequence[StandaloneTraining], names: Sequence[BudgetName]
) -> Validation:
    networks = []
    for planned, training in zip(plan.networks, trainings, strict=True):
        scores: dict[str, float | None] = {
            name: read_record(SupernetScore, _score_file(training, name)).score for name in names
        }
        result = replace(read_record(StandaloneResult, training.result), name=planned.name)
        networks.append(ValidatedNetwork(**vars(result), scores=scores))
    return Validation(
        seed=plan.seed,
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        rankings={name: rank(networks, name) for name in names},
        networks=tuple(networks),
    )


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
