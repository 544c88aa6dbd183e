"""Which runs a campaign is made of, and what may not change once they were planned."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from detnet.campaign.plan import begin_campaign, open_campaign
from detnet.errors import InputError
from tests.campaign.small_campaign import PRETRAIN, TRAIN, VARIANTS

Write = Callable[..., Path]


def test_runs_are_planned_round_by_round(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    campaign = begin_campaign(campaign_file(), tmp_path / "c", root=campaign_data)
    assert [run.folder for run in campaign.runs] == [
        "pretrain/detnet59/seed-0",
        "pretrain/resnet50/seed-0",
        "scenes/detnet59/seed-0",
        "scenes/resnet50/seed-0",
        "pretrain/detnet59/seed-1",
        "pretrain/resnet50/seed-1",
        "scenes/detnet59/seed-1",
        "scenes/resnet50/seed-1",
    ]
    train = campaign.runs[2]
    weights = campaign.settings(train).weights
    assert weights == str(tmp_path / "c/pretrain/detnet59/seed-0/model.safetensors"), "the last"
    assert train.needs == "pretrain/detnet59/seed-0" and train.settings["seed"] == 0
    assert campaign.plan.data["scenes"].images == 6 and campaign.plan.data["pretrain"].images == 4
    assert not campaign.seeds_paired("detnet59", "resnet50")
    assert open_campaign(tmp_path / "c").asked == campaign.asked == tuple(range(8))


@pytest.mark.slow
def test_one_pre_training_for_all_seeds(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    file = campaign_file(share_pretraining=True)
    campaign = begin_campaign(file, tmp_path / "c", root=campaign_data)
    assert sum(run.kind == "pretrain" for run in campaign.runs) == 2
    assert {run.needs for run in campaign.runs if run.kind == "train"} == {
        "pretrain/detnet59/seed-0",
        "pretrain/resnet50/seed-0",
    }


def test_seeds_that_exist_with_other_settings_are_refused(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    begin_campaign(campaign_file(), tmp_path / "c", root=campaign_data)
    file = campaign_file(train={**TRAIN, "lr": 0.02})
    with pytest.raises(InputError) as error:
        begin_campaign(file, tmp_path / "c", root=campaign_data)
    place = tmp_path / "c" / "scenes/detnet59/seed-0"
    assert str(error.value) == (
        f"{file}: detnet59 on scenes, seed 0: lr is 0.02, but {place} was planned with 0.01; "
        "restore it, or give the variant another name"
    )
    file = campaign_file(pretrain={**PRETRAIN, "lr": 0.02})
    with pytest.raises(InputError, match=r"detnet59 pre-training, seed 0: lr is 0\.02, but"):
        begin_campaign(file, tmp_path / "c", root=campaign_data)
    scratch = {name: {**own, "pretrain": None} for name, own in VARIANTS.items()}
    for changes, told in (
        ({"share_pretraining": True}, "seed 1: its pre-training is pretrain/detnet59/seed-0, but"),
        ({"variants": scratch}, "seed 0: its pre-training is none, but"),
    ):
        with pytest.raises(InputError, match=told):
            begin_campaign(campaign_file(**changes), tmp_path / "c", root=campaign_data)


@pytest.mark.slow
def test_what_changes_no_result_may_change(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    begin_campaign(campaign_file(), tmp_path / "c", root=campaign_data)
    moved = tmp_path / "moved"
    shutil.copytree(campaign_data, moved)
    (tmp_path / "c").rename(tmp_path / "elsewhere")
    file = campaign_file(train={**TRAIN, "workers": 1, "log_every": 7, "device": "cpu"})
    campaign = begin_campaign(file, tmp_path / "elsewhere", root=moved)
    train = campaign.settings(campaign.runs[2])
    assert (train.workers, train.log_every, train.device) == (1, 7, "cpu"), "as given last"
    assert train.data == str(moved / "scenes")
    assert train.weights == str(tmp_path / "elsewhere/pretrain/detnet59/seed-0/model.safetensors")
