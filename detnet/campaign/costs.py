"""What a campaign costs: multiply-adds, and hours at the pace of this machine or of runs before."""

import heapq
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from detnet.campaign.carry_out import read_outcome
from detnet.campaign.config import PRETRAIN
from detnet.campaign.plan import Campaign
from detnet.campaign.runs import CampaignRun
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.records import read_record, write_record
from detnet.search.trainings import images_of
from detnet.text import count, duration, lay_out
from detnet.training.classification.config import PretrainConfig
from detnet.training.estimate import MEASURED_IMAGES, measure_steps

_FILE = "costs.json"


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What one image of a training costs here.

    Args:
        macs: multiply-adds of its forward pass, of a detector's backbone and pyramid.
        seconds: of forward and backward pass and the optimizer's part.
        device: on which that was measured.
    """

    macs: int
    seconds: float
    device: str


@dataclass(frozen=True, kw_only=True)
class StepCosts:
    """Costs by what is trained, as `kind_of` names it."""

    measured: dict[str, StepCost] = field(default_factory=dict)


@dataclass(frozen=True)
class RunCost:
    """What all seeds of one training cost.

    Args:
        name: "detnet59, pre-training", "detnet59 on bccd".
        macs: multiply-adds of an image, forward; None where no step was measured.
        images: that each run shows.
        seconds: of each run; None where nothing tells it yet.
        measured: whether that is the mean of runs that are done, evaluation included.
        runs, left: how many there are, and how many of them are not done.
    """

    name: str
    macs: int | None
    images: float
    seconds: float | None
    measured: bool
    runs: int
    left: int


class CampaignClock:
    """How long runs take: the mean of those that are done, else by the pace of a few steps.

    Args:
        estimate: take these steps now, of the trainings that nothing tells of.

    Raises:
        InputError: a network cannot take a step.
    """

    def __init__(self, campaign: Campaign, *, estimate: bool) -> None:
        self._campaign = campaign
        place = campaign.folder / _FILE
        self._steps = dict(read_record(StepCosts, place).measured) if place.is_file() else {}
        if estimate:
            self._measure()
            write_record(place, StepCosts(measured=self._steps))

    def costs(self) -> list[RunCost]:
        """What each training costs, as known by now."""
        groups: dict[str, list[CampaignRun]] = {}
        for run in self._campaign.runs:
            groups.setdefault(kind_of(run), []).append(run)
        return [self._cost(runs) for runs in groups.values()]

    def seconds_of_round(self, number: int, *, workers: int = 1) -> float | None:
        """What is left of a round takes so long; None where nothing tells it."""
        runs = [one for one in self._runs if self._campaign.round_of(one) == number]
        return self._seconds(runs, workers)

    def seconds_left(self, *, workers: int = 1) -> float | None:
        """What is left of the campaign takes so long; None where nothing tells it."""
        return self._seconds(self._runs, workers)

    @property
    def _runs(self) -> list[CampaignRun]:
        """Those that are left."""
        return [run for run in self._campaign.runs if not self._campaign.is_done(run)]

    def _seconds(self, runs: Sequence[CampaignRun], workers: int) -> float | None:
        """Each run goes to the worker who is free first, and begins after what it needs."""
        costs = {cost.name: cost.seconds for cost in self.costs()}
        free, ends = [0.0] * workers, dict[str, float]()
        for run in runs:
            seconds = costs[kind_of(run)]
            if seconds is None:
                return None
            begins = max(heapq.heappop(free), ends.get(run.needs or "", 0.0))
            ends[run.folder] = begins + seconds * (1 - self._part_done(run))
            heapq.heappush(free, ends[run.folder])
        return max(free)

    def _part_done(self, run: CampaignRun) -> float:
        """How far a run is that was begun."""
        folder = RunFolder(self._campaign.place(run))
        steps = [e for e in folder.read_metrics() if e.get("event") == "step" and e.get("epoch")]
        if not steps or not folder.last.exists():
            return 0.0
        images = self._campaign.plan.data[run.data or PRETRAIN].images
        epochs = images_of(run.config(), images) / max(1, images)
        return min(1.0, float(steps[-1]["epoch"]) / max(epochs, 1e-9))

    def _cost(self, runs: Sequence[CampaignRun]) -> RunCost:
        campaign, first = self._campaign, runs[0]
        config = first.config()
        images = images_of(config, campaign.plan.data[first.data or PRETRAIN].images)
        step = self._steps.get(kind_of(first))
        found = [read_outcome(campaign, run) for run in runs if campaign.is_done(run)]
        took = [one.seconds + one.evaluation_s for one in found if one and one.error is None]
        by_step = step.seconds * images if step else None
        return RunCost(
            kind_of(first),
            step.macs if step else None,
            images,
            statistics.fmean(took) if took else by_step,
            bool(took),
            len(runs),
            sum(not campaign.is_done(run) for run in runs),
        )

    def _measure(self) -> None:
        """Takes a few steps of each training that no run tells of; the machine may be another."""
        torch.set_num_threads(self._campaign.config.threads)
        told = {kind_of(run) for run in self._campaign.runs if self._campaign.is_done(run)}
        told &= self._steps.keys()
        for run in self._runs:
            name, config = kind_of(run), run.config()
            if name in told:
                continue
            told.add(name)
            cuda = config.device != "cpu" and torch.cuda.is_available()
            place = torch.device("cuda" if cuda else "cpu")
            images = min(config.batch_size, MEASURED_IMAGES[type(config)])
            try:
                classes = self._campaign.plan.data[run.data or PRETRAIN].classes
                step = measure_steps(config, place, images=images, steps=2, classes=classes)
            except InputError as error:
                raise InputError(f"{self._campaign.plan.file}: {run.title}: {error}") from error
            seconds = step.step_s / step.images
            self._steps[name] = StepCost(macs=step.macs, seconds=seconds, device=step.device)


def kind_of(run: CampaignRun) -> str:
    """The training that all seeds have in common, in words."""
    if isinstance(run.config(), PretrainConfig):
        return f"{run.variant}, pre-training"
    return f"{run.variant} on {run.data}"


def format_costs(clock: CampaignClock, *, workers: int) -> list[str]:
    """What the campaign costs, a line for each training and one for all."""
    costs = clock.costs()
    rows = [
        [
            cost.name,
            f"{cost.macs / 1e9:,.3g} G × {cost.images:,.0f} images"
            if cost.macs is not None
            else f"{cost.images:,.0f} images",
            f"{duration(cost.seconds, none='?')} a seed{', as measured' if cost.measured else ''}",
            f"{cost.runs - cost.left} of {cost.runs} done",
        ]
        for cost in costs
    ]
    lines = lay_out(rows, left=(0, 2)).splitlines()
    left = sum(cost.left for cost in costs)
    seconds = clock.seconds_left(workers=workers)
    text = f"{count(left, 'run')} left"
    if left and seconds is not None:
        text += f", about {duration(seconds)} for {count(workers, 'worker')}"
        text += "" if all(cost.measured for cost in costs) else "; evaluation not counted"
    return [*lines, text]
