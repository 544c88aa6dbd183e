"""Measures how well a supernet ranks: random networks scored by it, and trained standalone."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from detnet.engine import distributed
from detnet.engine.runs import RunFolder
from detnet.search.config import BudgetName
from detnet.search.records import (
    StandaloneResult,
    SupernetScore,
    Validation,
    ValidationPlan,
    read_record,
    write_record,
)
from detnet.search.run import SearchRun
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.search.standalone.plan import carry_out_plan, read_plan, resolve_plan
from detnet.search.standalone.ranking import summarise, validation_lines
from detnet.search.standalone.sharing import Job, in_turn, require_processes
from detnet.search.standalone.training import StandaloneTraining
from detnet.search.standalone.validation_plan import (
    join_plans,
    plan_file,
    plan_validation,
    take_over,
    trainings_of,
)
from detnet.text import amount, lay_out, percent
from detnet.text import count as count_of
from detnet.training.run_state import OnEvent

# What decides a score beside the supernet, by scoring budget.
_DECISIVE: dict[str, tuple[str, ...]] = {
    "full": ("seed", "recalibration_images", "recalibration_batch"),
    "cheap": (
        *("seed", "recalibration_batch", "cheap_recalibration_images"),
        *("cheap_score_images", "cheap_proposals"),
    ),
}


def validate(
    folder: Path,
    *,
    count: int | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    budgets: Sequence[BudgetName] = (),
    trained: Path | None = None,
    workers: int = 1,
    on_event: OnEvent,
) -> Validation | None:
    """Draws networks of a search's space, scores them by its supernet, trains each standalone.

    The networks are drawn among those that the search may take before any score is looked at, and
    written to RUN/validate/plan.json; later calls go on with these. Several processes may be at
    it, each started by itself, also while the supernet is trained elsewhere: then scores come
    last. Writes RUN/validate/validation.json. Scores of another supernet, or by other settings of
    scoring, than there are now are found anew; nothing is trained for that. Without a supernet, as
    in an archive, scores stay as they are.

    Args:
        folder: of a search that has begun.
        count: of networks, at least `FEWEST`; by default as planned, else `FEWEST`. A larger
            number than planned adds networks, a smaller one is refused.
        seeds: trainings of each network, by the search's seed and those after it, all networks
            by one seed after the other; by default as planned, else 1. From two on, it tells how
            far networks differ beside their seeds, which bounds τ. More than planned are added,
            fewer refused.
        seed: of the draw; by default as planned, else the search's.
        budgets: of scoring, to be compared with what they find standalone; by default the
            search's own.
        trained: folder of another search of the same space, whose validation's networks are taken
            with what they reached, so that they need not be trained again.
        workers: processes of this machine that train at once, a GPU each where there are several,
            else a share of the processor's threads; further ones may be started elsewhere.
        on_event: called with the events of the trainings, and "note"; when it is interrupted, with
            what was found so far.

    Returns:
        What it found; None when it was interrupted and can be gone on with.

    Raises:
        InputError: fewer networks or seeds than planned, another seed of the draw, other
            settings, no supernet when all is trained, no worker; `trained` has no validation, or is
            of other data or another space.
    """
    require_processes("validate", workers)
    run = SearchRun.open(folder)
    names = tuple(dict.fromkeys(budgets or (run.config.scoring,)))

    def choose(before: ValidationPlan | None) -> ValidationPlan:
        joined = before if trained is None else join_plans(run, before, trained)
        return plan_validation(run, joined, count, seeds, seed)

    plan = resolve_plan(
        plan_file(run), ValidationPlan, choose, lambda plan: trainings_of(run, plan)[0][0]
    )
    if trained is not None and (taken := take_over(run, plan, trained)):
        text = f"{count_of(taken, 'training')} taken over from {trained}"
        on_event({"event": "note", "text": text})
    trainings = trainings_of(run, plan)
    scoring = _Scoring(run, trainings[0], names, on_event)
    # All are scored first: the supernet need not stay in memory while others train.
    ready = scoring.ready
    if not ready:
        on_event({"event": "note", "text": "the supernet is not trained yet: scores come last"})
    together = [one for by_seed in trainings for one in by_seed]
    if not carry_out_plan(
        together,
        on_event,
        workers=workers,
        command=["search", "validate", str(folder), "--scoring", *names],
        logs=plan_file(run).parent,
        beside=scoring.jobs,
        beside_first=ready,
    ):
        so_far = validation_so_far(run)
        for line in validation_lines(so_far) if so_far else []:
            on_event({"event": "note", "text": line})
        return None
    found = _summary(run, plan, names)
    assert found is not None  # since all trainings are done
    write_record(folder / "validate" / "validation.json", found)
    return found


def validation_so_far(run: SearchRun) -> Validation | None:
    """What a validation has found by now, be it complete, interrupted or going on.

    Returns:
        None before the first training is complete.

    Raises:
        InputError: one of its files is damaged.
    """
    place = plan_file(run)
    if (plan := read_plan(place, ValidationPlan)) is None:
        return None
    scored = {path.stem.removeprefix("score_") for path in place.parent.glob("*/score_*.json")}
    return _summary(run, plan, [name for name in get_args(BudgetName) if name in scored])


def _summary(run: SearchRun, plan: ValidationPlan, names: Sequence[str]) -> Validation | None:
    trainings = trainings_of(run, plan)
    results = [
        [read_record(StandaloneResult, one.result) if one.result.exists() else None for one in some]
        for some in trainings
    ]
    scores = _scores(run.folder, plan, names)
    others = _scores(Path(plan.taken), plan, names) if plan.taken else {}
    others = {name: found for name, found in others.items() if found.count(None) < len(found)}
    return summarise(plan, results, scores, others)


def _scores(
    folder: Path, plan: ValidationPlan, names: Sequence[str]
) -> dict[str, list[float | None]]:
    """All networks' scores by the supernet of a search, by scoring budget."""
    found: dict[str, list[float | None]] = {}
    for name in names:
        files = [folder / "validate" / one.name / f"score_{name}.json" for one in plan.networks]
        found[name] = [read_record(SupernetScore, f).score if f.exists() else None for f in files]
    return found


