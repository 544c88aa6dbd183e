"""A supernet is trained by one path a step, and resumed to the same bits."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detnet.backbones.spaces.detnet_space import DetNetSpace
from detnet.backbones.spaces.detnet_stage import StageChoices
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import find_supernet, read_space
from detnet.detectors.files import load_model
from detnet.engine import checkpoint
from detnet.errors import InputError
from detnet.search.supernet import MacBins, PathSampler, SupernetFinetuning
from detnet.training.detection.config import TrainConfig
from detnet.training.run import run_task
from tests.conftest import TINY

SPACE = ShuffleSpace(
    stem_channels=8,
    rows=(
        ShuffleStage("c2", 1, 24),
        ShuffleStage("c3", 1, 40),
        ShuffleStage("c4", 1, 64),
        ShuffleStage("c5", 1, 88),
    ),
)
SAMPLER = PathSampler(SPACE, seed=5, single=2)


class Kill(Exception):
    """Stands for kill -9: nothing is saved on the way out."""


def quiet(event: dict[str, Any]) -> None:
    pass


@pytest.fixture
def settings(scenes: Path) -> TrainConfig:
    tiny = TrainConfig.make(None, {"data": str(scenes), **TINY})
    return replace(
        tiny,
        backbone="supernet",
        backbone_options={"space": SPACE.to_json()},
        width=1.0,
        ema=0.0,
        val_split="none",
        iterations=5,
        detector_options={**tiny.detector_options, "pyramid_norm": "sync"},
    )


def test_resume_equals_uninterrupted(settings: TrainConfig, tmp_path: Path) -> None:
    """Killed where a checkpoint has just been written, and a step after one."""
    torch.set_num_threads(1)
    whole = tmp_path / "whole"
    assert run_task(SupernetFinetuning(settings, SAMPLER), whole, resume=False, on_event=quiet)
    momenta = checkpoint.load(whole / "last.ckpt")["optimizer"]["state"]
    for killed_at in (2, 3):
        cut = tmp_path / f"cut at {killed_at}"

        def kill(event: dict[str, Any], at: int = killed_at) -> None:
            if event["event"] == "progress" and event["iteration"] == at:
                raise Kill

        with pytest.raises(Kill):
            run_task(SupernetFinetuning(settings, SAMPLER), cut, resume=False, on_event=kill)
        assert run_task(SupernetFinetuning(settings, SAMPLER), cut, resume=True, on_event=quiet)
        assert (whole / "model.safetensors").read_bytes() == (
            cut / "model.safetensors"
        ).read_bytes()
        states = checkpoint.load(cut / "last.ckpt")["optimizer"]["state"]
        assert states.keys() == momenta.keys()
        for key, state in states.items():
            assert torch.equal(state["momentum_buffer"], momenta[key]["momentum_buffer"])


def test_the_model_file_holds_the_whole_supernet(settings: TrainConfig, tmp_path: Path) -> None:
    assert run_task(
        SupernetFinetuning(settings, SAMPLER), tmp_path / "run", resume=False, on_event=quiet
    )
    model = load_model(tmp_path / "run" / "model.safetensors")
    supernet = find_supernet(model)
    assert supernet is not None and supernet.space == SPACE
    supernet.take((3, 0, 2, 1))
    assert len(model.eval()([torch.rand(3, 96, 128)])) == 1


SIX_GENES = ShuffleSpace(
    stem_channels=8, rows=(ShuffleStage("c2", 3, 16), ShuffleStage("c3", 3, 32))
)


def weight(path: tuple[int, ...]) -> float:
    return float(sum(path))


def test_a_step_s_path_follows_from_seed_and_step_alone() -> None:
    sampler = PathSampler(SIX_GENES, seed=3)
    paths = [sampler.path(iteration) for iteration in range(50)]
    assert paths == [PathSampler(SIX_GENES, seed=3).path(iteration) for iteration in range(50)]
    assert paths != [PathSampler(SIX_GENES, seed=4).path(iteration) for iteration in range(50)]
    assert len(set(paths)) > 40


def test_every_choice_is_drawn_as_often() -> None:
    sampler = PathSampler(SIX_GENES, seed=0)
    paths = np.array([sampler.path(iteration) for iteration in range(2000)])
    for gene in paths.T:
        counts = Counter(gene.tolist())
        # 500 expected, deviation 19: five of them.
        assert all(abs(counts[choice] - 500) < 100 for choice in range(4))


def test_fair_sampling_gives_each_choice_its_turn() -> None:
    sampler = PathSampler(SIX_GENES, seed=3, single=2, fair=True)
    paths = [sampler.path(iteration) for iteration in range(2 + 4 * 50)]
    assert paths[:2] == [(0,) * 6] * 2
    for turn in range(50):
        of_turn = np.array(paths[2 + 4 * turn :][:4])
        assert (np.sort(of_turn, axis=0) == np.arange(4)[:, None]).all(), "each choice once"
    assert len(set(paths)) > 180, "in another order each time"
    assert sampler.path(100) == PathSampler(SIX_GENES, seed=3, single=2, fair=True).path(100)
    assert paths != [
        PathSampler(SIX_GENES, seed=4, single=2, fair=True).path(i) for i in range(202)
    ]


def test_an_answer_without_meaning_loses_its_turn() -> None:
    """At stride 2 an identity is a projection; of the other steps half have either."""
    open_row = StageChoices("c3", (1,), (32,), strides=(1, 2), project=(True, False))
    space = DetNetSpace(rows=(StageChoices("c2", (1,), (32,)), open_row))
    sampler = PathSampler(space, seed=0, fair=True)
    drawn = Counter(space.table(sampler.path(step))[1] for step in range(800))
    counts = {(stage.stride, stage.project): count for stage, count in drawn.items()}
    assert counts[2, True] == 400 == counts[1, True] + counts[1, False]
    assert abs(counts[1, False] - 200) < 50  # deviation 10


def test_what_cannot_be_fair_is_refused() -> None:
    with pytest.raises(InputError, match="this space has 2 and 3; choose uniform"):
        PathSampler(read_space("detnet"), seed=0, fair=True)
    with pytest.raises(InputError, match="not both"):
        PathSampler(SPACE, seed=0, bins=MacBins(0, 4, 2, weight), fair=True)


def test_ranges_of_cost_are_drawn_as_often() -> None:
    bins = MacBins(low=2, high=14, width=4, macs=weight)  # 2-6, 6-10, 10-14 of 0 to 18
    sampler = PathSampler(SIX_GENES, seed=0, bins=bins)
    costs = [weight(sampler.path(iteration)) for iteration in range(900)]
    assert all(2 <= cost <= 14 for cost in costs)
    # 300 in each range expected, on a border in either of two.
    assert sum(cost <= 6 for cost in costs) > 230  # uniform genes give 70 of 900
    assert sum(6 <= cost <= 10 for cost in costs) > 230
    assert sum(cost >= 10 for cost in costs) > 230


def test_a_range_that_no_draw_meets_gives_the_nearest() -> None:
    bins = MacBins(low=100, high=110, width=10, macs=weight)
    assert weight(PathSampler(SIX_GENES, seed=0, bins=bins).path(0)) >= 15


def test_single_steps_come_first() -> None:
    sampler = PathSampler(SIX_GENES, seed=0, single=3)
    assert {sampler.path(iteration) for iteration in range(3)} == {(0,) * 6}
    assert sampler.path(3) == PathSampler(SIX_GENES, seed=0).path(3)


def test_no_range() -> None:
    with pytest.raises(InputError, match="bins of 20 multiply-adds do not fit between 2 and 14"):
        MacBins(low=2, high=14, width=20, macs=weight)
