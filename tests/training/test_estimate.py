"""What a recipe is said to cost: the images it is measured on, the arithmetic, and real steps."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detnet.backbones.cost import backbone_cost, count_macs
from detnet.detectors import create
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.estimate import (
    Estimate,
    _image_size,
    _peak,
    _time_steps,
    measure_steps,
    scenes,
    shown_images,
)

CPU = torch.device("cpu")


def check_arithmetic(found: Estimate, *, images: int, shown: float) -> None:
    assert (found.images, found.device) == (images, "cpu")
    assert found.step_s > 0
    assert found.total_s == pytest.approx(found.step_s * shown / images)


def test_a_detector_is_measured_at_its_own_size(tiny: TrainConfig) -> None:
    config = replace(tiny, iterations=50, batch_size=6)
    found = measure_steps(config, CPU, images=2, steps=1)
    assert found.image_size == (96, 128)
    check_arithmetic(found, images=2, shown=300)
    model: Any = create("faster_rcnn_fpn", num_classes=81, width=0.125).eval()
    assert found.params == sum(parameter.numel() for parameter in model.parameters())
    assert found.counted == "of backbone and pyramid"
    assert found.macs == count_macs(lambda: model.backbone(torch.zeros(1, 3, 96, 128)))


def test_classes_are_those_of_the_data(tiny: TrainConfig) -> None:
    found = measure_steps(tiny, CPU, images=2, steps=1, classes=3)
    model: Any = create("faster_rcnn_fpn", num_classes=4, width=0.125)
    assert found.params == sum(parameter.numel() for parameter in model.parameters())


def test_a_classifier_is_measured_with_its_classes() -> None:
    config = PretrainConfig(
        backbone="shufflenetv2_20", width=0.25, image_size=64, epochs=2.5, batch_size=8
    )
    found = measure_steps(config, CPU, images=2, steps=1)
    assert found.image_size == (64, 64)
    check_arithmetic(found, images=2, shown=2.5 * 1_281_167)
    cost = backbone_cost("shufflenetv2_20", width=0.25, image_size=(64, 64))
    assert (found.macs, found.params) == cost.classifier
    assert found.counted == "with the classifier"


def test_an_epoch_is_cocos_or_imagenets() -> None:
    paper = TrainConfig.make("detnet59_faster_rcnn_fpn_2x", {})
    assert shown_images(paper) == 180_000 * 16
    assert shown_images(TrainConfig.make(None, {"epochs": 12})) == 12 * 118_287
    assert shown_images(PretrainConfig(iterations=300_000, batch_size=1024)) == 300_000 * 1024


@pytest.mark.parametrize(
    ("min_sizes", "max_size", "expected"),
    [
        ([800], 1333, (800, 1067)),
        ([800, 640, 672], 1333, (672, 896)),
        ([800], 1000, (800, 1000)),
    ],
)
def test_an_image_is_a_landscape_of_the_middle_size(
    min_sizes: list[int], max_size: int, expected: tuple[int, int]
) -> None:
    config = TrainConfig.make(None, {"min_sizes": min_sizes, "max_size": max_size})
    assert _image_size(config) == expected


@pytest.mark.parametrize(
    ("detector", "keys"),
    [
        ("faster_rcnn_fpn", set()),
        ("mask_rcnn_fpn", {"masks"}),
        ("keypoint_rcnn_fpn", {"keypoints"}),
    ],
)
def test_made_up_objects_are_as_many_as_cocos_and_within_their_image(
    detector: str, keys: set[str]
) -> None:
    images, targets = scenes(TrainConfig.make(None, {"detector": detector}), (96, 128), 3)
    assert len(images) == len(targets) == 3
    for image, target in zip(images, targets, strict=True):
        assert image.shape == (3, 96, 128) and image.dtype == torch.uint8
        boxes, labels = target["boxes"], target["labels"]
        assert boxes.shape == (7, 4) and labels.shape == (7,)
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
        assert (boxes <= torch.tensor([128, 96, 128, 96])).all()
        assert labels.min() >= 1 and labels.max() <= 80
        assert {"masks", "keypoints"} & target.keys() == keys
        if "masks" in keys:
            assert target["masks"].shape == (7, 96, 128)
        if "keypoints" in keys:
            points = target["keypoints"]
            assert points.shape == (7, 17, 3) and (points[..., 2] == 2).all()
            assert (points[..., :2] >= boxes[:, None, :2]).all()
            assert (points[..., :2] <= boxes[:, None, 2:]).all()
    assert torch.stack([target["boxes"][:, 2] for target in targets]).max() > 96  # not swapped


class Slow(nn.Module):
    """Its first step takes long, as one does that chooses kernels; counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.steps = 0

    def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        self.steps += 1
        if self.steps == 1:
            time.sleep(1.0)
        return {"loss": self.layer(torch.ones(1, 1)).sum()}


def test_the_first_step_only_warms_up(tiny: TrainConfig) -> None:
    model = Slow()
    before = [parameter.clone() for parameter in model.parameters()]
    seconds = _time_steps(model, ([torch.zeros(3, 4, 6)], [{}]), tiny, CPU, 3)
    assert model.steps == 3
    assert 0 < seconds < 0.9
    after = list(model.parameters())
    assert any((a != b).any() for a, b in zip(before, after, strict=True))  # the step is a real one


def test_peak_memory_is_in_bytes() -> None:
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("the system does not tell what a process has taken at most")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    assert _peak(CPU) == pytest.approx(1024 * int(line.split()[1]), rel=0.1)
