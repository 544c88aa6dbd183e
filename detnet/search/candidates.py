"""The search itself: a worker that scores candidates until all are scored, and the winner."""

import hashlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detnet.engine import distributed
from detnet.engine.interrupt import Interrupt
from detnet.errors import InputError
from detnet.search.methods.method import make_method
from detnet.search.run import SearchRun, objectives
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.search.standalone.sharing import write_json
from detnet.search.study.records import Candidate, Record, read_candidates
from detnet.search.study.study import SearchStudy, open_study
from detnet.search.study.worker import CheckStop, work

# Beside space and supernet: what decides the candidates and their scores.
_DECISIVE = (
    *("seed", "width", "guide", "detector", "method", "population", "parents", "mutations"),
    *("crossovers", "mutation_rate", "max_macs", "max_params", "max_latency_ms"),
    *("cost_image_size", "scoring", "recalibration_images", "recalibration_batch"),
    *("cheap_recalibration_images", "cheap_score_images", "cheap_proposals"),
)


def search(run: SearchRun, *, storage: str | None = None, together: bool = False) -> bool:
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
    process = distributed.alone(None if config.device == "auto" else config.device)
    stopped = distributed.Word("search stopped")
    with Interrupt() as interrupt, _open(run, storage) as study:
        device = str(process.device)
        known = {one.path: one.costs for one in read_candidates(study)}
        constraints = run.constraints(device, known)
        over = work(
            study,
            make_search_method(run, constraints),
            _Scores(make_scorer(config, run.folder, process), run, constraints),
            constraints=constraints,
            retries=config.retries,
            stop=lambda: interrupt.set or together and stopped.said(),
            watch=run.watch,
            worker=f"{socket.gethostname()}-{os.getpid()}",
        )
        if over:  # all write the same
            write_json(run.folder / "winner.json", winner_of(run, read_candidates(study)))
        elif together:
            stopped.say()
        return over


def make_search_method(run: SearchRun, constraints: Any) -> Any:
    """The way of searching that the settings name.

    Raises:
        InputError: sizes that do not fit together.
    """
    names = ("seed", "population", "generations", "parents", "mutations", "crossovers")
    sizes = {name: getattr(run.config, name) for name in (*names, "mutation_rate")}
    return make_method(
        run.config.method, constraints, **sizes, objectives=tuple(run.config.objectives)
    )


def winner_of(run: SearchRun, records: Sequence[Record]) -> dict[str, Any]:
    """The best of the candidates; of equal ones the earlier.

    Raises:
        InputError: there is none.
    """
    scored = [one for one in records if one.state == "done" and one.values]
    if not scored:
        raise InputError(
            f"{run.folder}: no candidate was scored; `detnet search show {run.folder}` tells why"
        )
    best = max(scored, key=lambda one: one.values[0] if one.values else 0.0)  # the first of equals
    assert best.values is not None
    return {
        "path": run.space.format_path(best.path),
        "score": best.values[0],
        **best.costs,
        "generation": best.generation,
        "slot": best.slot,
    }


class _Scores:
    """Scores a candidate by all objectives."""

    def __init__(self, scorer: Scorer, run: SearchRun, constraints: Any) -> None:
        self._scorer, self._legality, self._names = scorer, constraints, objectives(run.config)

    def __call__(self, candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        score = self._scorer.score(candidate.path, check_stop=check_stop)
        costs = self._legality.costs_of(candidate.path) if self._names else {}
        return (score, *(costs[name] for name in self._names))


def _open(run: SearchRun, storage: str | None) -> SearchStudy:
    config = run.config
    return open_study(
        storage or config.storage or str(run.folder / "study.db"),
        objectives=("score", *objectives(config)),
        heartbeat_s=config.heartbeat_s,
        identity={
            "space": run.space.to_json(),
            "supernet": _supernet_hash(run),
            "objectives": list(objectives(config)),
            **{name: getattr(config, name) for name in _DECISIVE},
        },
    )


def _supernet_hash(run: SearchRun) -> str:
    phase = "pretrain" if run.config.by_classes else "finetune"
    with Path(run.folder / phase / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
