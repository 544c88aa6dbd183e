"""A campaign in words: on a terminal, as JSON, and in a page of results."""

import json
from dataclasses import replace
from pathlib import Path

import yaml

from detnet.campaign.plan import begin_campaign
from detnet.data.scenes import write_scenes
from detnet.report.campaign.page import write_campaign_page
from detnet.report.campaign.state import CampaignState, read_campaign_state
from detnet.report.campaign.text import (
    format_campaign,
    results_section,
    to_json,
    write_results_section,
)
from tests.campaign.small_campaign import CAMPAIGN, pretend


def test_each_question_has_its_interval_verdict_and_seeds(pretended: CampaignState) -> None:
    text = format_campaign(pretended)
    assert text.startswith("little <c>: 4 of 6 runs done")
    answer = pretended.answers[0].found
    assert answer is not None and answer.interval is not None
    low, high = answer.interval
    line = f"  {100 * answer.value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}): "
    assert f"detnet59 over resnet50: AP, on few\n{line}{answer.verdict}" in text
    assert "2 against 2 seeds, 7 images; standard error" in text
    assert "an effect of 5.0 points" in text and "the planned seeds would show" in text
    table = text.rpartition("\n\n")[2].splitlines()
    assert table[0].split() == ["few", "seeds", "AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert [row.split()[:2] for row in table[1:]] == [["detnet59", "2"], ["resnet50", "2"]]


def test_a_difference_that_can_be_told_from_zero_shows_its_side(pretended: CampaignState) -> None:
    first = pretended.answers[0]
    assert first.found is not None
    told = replace(first.found, value=0.0004, interval=(0.0001, 0.0007))
    state = replace(pretended, answers=[replace(first, found=told)])
    assert "+0.04 points (+0.01 to +0.1): agrees" in format_campaign(state)
    assert "| +0.04 | +0.01 to +0.1 | agrees |" in results_section(state)
    noise = replace(told, interval=(-0.0001, 0.0009))
    state = replace(pretended, answers=[replace(first, found=noise)])
    assert " 0.0 points (-0.01 to +0.1): cannot tell" in format_campaign(state)


def test_what_has_not_begun_is_told_too(begun: CampaignState) -> None:
    assert "no seed of both variants is done yet" in format_campaign(begun)
    assert "cannot tell" in results_section(begun)


def test_a_question_on_nothing_says_so_in_place_of_an_answer(tmp_path: Path) -> None:
    """Its seeds are all done; that there is no large object is no matter of seeds."""
    write_scenes(tmp_path / "scenes", train=2, val=8, size=(80, 60))
    changes = {"pretrain": None, "questions": ["detnet59 over resnet50: AR large"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**CAMPAIGN, **changes}))
    campaign = begin_campaign(tmp_path / "c.yaml", tmp_path / "c", root=tmp_path)
    for run in campaign.runs:
        pretend(campaign, run, skill=0.9)
    state = read_campaign_state(campaign)
    (answer,) = to_json(state)["answers"]
    assert (answer["first"], answer["other"], answer["verdict"]) == ({}, {}, "cannot tell")
    assert answer["notes"] == ["scenes has nothing that AR large is measured on"]
    told = "AR large, on scenes\n  scenes has nothing that AR large is measured on\n\n"
    assert told in format_campaign(state)
    assert write_campaign_page(tmp_path / "c.html", state).is_file()


def test_json_holds_everything(pretended: CampaignState) -> None:
    found = json.loads(json.dumps(to_json(pretended), allow_nan=False))
    assert (found["runs"], found["done"], len(found["scores"])) == (6, 4, 4)
    first = found["answers"][0]
    assert first["question"] == "detnet59 over resnet50: AP" and first["effect"] == 0.05
    assert list(first["first"]) == ["0", "1"] and len(first["interval"]) == 2
    assert found["scores"][0]["scores"]["AP"] == first["first"]["0"]


def test_the_section_holds_the_command_and_no_place_of_this_machine(
    pretended: CampaignState, tmp_path: Path
) -> None:
    page = tmp_path / "RESULTS.md"
    write_results_section(page, pretended)
    text = page.read_text()
    assert "\n<!-- campaign: little <c> -->\n## little <c>\n" in text
    assert "`detnet campaign c.yaml --data-root DATA --output 'little <c>'`" in text
    assert "| detnet59 over resnet50: AP | few | +" in text
    write_results_section(page, pretended)
    assert page.read_text() == text
