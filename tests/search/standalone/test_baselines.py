"""Baselines: the right networks, chosen once; the same budget; the difference with its interval."""

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from detnet.backbones.detnet import DETNET59
from detnet.backbones.resnet import RESNET50
from detnet.backbones.spaces.detnet_space import DetNetSpace
from detnet.errors import InputError
from detnet.report.search.text import search_section
from detnet.search.costs.counting import Costs
from detnet.search.records import StandaloneResult, Winner, write_record
from detnet.search.run import SearchRun
from detnet.search.standalone.baselines import (
    baselines,
    baselines_markdown,
    baselines_so_far,
    comparison_lines,
    format_baselines,
)
from detnet.search.standalone.statistics import difference_interval
from tests.search.settings_of_search import make_run

WINNER = (1, 2, 0, 1)


def write_winner(run: Path, path: str) -> None:
    winner = Winner(path=path, macs=1, params=1, score=0.5, generation=0, slot=0)
    write_record(run / "winner.json", winner)


class Kill(Exception):
    """Stands for kill -9."""


def quiet(event: dict[str, Any]) -> None:
    pass


def killing(text: str) -> Callable[[dict[str, Any]], None]:
    def on_event(event: dict[str, Any]) -> None:
        if text in event.get("text", event["event"]):
            raise Kill

    return on_event


@pytest.fixture
def run(scored_run: Path, scenes: Path, tmp_path: Path) -> Path:
    run = make_run(tmp_path / "run", scored_run, scenes)
    write_winner(run, "1 2 0 1")
    return run


def planned(run: Path, **options: Any) -> list[dict[str, Any]]:
    with pytest.raises(Kill):
        baselines(run, on_event=killing("trainings of networks alone"), **options)
    plan = json.loads((run / "baselines" / "plan.json").read_text())
    networks: list[dict[str, Any]] = plan["networks"]
    return networks


def write_result(run: Path, network: dict[str, Any], seed: int, score: float) -> None:
    folder = network["name"].removeprefix("the ").replace(" ", "_")
    found = StandaloneResult(
        path=network["path"], macs=1, params=1, name="x", seed=seed, AP=score, AP50=score
    )
    write_record(run / "baselines" / folder / f"seed{seed}" / "result.json", found)


def test_the_networks_are_those_to_beat(run: Path) -> None:
    networks = planned(run, within=0.2)
    assert networks.pop(2)["kind"] == "widened"
    search = SearchRun.open(run)
    macs = search.costs.macs
    assert [one["kind"] for one in networks] == ["winner", "known", "largest", *["random"] * 5]
    paths = [search.read_path(one["path"], run) for one in networks]
    assert len(set(paths)) == 8
    assert paths[0] == WINNER and paths[1] == (0, 0, 0, 0)
    allowed = [value for path in product(range(4), repeat=4) if (value := macs(path)) <= 2e6]
    assert macs(paths[2]) == max(allowed)
    assert all(abs(macs(path) / macs(WINNER) - 1) <= 0.2 for path in paths[3:])
    assert [one["seeds"] for one in networks] == [[3, 4, 5]] * 3 + [[3]] * 5
    assert all(one["macs"] == macs(path) for one, path in zip(networks, paths, strict=True))

    with pytest.raises(InputError, match="planned with --seeds 3, not 2"):
        baselines(run, within=0.2, seeds=2, on_event=quiet)
    write_winner(run, "1 1 1 1")
    with pytest.raises(InputError, match="planned for the winner 1 2 0 1, but it is 1 1 1 1"):
        baselines(run, within=0.2, on_event=quiet)


