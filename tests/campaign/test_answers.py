"""Questions answered from what runs left behind, without training any."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detnet.campaign.answers import Answer, answer_questions, questions_on_too_little
from detnet.campaign.carry_out import LAST, RunOutcome
from detnet.campaign.plan import RESULT, Campaign, begin_campaign
from detnet.coco.ground_truth import read_ground_truth
from detnet.data.scenes import write_scenes
from detnet.errors import InputError
from detnet.evaluation.comparison.compare import compare
from detnet.search.records import write_record
from tests.campaign.small_campaign import pretend

Write = Callable[..., Path]
QUESTIONS = [
    {"ask": "detnet59 over resnet50: AP", "effect": 20},
    "resnet50 over detnet59: AP",
    "detnet59 over resnet50: AP50 less AP85",
]
SKILL = {"detnet59": 0.9, "resnet50": 0.5}


@pytest.fixture
def campaign(tmp_path: Path, campaign_data: Path, campaign_file: Write) -> Campaign:
    file = campaign_file(pretrain=None, questions=QUESTIONS, seeds=3)
    return begin_campaign(file, tmp_path / "c", root=campaign_data)


def finish(campaign: Campaign, *, seeds: int = 3) -> None:
    for run in campaign.runs:
        if run.seed < seeds:
            pretend(campaign, run, skill=SKILL[run.variant] - 0.02 * run.seed)


def by_text(answers: list[Answer]) -> dict[str, Answer]:
    return {one.question.text: one for one in answers}


def test_the_better_variant_is_found(campaign: Campaign) -> None:
    finish(campaign)
    seen: list[tuple[int, int | None]] = []
    first, other, grows = answer_questions(
        campaign, progress=lambda done, total: seen.append((done, total))
    )
    assert first.found is not None and other.found is not None and grows.found is not None
    assert first.found.verdict == "agrees" and other.found.verdict == "disagrees"
    assert first.found.value == pytest.approx(-other.found.value)
    assert first.seeds == ((0, 1, 2), (0, 1, 2)) and first.found.images == 7, "one is empty"
    assert first.needed is not None and other.needed is None
    assert other.shows is not None and other.shows > 0
    assert (6, 6) in seen and (100, 100) in seen, "matching and resampling are told"
    values = [json.loads((campaign.place(run) / RESULT).read_text()) for run in campaign.runs]
    scores = [one["scores"]["AP"] for one in values[::2]]
    assert [*first.values[0]] == scores, "the values are those of the evaluation"
    both = [np.array(side) for side in grows.values]
    assert grows.found.value == pytest.approx(both[0].mean() - both[1].mean())


def test_one_draw_of_images_serves_all_seeds(campaign: Campaign) -> None:
    """A variant whose seeds are all the same as another's differs by nothing on any draw."""
    for run in campaign.runs:
        pretend(campaign, replace(run, seed=0, variant="detnet59"), skill=0.7)
        source = campaign.folder / "scenes/detnet59/seed-0"
        for name in ("results.json", "scores.json"):
            target = campaign.place(run) / LAST / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text((source / LAST / name).read_text())
        (campaign.place(run) / RESULT).write_text((source / RESULT).read_text())
    found = answer_questions(campaign)[0].found
    assert found is not None and found.value == 0 and found.image_error == pytest.approx(0)


def test_a_pair_of_runs_moves_with_the_images_as_compare_says(campaign: Campaign) -> None:
    finish(campaign, seeds=2)
    answer = answer_questions(campaign)[0]
    assert answer.found is not None and answer.found.image_error is not None
    runs = [run for run in campaign.runs if run.seed == 0]
    split = json.loads((campaign.place(runs[0]) / LAST / "scores.json").read_text())["data"]
    cell = compare(
        read_ground_truth(Path(split["annotations"])),
        [campaign.place(run) / LAST / "results.json" for run in (runs[1], runs[0])],
        names=["resnet50", "detnet59"],
        resamples=100,
    )["differences"][0]["headline"]["AP"]
    assert cell is not None and cell["low"] is not None and cell["high"] is not None
    assert answer.values[0][0] - answer.values[1][0] == pytest.approx(cell["difference"])


def test_seeds_count_that_both_sides_are_done_with(campaign: Campaign) -> None:
    finish(campaign, seeds=2)
    third = next(run for run in campaign.runs if run.seed == 2)
    pretend(campaign, third, skill=0.1)
    answer = answer_questions(campaign)[0]
    assert answer.seeds == ((0, 1), (0, 1))
    assert answer.notes == ("detnet59: seed 2 waits for the other variant",)


