"""What a training takes of a device, by arithmetic: what is kept is counted, what fits is told."""

import gc
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from detnet.coco.categories import Categories
from detnet.engine.distributed import Process, single_process
from detnet.errors import InputError
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector
from detnet.training.estimate import scenes
from detnet.training.plan import (
    ImageCost,
    _look,
    check_memory,
    image_cost,
    plan_training,
    require_memory,
    step_memory,
)

GIB = 2**30


class Two(nn.Module):
    """Two linear layers with a ReLU between: autograd keeps the input and the ReLU's output."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(30, 50), nn.ReLU(), nn.Linear(50, 7))

    def forward(self, images: Any, targets: Any) -> Any:
        return self.layers(images)


def test_what_is_kept_is_counted_once_and_weights_not_at_all() -> None:
    batch: Any = (torch.rand(4, 30), [])
    kept, macs = _look(Two(), batch, "fp32")
    assert kept == 4 * 4 * (30 + 50)
    assert macs == 4 * (30 * 50 + 50 * 7)
    half, _ = _look(Two(), batch, "bf16")
    assert half == kept / 2


def test_two_small_images_tell_what_a_large_one_takes(tiny: TrainConfig) -> None:
    config = replace(tiny, min_sizes=[448], max_size=640, precision="fp32")
    found = image_cost(config)
    categories = Categories(tuple(range(1, 81)), tuple(map(str, range(80))))
    detector = build_detector(config, categories)
    kept, macs = _look(detector, scenes(config, (448, 640), 1), "fp32")
    assert found.saved_bytes == pytest.approx(kept, rel=0.03)
    assert found.macs == pytest.approx(macs, rel=0.03)
    assert found.params == sum(each.numel() for each in detector.parameters())


def test_the_look_leaves_the_random_numbers_alone(tiny: TrainConfig) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    image_cost(tiny)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_look_lets_go_of_what_it_saw(tiny: TrainConfig) -> None:
    """It is taken in every process that trains on a GPU, before the first step."""

    def held() -> int:
        gc.collect()
        found = [each for each in gc.get_objects() if type(each) is torch.Tensor]
        return sum(each.untyped_storage().nbytes() for each in found)

    image_cost(tiny)
    before = held()
    image_cost(tiny)
    assert held() <= before


def test_a_frozen_part_keeps_nothing() -> None:
    small: dict[str, Any] = {"backbone": "resnet50", "width": 0.125, "min_sizes": [96]}
    whole = TrainConfig.make(None, {**small, "max_size": 128, "norm": "batch", "frozen": []})
    held = replace(whole, frozen=["stem", "c2", "c3"])
    assert image_cost(held).saved_bytes < image_cost(whole).saved_bytes
    assert image_cost(held).trained < image_cost(whole).trained == image_cost(whole).params


def test_the_parts_of_a_step() -> None:
    cost = ImageCost(saved_bytes=1e9, macs=1e11, params=100, trained=60)
    config = PretrainConfig(precision="fp32", ema=0.9)
    found = step_memory(cost, config, images=3, processes=1)
    assert (found.weights, found.gradients, found.optimizer) == (800, 240, 240)
    assert found.activations == 3e9 and found.reserve == GIB + 3e8
    assert found.total == found.needed + found.reserve == 800 + 480 + 3e9 + GIB + 3e8
    several = step_memory(cost, replace(config, precision="bf16", ema=0.0), images=3, processes=8)
    assert (several.weights, several.gradients) == (600, 480)


def test_a_plan_shares_the_batch_and_says_what_fits() -> None:
    config = PretrainConfig(
        backbone="shufflenetv2_20", width=0.25, image_size=64, batch_size=64, lr_batch=32, lr=0.1,
        iterations=1000,
    )  # fmt: skip
    found = plan_training(config, devices=4, limit=80 * GIB)
    assert (found.images, found.accumulate, found.fits, found.lr) == (16, 1, 1, 0.2)
    assert found.shown == 64_000
    assert found.seconds == found.image_s * 64_000 / 4 > 0
    few = plan_training(config, devices=4, limit=found.memory.total - 1)
    assert few.fits == 2
    assert plan_training(config, devices=4, limit=GIB).fits is None
    with pytest.raises(InputError, match="batch_size 64 cannot be divided by 7 processes"):
        plan_training(config, devices=7)


def test_what_cannot_fit_is_refused_in_a_line_with_what_does(
    tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny, batch_size=8, norm="frozen")
    cost = image_cost(config)
    eight = step_memory(cost, config, images=8, processes=1)
    told = require_memory(config, processes=1, limit=2 * eight.total)
    assert told.startswith("a step of 8 images at once takes about 1.") and "(estimated)" in told
    four = step_memory(cost, config, images=4, processes=1)
    # What fits must fit with the reserve, of which a real device has much more than this network.
    monkeypatch.setattr("detnet.training.plan._RESERVE", 0)
    monkeypatch.setattr("detnet.training.plan._SHARE", 0.0)
    with pytest.raises(InputError) as refused:
        require_memory(config, processes=1, limit=four.needed)
    assert "\n" not in str(refused.value)
    assert re.search(
        r"would take about 0\.\d GiB of the device's 0\.\d GiB of memory", str(refused.value)
    )
    assert "--accumulate 2 takes 4 at once" in str(refused.value)
    assert "batch norm" not in str(refused.value)
    with pytest.raises(InputError, match="which batch norm is then over"):
        require_memory(replace(config, norm="sync"), processes=1, limit=four.needed)
    with pytest.raises(InputError, match="not even one image fits; take smaller ones"):
        require_memory(config, processes=1, limit=1000)
    monkeypatch.setenv("DETNET_MEMORY_CHECK", "never")
    assert "of the device's 0.0 GiB" in require_memory(config, processes=1, limit=1000)


def test_a_processor_is_not_asked(tiny: TrainConfig) -> None:
    assert check_memory(tiny, single_process("cpu")) == []


@pytest.mark.parametrize(("bf16", "kind"), [("always", "bf16"), ("never", "fp32")])
def test_a_gpu_without_bf16_keeps_twice_as_much(
    bf16: str, kind: str, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the precision that settings leave to the device."""
    config: Any = replace(tiny, precision="auto", norm="frozen")
    process = Process(0, 1, torch.device("cuda", 0))
    monkeypatch.setenv("DETNET_BF16", bf16)
    monkeypatch.setattr("detnet.training.plan._RESERVE", 0)
    settled: Any = replace(config, precision=kind)
    found = step_memory(image_cost(settled), settled, images=config.batch_size, processes=1)
    for free, fits in ((1.01 * found.needed, True), (0.99 * found.needed, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 * GIB))
        if fits:
            (told,) = check_memory(config, process)
            assert "(estimated)" in told
        else:
            with pytest.raises(InputError, match="would take about"):
                check_memory(config, process)
