"""A campaign whose runs are pretended, for all that shows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from detnet.campaign.plan import begin_campaign
from detnet.data.scenes import write_scenes
from detnet.report.campaign.state import CampaignState, read_campaign_state
from tests.campaign.small_campaign import CAMPAIGN, pretend

QUESTIONS = [
    {"ask": "detnet59 over resnet50: AP", "effect": 5},
    "resnet50 over detnet59: AP85 large",
    "detnet59 over resnet50: AP50 less AP85",
]


@pytest.fixture(scope="module")
def pretended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CampaignState]:
    """Two seeds of three are done."""
    folder = tmp_path_factory.mktemp("pretended")
    write_scenes(folder / "scenes", train=2, val=8, size=(128, 96))
    changes = {"pretrain": None, "questions": QUESTIONS, "seeds": 3, "data": {"few": "scenes"}}
    (folder / "c.yaml").write_text(yaml.safe_dump({**CAMPAIGN, **changes}))
    campaign = begin_campaign(folder / "c.yaml", folder / "little <c>", root=folder)
    for run in campaign.runs:
        if run.seed < 2:
            pretend(campaign, run, skill=0.9 if run.variant == "detnet59" else 0.5)
    yield read_campaign_state(campaign)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> CampaignState:
    """Nothing is done yet."""
    folder: Path = tmp_path_factory.mktemp("begun")
    write_scenes(folder / "scenes", train=2, val=2, size=(128, 96))
    (folder / "c.yaml").write_text(yaml.safe_dump({**CAMPAIGN, "pretrain": None}))
    return read_campaign_state(begin_campaign(folder / "c.yaml", folder / "c", root=folder))