def test_the_known_network_is_widened_to_the_winners_cost(run: Path) -> None:
    networks = planned(run, random=0, within=0.01)
    winner, known, widened, _ = networks
    search = SearchRun.open(run)
    assert (widened["kind"], widened["name"]) == ("widened", "all shufflenet_3x3 widened")
    assert widened["path"] == known["path"] and widened["width"] > search.config.width

    def macs(width: float) -> int:
        return Costs(search.space, width=width, image_size=search.costs.image_size).macs((0,) * 4)

    assert widened["macs"] == macs(widened["width"])
    missed = abs(widened["macs"] - winner["macs"])
    nearby = [widened["width"] + step / 100 for step in range(-20, 21)]
    assert missed <= min(abs(macs(width) - winner["macs"]) for width in nearby)
    share = 100 * widened["macs"] / winner["macs"]
    assert widened["notes"] == [
        f"has width {widened['width']:g}, {share:.1f} % of the winner's multiply-adds"
    ]


def test_a_widened_network_is_trained_in_its_width(run: Path) -> None:
    """All others were trained by others, who measured anything."""
    *others, widened, largest = planned(run, random=0, within=0.01, seeds=1)
    for one in (*others, largest):
        write_result(run, one, one["seeds"][0], 0.5)
    result = baselines(run, random=0, within=0.01, seeds=1, on_event=quiet)
    assert result is not None and result.networks[2].values
    folder = run / "baselines" / "all_shufflenet_3x3_widened" / "seed3"
    for part in ("pretrain", "train"):
        config = yaml.safe_load((folder / part / "config.yaml").read_text())
        assert config["width"] == widened["width"]
    assert "the winner less all shufflenet_3x3 widened" in format_baselines(result)


def test_a_network_is_trained_once_though_it_is_two(run: Path) -> None:
    write_winner(run, "0 0 0 0")
    networks = planned(run, random=0)
    assert [one["kind"] for one in networks] == ["winner", "largest"]
    assert networks[0]["notes"] == ["is all shufflenet_3x3, too"]


