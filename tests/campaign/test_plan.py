"""A campaign's folder: what is refused before anything begins, and what can be added."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detnet.campaign.plan import RESULT, begin_campaign, open_campaign
from detnet.errors import InputError
from tests.campaign.small_campaign import TRAIN, VARIANTS

Write = Callable[..., Path]


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


def test_pairs_are_decided_before_a_score_can_be_seen(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    folder, told = tmp_path / "c", "paired is true, but .* planned with false and has scores"
    begin_campaign(campaign_file(paired=True), folder, root=campaign_data)
    before = begin_campaign(campaign_file(), folder, root=campaign_data)  # nothing was scored yet
    result = folder / before.runs[-1].folder / RESULT
    result.parent.mkdir(parents=True)
    result.touch()
    begin_campaign(campaign_file(), folder, root=campaign_data)
    with pytest.raises(InputError, match=told):
        begin_campaign(campaign_file(paired=True), folder, root=campaign_data)
    plan = folder / "plan.json"  # an earlier version's tells nothing, but campaign.yaml does
    plan.write_text(plan.read_text().replace('"paired": false', '"paired": null'))
    with pytest.raises(InputError, match=told):
        begin_campaign(campaign_file(paired=True), folder, root=campaign_data)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"scenes": "nowhere"}}, r"c\.yaml: data: scenes: .*nowhere: no such folder"),
        ({"storage": "mysql://host"}, r"c\.yaml: storage mysql://host: give postgresql"),
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