def test_a_lost_run_is_told_and_the_others_count(campaign: Campaign) -> None:
    finish(campaign)
    lost = next(run for run in campaign.runs if run.variant == "resnet50" and run.seed == 1)
    write_record(campaign.place(lost) / RESULT, RunOutcome(error="loss is nan"))
    answer = answer_questions(campaign)[0]
    assert answer.seeds == ((0, 1, 2), (0, 2)) and answer.found is not None
    assert answer.notes == ("resnet50: the loss of seed 1 was not finite; left out",)


def test_what_is_measured_on_nothing_is_named(tmp_path: Path, campaign_file: Write) -> None:
    """No object is large in pictures so small."""
    write_scenes(tmp_path / "scenes", train=2, val=8, size=(80, 60))
    file = campaign_file(
        pretrain=None, questions=["detnet59 over resnet50: AP small less AP large"], seeds=2
    )
    campaign = begin_campaign(file, tmp_path / "c", root=tmp_path)
    finish(campaign)
    (answer,) = answer_questions(campaign)
    assert answer.notes == ("scenes has nothing that AP large is measured on",)


def test_questions_that_no_training_can_answer_are_known_before(
    tmp_path: Path, campaign_file: Write
) -> None:
    write_scenes(tmp_path / "scenes", train=2, val=8, size=(80, 60))
    write_scenes(tmp_path / "one", train=2, val=1, size=(128, 96))
    asked = "detnet59 over resnet50: AP"
    file = campaign_file(
        data={"scenes": "scenes", "one": "one"},
        questions=[{"ask": text, "data": "scenes"} for text in (asked, f"{asked} large")]
        + [{"ask": asked, "data": "one"}],
        pretrain=None,
    )
    campaign = begin_campaign(file, tmp_path / "c", root=tmp_path)
    few = "something to be found on 1 image only: too few for an interval"
    assert questions_on_too_little(campaign) == [
        f"{asked} large, on scenes: scenes has nothing that AP large is measured on",
        f"{asked}, on one: {few}",
    ]
    finish(campaign)
    *_, last = answer_questions(campaign)
    assert last.notes == (few,), "it says the same at the end"


def test_pairs_need_both(tmp_path: Path, campaign_data: Path, campaign_file: Write) -> None:
    file = campaign_file(pretrain=None, paired=True, seeds=3)
    campaign = begin_campaign(file, tmp_path / "c", root=campaign_data)
    finish(campaign)
    lost = next(run for run in campaign.runs if run.variant == "resnet50" and run.seed == 1)
    write_record(campaign.place(lost) / RESULT, RunOutcome(error="loss is nan"))
    answer = answer_questions(campaign)[0]
    assert answer.found is not None and answer.found.paired and answer.seeds == ((0, 2), (0, 2))


def test_before_any_seed_there_is_no_answer_and_after_one_no_interval(campaign: Campaign) -> None:
    assert [one.found for one in answer_questions(campaign)] == [None] * 3
    finish(campaign, seeds=1)
    answer = answer_questions(campaign)[0]
    assert answer.found is not None and answer.found.interval is None
    assert answer.notes == ("one seed tells nothing of what another would give",)


def test_data_that_moved_are_found_again(
    tmp_path: Path, campaign_data: Path, campaign_file: Write
) -> None:
    first, then = tmp_path / "first", tmp_path / "then"
    shutil.copytree(campaign_data / "scenes", first / "scenes")
    file = campaign_file(pretrain=None, questions=QUESTIONS, seeds=2)
    campaign = begin_campaign(file, tmp_path / "c", root=first)
    finish(campaign)
    before = answer_questions(campaign)
    first.rename(then)
    moved = begin_campaign(file, tmp_path / "c", root=then)
    assert [one.found for one in answer_questions(moved)] == [one.found for one in before]


def test_other_ground_truth_is_refused(
    tmp_path: Path, campaign: Campaign, campaign_data: Path
) -> None:
    finish(campaign)
    place = campaign.place(campaign.runs[3]) / LAST / "scores.json"
    content = json.loads(place.read_text())
    place.write_text(json.dumps({**content, "ground_truth": "another"}))
    with pytest.raises(InputError, match="scored against other ground truth") as error:
        answer_questions(campaign)
    assert str(error.value).startswith(f"{place}: ")
