"""A supernet is trained by one path a step, and resumed to the same bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.backbones.spaces.shuffle_space import Row, ShuffleSpace
from detnet.backbones.spaces.supernet import find_supernet
from detnet.detectors.files import load_model
from detnet.engine import checkpoint
from detnet.search.paths import PathSampler
from detnet.search.supernet import finetune_supernet
from detnet.training.detection.config import TrainConfig

SPACE = ShuffleSpace(
    stem_channels=8, rows=(Row("c2", 1, 24), Row("c3", 1, 40), Row("c4", 1, 64), Row("c5", 1, 88))
)
SAMPLER = PathSampler(SPACE, seed=5, single=2)


class Kill(Exception):
    """Stands for kill -9: nothing is saved on the way out."""


def quiet(event: dict[str, Any]) -> None:
    pass


@pytest.fixture
def settings(tiny: TrainConfig) -> TrainConfig:
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


@pytest.mark.parametrize("killed_at", [2, 3])
def test_resume_equals_uninterrupted(settings: TrainConfig, tmp_path: Path, killed_at: int) -> None:
    torch.set_num_threads(1)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert finetune_supernet(settings, whole, SAMPLER, resume=False, watch=quiet)

    def kill(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["iteration"] == killed_at:
            raise Kill

    with pytest.raises(Kill):
        finetune_supernet(settings, cut, SAMPLER, resume=False, watch=kill)
    assert finetune_supernet(settings, cut, SAMPLER, resume=True, watch=quiet)
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    states = [checkpoint.load(run / "last.ckpt")["optimizer"]["state"] for run in (whole, cut)]
    assert states[0].keys() == states[1].keys()
    for key, state in states[0].items():
        assert torch.equal(state["momentum_buffer"], states[1][key]["momentum_buffer"])


def test_the_model_file_holds_the_whole_supernet(settings: TrainConfig, tmp_path: Path) -> None:
    assert finetune_supernet(settings, tmp_path / "run", SAMPLER, resume=False, watch=quiet)
    model = load_model(tmp_path / "run" / "model.safetensors")
    supernet = find_supernet(model)
    assert supernet is not None and supernet.space == SPACE
    supernet.take((3, 0, 2, 1))
    assert len(model.eval()([torch.rand(3, 96, 128)])) == 1