def other_search(run: Path, name: str, path: str, **settings: Any) -> Path:
    """A search that has ended, as far as its winner tells."""
    other = run.parent / name
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("baselines"))
    config = yaml.safe_load((other / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump(config | settings))
    write_winner(other, path)
    return other


def test_winners_of_other_searches_join_a_plan(run: Path) -> None:
    before = planned(run, random=1, within=0.01)
    cheaper = other_search(run, "cheaper", "1 1 0 1")
    simple = other_search(run, "simple", "0 0 0 0", seed=7)
    after = planned(run, random=1, within=0.01, against=[cheaper, simple])
    found = after.pop(1)
    assert (found["name"], found["kind"], found["seeds"]) == (
        "the winner of cheaper",
        "other",
        [3, 4, 5],
    )
    assert found["macs"] == SearchRun.open(run).costs.macs((1, 1, 0, 1))
    assert after[1].pop("notes") == ["is the winner of simple, too"]
    assert before[1].pop("notes") == []
    assert after == before
    both = json.loads((run / "baselines" / "plan.json").read_text())
    planned(run, random=1, within=0.01, against=[simple])
    planned(run, random=1, within=0.01)
    assert json.loads((run / "baselines" / "plan.json").read_text()) == both

    write_winner(cheaper, "1 1 1 1")
    with pytest.raises(InputError, match="its winner is 1 1 1 1, but .* cheaper as of the winner"):
        baselines(run, random=1, within=0.01, against=[cheaper], on_event=quiet)


def test_an_added_winner_is_trained_and_compared(run: Path) -> None:
    options: dict[str, Any] = {"random": 0, "within": 0.01, "seeds": 2}
    other = other_search(run, "cheaper", "1 1 0 1")
    for one in planned(run, **options, against=[other]):
        for seed in one["seeds"][one["kind"] == "other" :]:
            write_result(run, one, seed, 0.5)
    result = baselines(run, **options, on_event=quiet)
    assert result is not None
    found = next(one for one in result.networks if one.kind == "other")
    assert len(found.values) == 2 and found.values[1] == 0.5
    assert (
        run / "baselines" / "winner_of_cheaper" / "seed3" / "train" / "model.safetensors"
    ).exists()
    assert "the winner less the winner of cheaper: " in format_baselines(result)


def test_other_searches_must_be_comparable(run: Path) -> None:
    def refused(other: Path, match: str) -> None:
        with pytest.raises(InputError, match=match):
            baselines(run, random=0, against=[other], on_event=quiet)
        assert not (run / "baselines" / "plan.json").exists()

    refused(other_search(run, "wider", "1 1 0 1", width=0.5), "wider: searches at width 0.5")
    refused(run, "run as the search itself; give searches folders of different names")
    open_ = other_search(run, "open", "1 1 0 1")
    (open_ / "winner.json").unlink()
    refused(open_, "open: the search has no winner yet")
    space = other_search(run, "space", "1 1 0 1")
    small = DetNetSpace.from_json({"rows": [
        {"name": "c2", "depths": [3, 2], "channels": [256]},
        {"name": "c3", "depths": [4], "channels": [512], "strides": [2]},
        {"name": "c4", "depths": [6], "channels": [1024], "strides": [2]},
        {"name": "c5", "depths": [3], "channels": [1024]},
    ]})  # fmt: skip
    (space / "space.json").write_text(json.dumps(small.to_json()))
    config = yaml.safe_load((space / "config.yaml").read_text())
    config["space"] = str(space / "space.json")
    (space / "config.yaml").write_text(yaml.safe_dump(config))
    refused(space, "space: searches another space than ")


AS_RESNET = {"channels": [1024, 2048], "strides": [1, 2], "dilations": [2, 1], "inner": [256, 512]}
AS_DETNET = {"channels": [1024], "dilations": [2]}


@pytest.mark.parametrize(
    ("c5", "depths", "names"),
    [
        (AS_DETNET, [3, 2], ["DetNet-59"]),
        (AS_DETNET, [1, 2], ["the smallest"]),
        pytest.param(AS_RESNET, [3, 0], ["DetNet-59", "ResNet-50"], marks=pytest.mark.slow),
    ],
)
def test_a_detnet_space_is_held_against_what_it_is_built_around(
    c5: dict[str, Any], depths: list[int], names: list[str], run: Path
) -> None:
    rows = [
        {"name": "c2", "depths": [3], "channels": [256]},
        {"name": "c3", "depths": [4], "channels": [512], "strides": [2]},
        {"name": "c4", "depths": [6, 2], "channels": [1024], "strides": [2]},
        {"name": "c5", "depths": [3], **c5},
        {"name": "c6", "depths": depths, "channels": [1024], "dilations": [2]},
    ]
    space = DetNetSpace.from_json({"rows": rows})
    (run / "space.json").write_text(json.dumps(space.to_json()))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {"max_macs": None, "space": str(run / "space.json")}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    genes = range(len(space.genes))
    write_winner(run, space.format_path(space.check([int(gene == 1) for gene in genes])))
    networks = planned(run, random=0, seeds=1)
    assert [one["name"] for one in networks if one["kind"] == "known"] == names
    tables = {"DetNet-59": DETNET59, "ResNet-50": RESNET50}
    for one in networks:
        if one["name"] in tables:
            path = SearchRun.open(run).read_path(one["path"], run)
            assert space.table(path) == tables[one["name"]]


def test_what_cannot_be_is_said(run: Path) -> None:
    with pytest.raises(InputError, match="widen the limits"):
        baselines(run, random=200, within=0.01, on_event=quiet)
    with pytest.raises(InputError, match="a share between 0 and 1"):
        baselines(run, within=1.5, on_event=quiet)
    (run / "winner.json").unlink()
    with pytest.raises(InputError, match="the search has no winner yet"):
        baselines(run, on_event=quiet)
    assert not (run / "baselines" / "plan.json").exists()


def test_torchrun_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="^baselines is not for torchrun: start it by itself once"):
        baselines(run, on_event=quiet)
    assert not (run / "baselines" / "plan.json").exists()


