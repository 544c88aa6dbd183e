"""Carries a search out, phase by phase; it can be interrupted anywhere and resumed."""

import math
import os
import socket
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detnet.engine import distributed
from detnet.engine.interrupt import Interrupt
from detnet.engine.runs import RunFolder
from detnet.search.begun import Training, begun, going_on, require_same_settings, write_paths
from detnet.search.checks import forecast
from detnet.search.config import SearchConfig
from detnet.search.costs.constraints import Constraints
from detnet.search.opening import open_search, require_due
from detnet.search.run import SearchRun
from detnet.search.scoring.cache import ImageMemory
from detnet.search.scoring.precision import settle_precision
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.search.split import kept_apart
from detnet.search.standalone.training import carry_out
from detnet.search.study.study import Candidate, read_candidates
from detnet.search.study.worker import CheckStop, work
from detnet.search.supernet import SupernetFinetuning, SupernetPretraining
from detnet.search.trainings import (
    finetune_config,
    path_settings,
    pretrain_config,
    retrain_config,
    retrain_pretrain_config,
)
from detnet.text import count
from detnet.training.run import run_task
from detnet.training.run_state import OnEvent
from detnet.training.settings import write_config

_LAST_STEPS = 10  # that are on record, of the supernet's pre-training
_LEARNT = 0.95  # of the loss of guessing; a supernet above it says nothing of its networks


def run_phases(
    config: SearchConfig | None,
    folder: Path,
    *,
    only: str | None = None,
    resume: bool = False,
    estimate: bool = True,
    on_event: OnEvent,
) -> bool:
    """Carries out what is left of a search.

    Args:
        config: its settings; None with `resume`, where they are the folder's.
        folder: the run's, new unless resumed.
        only: one of `PHASES`; all that are left by default.
        estimate: measure a few steps, to say at the start what each phase will take.
        on_event: called with the events of the trainings, of the search's worker, and "note".

    Returns:
        False when it was interrupted and can be resumed.

    Raises:
        InputError: something given cannot be used, whichever phase would need it, or the phase
            asked for is not due yet.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3.
    """
    on_event = on_event if distributed.is_main() else _unheard
    run, due, left = open_search(config, folder, only, resume=resume, on_event=on_event)
    if estimate and left and distributed.is_main():
        text = "measuring a few steps to say what it will take (--no-estimate leaves it out)"
        on_event({"event": "note", "text": text})
        for line in forecast(run, left):
            on_event({"event": "note", "text": line})
    with Interrupt() as interrupt:
        for phase in due:
            if phase not in left:
                on_event({"event": "note", "text": f"{phase}: done before"})
                continue
            on_event({"event": "note", "text": f"{phase}: {_TITLES[phase]}"})
            if not _WORK[phase](run, on_event):
                return False
            if phase != due[-1] and _any_heard(interrupt):  # while the phase was finished
                return False
    return True


def _any_heard(interrupt: Interrupt) -> bool:
    """Whether one of the processes has heard a signal."""
    with distributed.joined("cpu"):
        return distributed.any_process(interrupt.set)


def join(folder: Path, *, storage: str | None = None, on_event: OnEvent) -> bool:
    """Takes part in a search's third phase as one more worker.

    Args:
        folder: the run's, with the supernet in it.
        storage: where the study is; by default where the settings say, or in the folder.

    Returns:
        True when the search is over, False when this worker was interrupted.

    Raises:
        InputError: there is no supernet yet, or the storage cannot be used.
    """
    run = SearchRun.open(folder)
    require_due(run, "search")
    return search(run, on_event, storage=storage)


def _unheard(event: dict[str, Any]) -> None:
    """Other processes have nothing to say."""


def _begun(run: SearchRun, phase: str, config: Training) -> tuple[Training, bool]:
    """The settings that a supernet's training has, and whether it goes on."""
    folder = run.folder / phase
    if begun(folder):
        return going_on(folder, config), True
    write_paths(folder, path_settings(run.config, phase))
    return config, False


def _pretrain(run: SearchRun, on_event: OnEvent) -> bool:
    folder, sampler = run.folder / "pretrain", run.sampler("pretrain")
    config, resume = _begun(run, "pretrain", pretrain_config(run.config, run.folder))
    left_out = kept_apart(run.folder) if run.config.by_classes else ()
    task = SupernetPretraining(config, sampler, left_out)
    complete = run_task(task, folder, resume=resume, on_event=on_event)
    if not complete or not distributed.is_main():
        return complete
    if text := learnt_nothing(folder, classes=len(task.train.classes)):
        on_event({"event": "note", "text": text})
    return True


def learnt_nothing(folder: Path, *, classes: int) -> str:
    """Says that a supernet's pre-training ended where guessing is, and what to try, or nothing."""
    steps = [one for one in RunFolder(folder).read_metrics() if one["event"] == "step"]
    last, guessing = (
        statistics.fmean(one["loss"] for one in steps[-_LAST_STEPS:]),
        math.log(classes),
    )
    if last <= _LEARNT * guessing:
        return ""
    return (
        f"the supernet has hardly learnt: its loss is {last:.2f}, guessing's {guessing:.2f}; try "
        "single_steps: 1000, a lower rate or more steps before you trust a ranking"
    )


