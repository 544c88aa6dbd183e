"""What a campaign's page and text show: answers, scores of every seed, how far the runs are."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.campaign.answers import Answer, OnProgress, answer_questions
from detnet.campaign.carry_out import RunOutcome, read_outcome
from detnet.campaign.costs import CampaignClock, RunCost
from detnet.campaign.plan import Campaign
from detnet.campaign.runs import CampaignRun
from detnet.engine.run_records import read_run
from detnet.engine.runs import RunFolder
from detnet.report.results import hardware


@dataclass(frozen=True)
class RunStand:
    """One run by now.

    Args:
        outcome: what it reached; None while it is not done.
        events: of its metrics.jsonl.
    """

    run: CampaignRun
    outcome: RunOutcome | None
    events: list[dict[str, Any]]

    @property
    def word(self) -> str:
        """Where it stands, in a word."""
        if self.outcome is not None:
            return "diverged" if self.outcome.error else "done"
        return "begun" if self.events else "to do"


@dataclass(frozen=True)
class CampaignState:
    """A campaign by now.

    Args:
        answers: in the order of the questions and of their data.
        runs: in the order in which they are done.
        costs: of each training.
        seconds_left: for one worker; None where nothing tells it.
        environments: of the runs that began, in their order; one of several with the same commit
            on the same kind of machine.
    """

    campaign: Campaign
    answers: list[Answer]
    runs: list[RunStand]
    costs: list[RunCost]
    seconds_left: float | None
    environments: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The folder's."""
        return self.campaign.folder.resolve().name

    @property
    def command(self) -> str:
        """What runs it again, or goes on with it."""
        file = Path(self.campaign.plan.file)  # where somebody keeps it is not for a page
        words = ["detnet", "campaign", file.name if file.is_absolute() else str(file)]
        words += ["--data-root", "DATA"] if self.campaign.plan.rooted else []
        return shlex.join([*words, "--output", self.name])

    @property
    def done(self) -> int:
        """Runs that are done."""
        return sum(one.outcome is not None for one in self.runs)

    def outcomes(self, data: str, variant: str) -> dict[int, RunOutcome]:
        """What a variant's seeds reached on a data set, by seed, those that are done."""
        return {
            one.run.seed: one.outcome
            for one in self.runs
            if (one.run.data, one.run.variant) == (data, variant) and one.outcome is not None
        }


def read_campaign_state(campaign: Campaign, *, progress: OnProgress | None = None) -> CampaignState:
    """Reads all that is known of a campaign, while others may be at work on it.

    Raises:
        InputError: a file of it is damaged, or runs were scored against different ground truth.
    """
    runs = [
        RunStand(run, read_outcome(campaign, run), RunFolder(campaign.place(run)).read_metrics())
        for run in campaign.runs
    ]
    clock = CampaignClock(campaign, estimate=False)
    begun = (read_run(campaign.place(one.run)).environment for one in runs if one.events)
    return CampaignState(
        campaign,
        answer_questions(campaign, progress=progress),
        runs,
        clock.costs(),
        clock.seconds_left(),
        [*{(one.get("commit"), hardware(one)): one for one in begun if one}.values()],
    )