def test_the_difference_is_told(run: Path) -> None:
    """All trainings but one were done by others, who measured anything."""
    networks = planned(run, seeds=2, random=3, within=0.2)
    scores = {
        "winner": [0.6, None],
        "known": [0.4, 0.42],
        "largest": [0.61, 0.63],
        "widened": [0.44, 0.46],
        "random": [0.5],
    }
    for number, one in enumerate(networks):
        for seed, score in zip(one["seeds"], scores[one["kind"]], strict=True):
            if score is None:
                continue
            score += 0.01 * (number - 4) if one["kind"] == "random" else 0
            write_result(run, one, seed, score)
    result = baselines(run, seeds=2, random=3, within=0.2, on_event=quiet)
    assert result == SearchRun.open(run).baselines
    assert result is not None
    rows = {one.name: one for one in result.networks}
    values = rows["the winner"].values
    assert values[0] == 0.6 and 0 <= values[1] <= 1
    assert pytest.approx(0.62) == rows["the largest"].AP
    assert rows["random 2"].interval is None
    random = result.random_values
    assert random == pytest.approx([0.5, 0.51, 0.52])
    first = result.differences[0]
    assert first.kind == "random"
    assert first.difference == pytest.approx(sum(values) / 2 - 0.51)
    assert first.interval == pytest.approx(difference_interval(values, random))
    text = (run / "baselines" / "baselines.md").read_text()
    assert text == baselines_markdown(result)
    assert text.count("\n|") == 9 and "the winner less the random ones" in text
    assert "random 3" in format_baselines(result)


def test_what_is_known_so_far_is_told(run: Path) -> None:
    networks = planned(run, seeds=2, random=2, within=0.01)
    search = SearchRun.open(run)
    assert baselines_so_far(search) is None
    winner, known, *_ = networks
    for one, scores in ((winner, (0.6, 0.62)), (known, (0.5,))):
        for seed, score in zip(one["seeds"], scores, strict=False):
            write_result(run, one, seed, score)
    found = baselines_so_far(search)
    assert found is not None and search.baselines is None
    assert [one.values for one in found.networks] == [(0.6, 0.62), (0.5,), (), (), (), ()]
    first, second, *_ = comparison_lines(found)
    assert first == "so far 3 of 10 trainings are done"
    assert second == "the winner less all shufflenet_3x3: +11.0 points of AP"
    assert first in search_section(search)


@pytest.mark.slow
def test_seeds_share_a_pretraining_and_the_winner_its_own(run: Path) -> None:
    """Four networks, the winner's first training being that of the search."""
    options: dict[str, Any] = {"seeds": 2, "random": 1, "within": 0.5, "share_pretraining": True}
    result = baselines(run, on_event=quiet, **options)
    assert result is not None
    assert (run / "winner" / "train" / "model.safetensors").exists()
    found = sorted(str(path.parent.relative_to(run)) for path in run.glob("**/model.safetensors"))
    assert found == sorted(
        [
            "baselines/all_shufflenet_3x3/pretrain",
            "baselines/all_shufflenet_3x3/seed3/train",
            "baselines/all_shufflenet_3x3/seed4/train",
            "baselines/largest/pretrain",
            "baselines/largest/seed3/train",
            "baselines/largest/seed4/train",
            "baselines/random_1/pretrain",
            "baselines/random_1/seed3/train",
            "baselines/winner/seed4/train",
            "finetune",
            "winner/pretrain",
            "winner/train",
        ]
    )
    before = (run / "baselines" / "baselines.json").read_bytes()
    shutil.rmtree(run / "baselines" / "random_1")  # as killed before it
    again = baselines(run, on_event=quiet, **options)
    assert again is not None and again.random_values == result.random_values
    assert len((run / "baselines" / "baselines.json").read_bytes()) == pytest.approx(
        len(before), rel=0.1
    )
