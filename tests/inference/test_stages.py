"""Stages of a detector in torch, and of an exported network's nodes."""

import time

import numpy as np
import pytest
import torch

from detnet.inference.stages import (
    NETWORK,
    REST,
    STAGES,
    StageClock,
    split_network,
    watch_detector,
)
from tests.inference.test_bench import small


def test_a_stage_is_counted_without_those_within_it() -> None:
    clock = StageClock()
    start = time.perf_counter()
    with clock.stage("heads"):
        time.sleep(0.02)
        with clock.stage("resize"):
            time.sleep(0.04)
        time.sleep(0.02)
    whole = time.perf_counter() - start
    assert 0.035 < clock.seconds["heads"] < whole - 0.035
    assert clock.seconds["resize"] >= 0.04
    assert sum(clock.seconds.values()) == pytest.approx(whole, abs=0.002)


def test_a_stage_that_fails_is_closed() -> None:
    clock = StageClock()
    with pytest.raises(KeyError), clock.stage("heads"):
        raise KeyError
    with clock.stage("resize"):
        pass
    assert set(clock.seconds) == {"heads", "resize"}


def test_the_device_is_waited_for_at_each_edge() -> None:
    waited = []
    clock = StageClock(lambda: waited.append(len(waited)))
    with clock.stage("heads"), clock.stage("resize"):
        pass
    assert len(waited) == 4


@pytest.mark.parametrize(
    ("detector", "stages"),
    [
        ("mask_rcnn_fpn", ["resize", "backbone", "pyramid", "proposals", "heads"]),
        ("retinanet", ["resize", "backbone", "pyramid", "heads"]),
        ("ssd", ["resize", "backbone", "heads"]),
        ("faster_rcnn", ["resize", "backbone", "proposals", "heads"]),
    ],
)
def test_each_detector_has_its_stages_and_finds_the_same(detector: str, stages: list[str]) -> None:
    predictor = small(detector)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    before = predictor.predict(pixels)
    clock = StageClock()
    watch_detector(predictor.network, clock)
    with clock.stage(REST):
        after = predictor.predict(pixels)
    assert torch.equal(torch.as_tensor(before.boxes), torch.as_tensor(after.boxes))
    found = [name for name in STAGES if clock.seconds.get(name, 0.0) > 0]
    assert found == [*stages, REST]
    assert clock.seconds["backbone"] > clock.seconds["resize"]


def test_nodes_are_counted_to_their_stages() -> None:
    seconds = {"resize": 1.0, NETWORK: 10.0}
    nodes = {"backbone/c_1": 4.0, "QuantizeLinear_backbone/c_1": 1.0, "resize/p_0": 0.5, "own": 2.0}
    split_network(seconds, nodes)
    assert seconds == {"resize": 1.5, "backbone": 5.0, NETWORK: 4.5}
    seconds = {"decode": 1.0, "resize": 1.0, NETWORK: 10.0}
    split_network(seconds, nodes, images=4)
    assert seconds == {"decode": 1.0, "resize": 0.375, "backbone": 1.25, NETWORK: 1.125}
