"""Which runs a campaign is made of, and what may not change once they began."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detnet.campaign.plan import begin_campaign, open_campaign, require_same_data
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
    weights = train.settings["weights"]
    assert weights == str(tmp_path / "c/pretrain/detnet59/seed-0/model.safetensors"), "the last"
    assert train.needs == "pretrain/detnet59/seed-0" and train.settings["seed"] == 0
    assert campaign.plan.data["scenes"].images == 6 and campaign.plan.data["pretrain"].images == 4
    assert not campaign.seeds_paired("detnet59", "resnet50")
    assert open_campaign(tmp_path / "c").asked == campaign.asked == tuple(range(8))


def test_seeds_and_variants_can_be_added(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    folder = tmp_path / "c"
    before = begin_campaign(campaign_file(seeds=1), folder, root=campaign_data)
    more = {**VARIANTS, "slow": {**VARIANTS["detnet59"], "lr": 0.001}}
    after = begin_campaign(campaign_file(seeds=2, variants=more), folder, root=campaign_data)
    assert after.plan.runs[: len(before.plan.runs)] == before.plan.runs
    assert after.plan.identity == before.plan.identity
    names = [run.folder for run in after.runs]
    assert "scenes/slow/seed-0" in names and "pretrain/slow/seed-0" not in names
    assert after.seeds_paired("detnet59", "slow"), "they share their pre-training"
    assert not after.seeds_paired("detnet59", "resnet50")
    rounds = [after.round_of(run) for run in after.runs]
    assert rounds == sorted(rounds), "what was added later is of the first round still"


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


@pytest.mark.slow
def test_what_changes_no_result_may_change(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    begin_campaign(campaign_file(), tmp_path / "c", root=campaign_data)
    moved = tmp_path / "moved"
    shutil.copytree(campaign_data, moved)
    file = campaign_file(train={**TRAIN, "workers": 1, "log_every": 7, "device": "cpu"})
    begin_campaign(file, tmp_path / "c", root=moved)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["scenes", "classes"])
def test_data_that_changed_are_refused(
    tmp_path: Path, campaign_data: Path, campaign_file: Write, which: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(campaign_data, data)
    campaign = begin_campaign(campaign_file(), tmp_path / "c", root=data)
    if which == "scenes":
        file = next((data / "scenes").rglob("*val.json"))
        content = json.loads(file.read_text())
        content["annotations"].pop()
        file.write_text(json.dumps(content))
    else:
        next((data / "classes/train").rglob("*.png")).unlink()
    told = f"{data / which}: changed since the first run of {tmp_path / 'c'}"
    with pytest.raises(InputError, match="put back what was there") as error:
        begin_campaign(campaign_file(), tmp_path / "c", root=data)
    assert str(error.value).startswith(told)
    run = campaign.runs[2 if which == "scenes" else 0]
    with pytest.raises(InputError, match="changed since the first run"):
        require_same_data(campaign, run)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"scenes": "nowhere"}}, "nowhere"),
        ({"variants": {**VARIANTS, "x": {"backbone": "detnet95"}}}, "unknown backbone 'detnet95'"),
        ({"train": {**TRAIN, "detector_options": {"roi_bach": 1}}}, "roi_bach"),
    ],
)
def test_what_a_run_would_find_out_after_hours_is_refused_first(
    tmp_path: Path, campaign_data: Path, campaign_file: Write, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        begin_campaign(campaign_file(**changes), tmp_path / "c", root=campaign_data)
    assert not (tmp_path / "c" / "plan.json").exists()


def test_other_folders_are_no_campaigns(tmp_path: Path, campaign_file: Write) -> None:
    with pytest.raises(InputError, match="holds no campaign"):
        open_campaign(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(InputError, match="holds a run"):
        begin_campaign(campaign_file(), tmp_path)
