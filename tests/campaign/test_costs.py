"""What a campaign costs: by steps, by runs that are done, by those under way."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detnet.campaign.carry_out import RunOutcome
from detnet.campaign.costs import CampaignClock, format_costs
from detnet.campaign.plan import RESULT, Campaign
from detnet.engine.runs import RunFolder
from detnet.search.records import write_record

STEP = {"macs": 2_000_000_000, "seconds": 3.0, "device": "cpu"}


@pytest.fixture
def campaign(planned: Campaign, tmp_path: Path) -> Campaign:
    """The planned campaign in an empty folder."""
    return replace(planned, folder=tmp_path)


def finish(campaign: Campaign, number: int, seconds: float) -> None:
    place = campaign.place(campaign.runs[number]) / RESULT
    write_record(place, RunOutcome(seconds=seconds, evaluation_s=10.0))


def steps(campaign: Campaign, **measured: object) -> CampaignClock:
    content = json.dumps({"measured": measured})
    (campaign.folder / "costs.json").write_text(content)
    return CampaignClock(campaign, estimate=False)


NAMES = (
    "detnet59, pre-training",
    "resnet50, pre-training",
    "detnet59 on scenes",
    "resnet50 on scenes",
)


def test_steps_tell_before_any_run_is_done(campaign: Campaign) -> None:
    clock = steps(campaign, **dict.fromkeys(NAMES, STEP))
    assert [cost.name for cost in clock.costs()] == [*NAMES]
    # 2 steps of 2 images before, 4 steps of 2 images then, twice and by two variants.
    assert [cost.images for cost in clock.costs()] == [4, 4, 8, 8]
    assert clock.seconds_left() == 3.0 * 2 * 2 * (4 + 8)
    assert clock.seconds_of_round(1) == 3.0 * 2 * (4 + 8)
    # A detector waits for its pre-training: eight workers take as long as the longest such pair.
    assert clock.seconds_of_round(1, workers=2) == clock.seconds_left(workers=8) == 3.0 * (4 + 8)
    lines = format_costs(clock, workers=2)
    assert "2 G × 4 images" in lines[0] and "0 of 2 done" in lines[0]
    assert lines[-1] == "8 runs left, about 72 s for 2 workers; evaluation not counted"


def test_runs_that_are_done_tell_better(campaign: Campaign) -> None:
    clock = steps(campaign, **dict.fromkeys(NAMES, STEP))
    for number in range(4):
        finish(campaign, number, 100.0)
    assert clock.seconds_of_round(0) == 0
    assert clock.seconds_left() == clock.seconds_of_round(1) == 4 * 110.0
    assert "1.8 min" not in format_costs(clock, workers=1)[-1]
    assert format_costs(clock, workers=1)[-1] == "4 runs left, about 7 min for 1 worker"


def test_a_run_under_way_counts_by_what_is_left(campaign: Campaign) -> None:
    clock = steps(campaign, **dict.fromkeys(NAMES, STEP))
    folder = RunFolder(campaign.place(campaign.runs[2]))
    folder.path.mkdir(parents=True)
    folder.last.touch()
    before = clock.seconds_left()
    folder.log({"event": "step", "iteration": 1, "epoch": 1 / 3})  # of 8 images of 6: 4 / 3
    left = clock.seconds_left()
    assert before is not None and left == pytest.approx(before - 3.0 * 8 / 4)


def test_without_either_nobody_knows(campaign: Campaign) -> None:
    clock = CampaignClock(campaign, estimate=False)
    assert clock.seconds_left() is None
    assert format_costs(clock, workers=1)[-1] == "8 runs left"
