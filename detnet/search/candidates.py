"""The search itself: a worker that scores candidates until all are scored, and the winner."""

import os
import socket

from detnet.engine import distributed
from detnet.engine.loop import Interrupt
from detnet.search.costs.constraints import Constraints
from detnet.search.run import SearchRun
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.search.study.records import Candidate, read_candidates
from detnet.search.study.worker import CheckStop, work
from detnet.training.run_state import OnEvent


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
    with Interrupt() as interrupt, run.open_study(storage) as study:
        known = {one.path: one.costs for one in read_candidates(study)}
        constraints = run.constraints(str(process.device), known)
        scorer = make_scorer(config, run.folder, process)
        over = work(
            study,
            run.method(constraints),
            _Objectives(scorer, constraints, run.objectives),
            constraints=constraints,
            retries=config.retries,
            stop=lambda: interrupt.set or together and stopped.said(),
            on_event=on_event,
            worker=f"{socket.gethostname()}-{os.getpid()}",
        )
        if over:  # all write the same
            run.write_winner(read_candidates(study))
        elif together:
            stopped.say()
        return over


class _Objectives:
    """Scores a candidate by all objectives."""

    def __init__(self, scorer: Scorer, constraints: Constraints, costs: tuple[str, ...]) -> None:
        self._scorer, self._constraints, self._costs = scorer, constraints, costs

    def __call__(self, candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        score = self._scorer.score(candidate.path, check_stop=check_stop)
        costs = self._constraints.costs_of(candidate.path) if self._costs else {}
        return (score, *(costs[name] for name in self._costs))
