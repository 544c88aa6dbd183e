"""What is known of a campaign while it goes on."""

import shutil
from dataclasses import replace
from pathlib import Path

from detnet.files import write_json
from detnet.report.campaign.state import CampaignState, read_campaign_state
from detnet.report.campaign.text import results_section


def test_runs_costs_and_answers_are_read(pretended: CampaignState) -> None:
    assert [one.word for one in pretended.runs] == ["done"] * 4 + ["to do"] * 2
    assert pretended.done == 4 and len(pretended.answers) == 3
    costs = {cost.name: (cost.left, cost.seconds, cost.measured) for cost in pretended.costs}
    assert costs == {
        "detnet59 on few": (1, 60.5, True),
        "resnet50 on few": (1, 60.5, True),
    }
    assert pretended.seconds_left == 121.0
    assert set(pretended.outcomes("few", "detnet59")) == {0, 1}


def test_nothing_is_known_before_it_begins(begun: CampaignState) -> None:
    assert begun.done == 0 and begun.seconds_left is None and begun.environments == []


def test_all_commits_and_machines_are_told(pretended: CampaignState, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pretended.campaign.folder, tmp_path / "copy"))
    campaign = replace(pretended.campaign, folder=folder)
    for run, commit in zip(campaign.runs[:3], ("abc", "def", "abc"), strict=True):
        environment = {"commit": commit, "cpu": "Abacus", "cpu_cores": 2}
        write_json(campaign.place(run) / "environment.json", environment)
    state = read_campaign_state(campaign)
    assert [one["commit"] for one in state.environments] == ["abc", "def"]
    told = "; commit abc, 2 cores of Abacus; commit def, 2 cores of Abacus."
    assert told in results_section(state)
