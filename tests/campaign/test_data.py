"""Data are the same for all runs of a campaign."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from detnet.campaign.plan import begin_campaign, require_same_data
from detnet.errors import InputError

Write = Callable[..., Path]
PLAIN = {"backbone": "resnet50", "width": 0.125}


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
    record = "data: scenes" if which == "scenes" else "pretrain"
    told = f"{tmp_path / 'c.yaml'}: {record}: {data / which}: changed since the first run of"
    with pytest.raises(InputError, match="put back what was there") as error:
        begin_campaign(campaign_file(), tmp_path / "c", root=data)
    assert str(error.value).startswith(told)
    run = campaign.runs[2 if which == "scenes" else 0]
    with pytest.raises(InputError, match="changed since the first run"):
        require_same_data(campaign, run)


def test_data_that_a_variant_cannot_use_are_refused_at_once(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    """The last variant's detector needs what is not there, or reads another file than the first."""
    variants = {"boxes": PLAIN, "points": {**PLAIN, "detector": "keypoint_rcnn_fpn"}}
    file = campaign_file(variants=variants, pretrain=None, questions=[], train={"iterations": 1})
    with pytest.raises(InputError, match=r"c\.yaml: data: scenes: .*keypoints"):
        begin_campaign(file, tmp_path / "c", root=campaign_data)
    data = tmp_path / "data"
    shutil.copytree(campaign_data, data)
    for split in ("train", "val"):
        annotations = data / "scenes" / "annotations" / f"instances_{split}.json"
        shutil.copyfile(annotations, annotations.with_name(f"person_keypoints_{split}.json"))
    with pytest.raises(
        InputError, match="variants read different files there: boxes .*instances.*; points .*keyp"
    ):
        begin_campaign(file, tmp_path / "c", root=data)


def test_weights_that_are_not_there_are_told_at_once(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    variants = {"own": PLAIN, "given": {**PLAIN, "weights": "typo.pth"}}
    file = campaign_file(variants=variants, pretrain=None, questions=[])
    with pytest.raises(InputError, match=r"variants: given: .*typo\.pth: no such"):
        begin_campaign(file, tmp_path / "c", root=campaign_data)


@pytest.mark.parametrize("which", ["crowds", "nothing"])
def test_data_without_an_object_to_compare_on_are_refused(
    tmp_path: Path, campaign_data: Path, campaign_file: Write, which: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(campaign_data / "scenes", data / "scenes")
    val = data / "scenes/annotations/instances_val.json"
    content = json.loads(val.read_text())
    crowds = [{**one, "iscrowd": 1} for one in content["annotations"]]
    content["annotations"] = crowds if which == "crowds" else []
    val.write_text(json.dumps(content))
    with pytest.raises(InputError, match="no object") as error:
        begin_campaign(campaign_file(pretrain=None), tmp_path / "c", root=data)
    told = f"data: scenes: {val}: has no object to compare on; crowds do not count"
    assert str(error.value) == f"{tmp_path / 'c.yaml'}: {told}"


def test_data_that_are_not_named_are_asked_for(tmp_path: Path, campaign_file: Write) -> None:
    file = campaign_file(data={"scenes": {}}, pretrain=None)
    with pytest.raises(InputError, match="data: scenes: give a folder, or settings that hold data"):
        begin_campaign(file, tmp_path / "c", root=tmp_path)
    assert not (tmp_path / "c").exists(), "a refused campaign leaves nothing"
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match="give a folder"):
        begin_campaign(file, tmp_path / "c", root=tmp_path)
    assert [*(tmp_path / "c").iterdir()] == [], "but what was there"
