"""Data are the same for all runs of a campaign."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from detnet.campaign.plan import begin_campaign, require_same_data
from detnet.errors import InputError

Write = Callable[..., Path]


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
