"""Carries one run of a campaign out: trained to its end, and its last model measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from detnet.campaign.plan import RESULT, Campaign, require_same_data
from detnet.campaign.runs import CampaignRun
from detnet.engine.memory import OutOfMemory
from detnet.engine.runs import RunFolder
from detnet.engine.watch import NonFiniteLoss
from detnet.search.records import read_record, write_record
from detnet.search.standalone.sharing import claimed
from detnet.search.standalone.training import MeasuringStopped, carry_out, measure_last, seconds_of
from detnet.search.study.study import Candidate
from detnet.search.study.worker import CheckStop
from detnet.text import one_line
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.run_state import OnEvent
from detnet.training.settings import write_config

LAST = "last"  # folder of the last model's scores
_POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What a run reached.

    Args:
        scores: of the last model, by the names of metrics.jsonl; of a pre-training none.
        seconds: of training, evaluations in it included.
        evaluation_s: of measuring the last model.
        error: why it has no scores: its loss was not finite, or that of its pre-training.
    """

    scores: dict[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    evaluation_s: float = 0.0
    error: str | None = None


def read_outcome(campaign: Campaign, run: CampaignRun) -> RunOutcome | None:
    """What a run reached; None while it is not done.

    Raises:
        InputError: its result is damaged.
    """
    place = campaign.place(run) / RESULT
    return read_record(RunOutcome, place) if place.is_file() else None


class RunScorer:
    """Carries out whichever run a worker takes.

    Args:
        stop: whether the worker shall end.
        on_event: called with the trainings' events.
    """

    def __init__(self, campaign: Campaign, *, stop: Callable[[], bool], on_event: OnEvent) -> None:
        self._campaign, self._stop, self._on_event = campaign, stop, on_event

    def __call__(self, candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        run = self._campaign.plan.runs[candidate.slot]
        self._on_event({"event": "note", "text": f"{run.title}: {self._campaign.place(run)}"})
        if not self._carry_out(run):
            check_stop()  # hands the run back
        found = read_outcome(self._campaign, run)
        return ((found.scores.get("AP") or 0.0) if found else 0.0,)

    def _carry_out(self, run: CampaignRun) -> bool:
        """Does what is left; False when it was interrupted.

        A run whose worker seemed dead may be in its hands still: it slept, or its network did.
        """
        folder = RunFolder(self._campaign.place(run))
        while not self._campaign.is_done(run):
            if self._stop():
                return False
            with claimed(folder.path) as free:
                pass
            if not free:
                time.sleep(_POLL_S)
                continue
            require_same_data(self._campaign, run)
            return self._train_and_measure(run, folder)
        return True

    def _train_and_measure(self, run: CampaignRun, folder: RunFolder) -> bool:
        if lost := self._lost(run):
            return self._leave_out(run, lost)
        config = self._campaign.settings(run)
        _follow_places(folder, config)
        try:
            if not carry_out(folder.path, config, self._on_event):
                return False
            scores: dict[str, float | None] = {}
            took = 0.0
            if isinstance(config, TrainConfig):
                scores, took = measure_last(folder, config, folder.path / LAST, self._stop)
        except MeasuringStopped:
            return False
        except OutOfMemory as error:  # of this run: others are smaller, other machines larger
            raise RuntimeError(str(error)) from error
        except NonFiniteLoss as error:
            return self._leave_out(run, one_line(error))
        found = RunOutcome(scores=scores, seconds=seconds_of(folder.path), evaluation_s=took)
        write_record(folder.path / RESULT, found)
        return True

    def _lost(self, run: CampaignRun) -> str | None:
        """Why a run has no model to begin from: its pre-training's loss was not finite."""
        before = [one for one in self._campaign.plan.runs if one.folder == run.needs]
        found = read_outcome(self._campaign, before[0]) if before else None
        return f"{before[0].title}: {found.error}" if found and found.error else None

    def _leave_out(self, run: CampaignRun, why: str) -> bool:
        self._on_event({"event": "note", "text": f"{run.title}: {why}; it is left out"})
        write_record(self._campaign.place(run) / RESULT, RunOutcome(error=why))
        return True


def _follow_places(folder: RunFolder, config: PretrainConfig | TrainConfig) -> None:
    """Tells a run that was begun where its data lie by now, if they have moved."""
    if not folder.last.exists():
        return
    before = type(config).read(folder.config)
    moved = replace(before, **{name: getattr(config, name) for name in config.places()})
    if moved != before:
        write_config(moved, folder.config)