@dataclass
class _Scoring:
    """Scores networks by the supernet, in memory from the first that is left to the last."""

    run: SearchRun
    trainings: Sequence[StandaloneTraining]
    names: Sequence[BudgetName]
    on_event: OnEvent
    scorer: Scorer | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a supernet."""
        return RunFolder(self.run.supernet_folder).model.is_file()

    def _drop_others(self) -> None:
        """Removes scores of another supernet, or by other settings, than there are now.

        Without a supernet, as in an archive, they all stay: none could be found anew.
        """
        if not self.ready:
            return
        with in_turn(plan_file(self.run).parent):
            others = [
                place
                for name in self.names
                for place in (_score_file(one, name) for one in self.trainings)
                if place.exists()
                and (by := read_record(SupernetScore, place).by)  # {} of an earlier version
                and by != self._by(name)
            ]
            for place in others:
                place.unlink()
        if others:
            text = f"{count_of(len(others), 'score')} of before by other settings, found anew"
            self.on_event({"event": "note", "text": text})

    def _by(self, name: BudgetName) -> dict[str, Any]:
        settings = {one: getattr(self.run.config, one) for one in _DECISIVE[name]}
        return {"supernet": self.run.supernet_hash, **settings}

    def jobs(self) -> list[Job]:
        """One for each network and budget; scores that hold no longer are dropped."""
        self._drop_others()
        return [
            Job(
                f"score of {one.name}",
                one.folder,
                _score_file(one, name),
                partial(self.score, one, name, f"{number} of {len(self.trainings)}"),
            )
            for name in self.names
            for number, one in enumerate(self.trainings, 1)
        ]

    def score(self, training: StandaloneTraining, name: BudgetName, place: str) -> bool:
        scorer, began = self._loaded(name), time.perf_counter()
        path = self.run.read_path(training.network.path, training.folder)
        score = scorer.score(path, name)
        found = score if math.isfinite(score) else None  # the supernet cannot score it
        seconds = time.perf_counter() - began
        write_record(
            _score_file(training, name),
            SupernetScore(score=found, seconds=seconds, by=self._by(name)),
        )
        text = f"{name} score {percent(found, 2, none='no number')}, {seconds:.1f} s"
        self.on_event({"event": "note", "text": f"{training.title}, {place}: {text}"})
        if all(_score_file(one, each).exists() for one in self.trainings for each in self.names):
            self.scorer = None  # and the images it keeps
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