def _finetune(run: SearchRun, on_event: OnEvent) -> bool:
    folder, sampler = run.folder / "finetune", run.sampler("finetune")
    config, resume = _begun(run, "finetune", finetune_config(run.config, run.folder))
    task = SupernetFinetuning(config, sampler)
    return run_task(task, folder, resume=resume, on_event=on_event)


def _search(run: SearchRun, on_event: OnEvent) -> bool:
    """Scores candidates; all processes come back with one answer, however each was ended."""
    over = search(run, on_event, together=True)
    with distributed.joined("cpu"):
        return not distributed.any_process(not over)


def _retrain(run: SearchRun, on_event: OnEvent) -> bool:
    """Trains the winner alone, by files that the ordinary commands take as well."""
    assert run.winner is not None  # the phase before is done
    folder, path = run.folder / "winner", run.winner.path
    folder.mkdir(exist_ok=True)
    pretrained = None if run.config.from_scratch else folder / "pretrain"
    if pretrained is not None:
        before = retrain_pretrain_config(run.config, run.folder, path)
        require_same_settings(pretrained, before)
        if distributed.is_main():
            write_config(before, folder / "pretrain.yaml")
        if not carry_out(pretrained, before, on_event):
            return False
    config = retrain_config(run.config, run.folder, path, pretrained)
    require_same_settings(folder / "train", config)
    if distributed.is_main():
        write_config(config, folder / "train.yaml")
    return carry_out(folder / "train", config, on_event)


_WORK: dict[str, Callable[[SearchRun, OnEvent], bool]] = {
    "pretrain": _pretrain,
    "finetune": _finetune,
    "search": _search,
    "retrain": _retrain,
}
_TITLES = {
    "pretrain": "the supernet learns classes of images, one path a step",
    "finetune": "the supernet learns to detect, one path a step",
    "search": "candidates are scored",
    "retrain": "the winner is trained alone",
}


def search(
    run: SearchRun, on_event: OnEvent, *, storage: str | None = None, together: bool = False
) -> bool:
    """Scores candidates, with all others who are at it, and writes winner.json when it is over.

    Each process that torchrun started is a worker of its own, which talks to the others by the
    study alone: they are at different networks, and none may mix its statistics into another's.

    Args:
        storage: where the study is; by default where the settings say, or in the folder.
        together: whether a signal to one of torchrun's processes stops all of them.

    Returns:
        False when it was interrupted; the candidate it was at goes back to the study.

    Raises:
        InputError: the storage cannot be reached or holds another search, or the supernet or the
            data cannot be used.
    """
    config = run.config
    process = distributed.single_process(None if config.device == "auto" else config.device)
    stopped = distributed.Word("search stopped")

    def heard(name: str) -> None:
        what = "the candidate under way goes back to the study, and then it ends"
        on_event({"event": "note", "text": f"{name} heard: {what}"})

    with Interrupt(heard) as interrupt, run.open_study(storage) as study:
        known = {one.path: one.costs for one in read_candidates(study)}
        constraints = run.constraints(str(process.device), known)
        config = settle_precision(config, study, process.device, on_event)
        scorer = make_scorer(config, run.folder, process)
        memory = scorer.evaluator.memory
        on_event({"event": "note", "text": _read_how(memory, config.workers)})

        def told(event: dict[str, Any]) -> None:
            of_candidate = event["event"] == "candidate"
            on_event({**event, "hit_rate": memory.hit_rate()} if of_candidate else event)

        over = work(
            study,
            run.method(constraints),
            _Objectives(scorer, constraints, run.objectives),
            constraints=constraints,
            retries=config.retries,
            stop=lambda: interrupt.set or together and stopped.said(),
            on_event=told,
            worker=f"{socket.gethostname()}-{os.getpid()}",
        )
        if over:  # all write the same
            run.write_winner(read_candidates(study))
        elif together:
            stopped.say()
        return over


def _read_how(memory: ImageMemory, threads: int) -> str:
    readers = f"by {count(threads, 'thread')}" if threads else "when they are needed"
    kept = f"up to {memory.limit / 1e9:.1f} GB of decoded images are kept in memory"
    return f"{kept} from candidate to candidate, the others are read {readers}"


class _Objectives:
    """Scores a candidate by all objectives."""

    def __init__(self, scorer: Scorer, constraints: Constraints, costs: tuple[str, ...]) -> None:
        self._scorer, self._constraints, self._costs = scorer, constraints, costs

    def __call__(self, candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        score = self._scorer.score(candidate.path, check_stop=check_stop)
        costs = self._constraints.costs_of(candidate.path) if self._costs else {}
        return (score, *(costs[name] for name in self._costs))
