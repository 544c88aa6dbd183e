"""The page of a campaign: complete, self-contained, and of any state."""

import re
from dataclasses import replace
from pathlib import Path

from detnet.report.campaign.page import render, write_campaign_page
from detnet.report.campaign.state import CampaignState
from tests.report.test_page import Checker


def test_the_page_shows_all_and_needs_nothing_else(
    pretended: CampaignState, tmp_path: Path
) -> None:
    text = write_campaign_page(tmp_path / "c.html", pretended).read_text()
    Checker(text)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    for answer in pretended.answers:
        assert answer.question.text in text
    assert "little &lt;c&gt;" in text and "<c>" not in text
    assert text.count('class="card answer"') == 3
    assert text.count('class="chart seeds"') == 3
    assert text.count("<title>detnet59, seed ") == 6, "two seeds in three drawings"
    first = pretended.answers[0].found
    assert first is not None and first.interval is not None
    assert f"{100 * first.interval[1]:.1f}".replace("-", "−") in text
    for title in ("AP on few", "Loss on few", "Answers", "Scores", "Curves", "Runs", "Settings"):
        assert f">{title}<" in text
    assert text.count(">to do<") == 2 and text.count(">done<") == 4 + 1  # and a head


def test_a_line_for_each_seed_a_colour_for_each_variant(pretended: CampaignState) -> None:
    chart = render(pretended).partition(">AP on few<")[2].partition('class="card"')[0]
    drawing = chart.partition('<svg viewBox="0 0 1000')[2]
    assert drawing.count('<polyline class="one"') == drawing.count('<polyline class="two"') == 2
    assert chart.partition('class="chart"')[0].count("detnet59") == 1, "once in the legend"


def test_names_keep_their_hyphens_and_numbers_get_print_s_sign(pretended: CampaignState) -> None:
    note = "resnet-50: the loss of seed 1 was not finite; left out (-2.5)"
    first = replace(pretended.answers[0], notes=(note,))
    text = render(replace(pretended, answers=[first]))
    assert note.replace("(-", "(−") in text


def test_what_chance_alone_shows_goes_by_the_confidence(pretended: CampaignState) -> None:
    config = replace(pretended.campaign.config, confidence=0.99)
    text = render(replace(pretended, campaign=replace(pretended.campaign, config=config)))
    assert "the line through it the 99 % interval" in text
    assert "of a hundred true differences of nothing, 1 are expected" in text


def test_a_campaign_that_has_not_begun_has_a_page(begun: CampaignState) -> None:
    text = render(begun)
    Checker(text)
    assert "0 of 4 runs done" in text and "Curves" not in text
    assert text.count("no seed of both variants is done yet") == 2


def test_the_page_tells_no_password(pretended: CampaignState) -> None:
    config = replace(pretended.campaign.config, storage="postgresql://me:secret@host/name")
    text = render(replace(pretended, campaign=replace(pretended.campaign, config=config)))
    assert "postgresql://me:***@host/name" in text and "secret" not in text
