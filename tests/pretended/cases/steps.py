"""Every detector on the device: trains as on the processor, evaluates, predicts; who waits."""

import copy
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnet.data.folders import find_split
from detnet.data.images import read_image
from detnet.data.reading import load_annotations
from detnet.detectors import DETECTORS, create
from detnet.detectors.base import Detector
from detnet.engine.distributed import Process
from detnet.engine.loop import to_device
from detnet.inference.predictor import Predictor
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.network import build_classifier
from detnet.training.detection.evaluate import evaluate_model
from detnet.training.estimate import pictures
from tests.contracts import scene
from tests.pretended.device import register
from tests.pretended.waits import counted, waiting_for_nothing

PLACE = register()
FAMILIES = ("resnet50", "detnet59", "detnasnet_300m")
COUNTED = "detnet59"
SMALL = {"num_classes": 4, "width": 0.125, "min_size": 96, "max_size": 160}
TWO_STAGE = {"pre_nms_train": 200, "post_nms_train": 50, "pre_nms_test": 60, "post_nms_test": 20}

# How often the host waits for the device in a step on two images, after the first step: in our
# code, and in torchvision's that we call.
WAITS = {
    "cascade_rcnn_fpn": (3, 44),
    "faster_rcnn": (1, 23),
    "faster_rcnn_fpn": (1, 27),
    "fcos": (0, 23),
    "keypoint_rcnn_fpn": (3, 32),
    "mask_rcnn_fpn": (3, 31),
    "retinanet": (0, 19),
    "rfcn": (1, 17),
    "ssd": (0, 10),
    "yolo": (2, 0),
}


def pairs(*usual: tuple[str, str]) -> list[Any]:
    """All detectors on one backbone of each family, slow but for the usual pairs."""
    return [
        pytest.param(*pair, marks=[] if pair in usual else [pytest.mark.slow])
        for pair in itertools.product(DETECTORS, FAMILIES)
    ]


def made(detector: str, backbone: str = "detnet59", **options: Any) -> Detector:
    """With residual branches that say little, as trained ones at first: drawn ones make a gradient
    of a rounding, of which regions have some, since another kernel pools them there.
    """
    torch.manual_seed(0)
    model = create(detector, backbone=backbone, **SMALL, **options)
    for name, layer in model.named_modules():
        if name.endswith("bn3"):
            nn.init.constant_(layer.get_parameter("weight"), 0.1)
    return model


def batch(model: Detector) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    torch.manual_seed(1)
    return scene(masks="masks" in model.targets, keypoints="keypoints" in model.targets)


def step(model: nn.Module, images: Any, targets: Any) -> dict[str, Tensor]:
    """Losses of a training step without its end: the samplers draw alike on all devices."""
    torch.manual_seed(2)
    losses = model.train()(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    return losses


@pytest.mark.parametrize(
    ("detector", "backbone"),
    pairs(("faster_rcnn_fpn", COUNTED), ("retinanet", COUNTED), ("yolo", "detnasnet_300m")),
)
def test_a_step_is_the_processors(detector: str, backbone: str) -> None:
    """Losses, gradients, and how often the host waits once all is where it belongs."""
    model = made(detector, backbone)
    images, targets = batch(model)
    here = copy.deepcopy(model).to(PLACE)
    given = to_device((images, targets), PLACE)
    expected, found = step(model, images, targets), step(here, *given)
    # Regions are pooled by another kernel there; all else is the same to the bit.
    assert {name: loss.item() for name, loss in found.items()} == pytest.approx(
        {name: loss.item() for name, loss in expected.items()}, rel=1e-5
    )
    gradients = dict(here.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            grad = gradients[name].grad
            assert grad is not None and grad.device == PLACE
            torch.testing.assert_close(grad.cpu(), parameter.grad, rtol=1e-3, atol=1e-3, msg=name)
    with counted() as waits:
        step(here, *given)
    if backbone == COUNTED:  # others propose regions in other numbers
        assert told(waits) == WAITS[detector], listed(waits)


@pytest.mark.parametrize(("backbone", "mixup"), [("detnet59", 0.0), ("detnasnet_300m", 0.2)])
def test_a_classifiers_step_waits_for_nothing(backbone: str, mixup: float) -> None:
    """Colours changed as drawn; losses and gradients are the processor's."""
    config = PretrainConfig(backbone=backbone, width=0.125, image_size=64)
    torch.manual_seed(0)
    model = build_classifier(config, ("box", "ball", "bar"))
    images, targets = pictures(config, 4)
    for number, target in enumerate(targets):
        target |= {"label": number % 3, "color": (0.8, 1.2, 1.1, number), "share": 1 - mixup}
        target["light"] = (0.01, -0.02, 0.03)
    here = copy.deepcopy(model).to(PLACE)
    given = to_device((images, targets), PLACE)
    with waiting_for_nothing(PLACE):
        found = step(here, *given)
    expected = step(model, images, targets)
    assert found["loss_classifier"].item() == pytest.approx(expected["loss_classifier"].item())
    for one, other in zip(here.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad.cpu(), other.grad, rtol=1e-3, atol=1e-4)


def told(waits: Counter[tuple[str, str, str]]) -> tuple[int, int]:
    """In our code, and in all other."""
    ours = sum(times for (owner, *_), times in waits.items() if owner == "detnet")
    return ours, waits.total() - ours


def listed(waits: Counter[tuple[str, str, str]]) -> str:
    lines = (f"{times} {' '.join(place)}" for place, times in sorted(waits.items()))
    return "\n".join(["where the host waits:", *lines])


@pytest.mark.parametrize(("detector", "backbone"), pairs(("retinanet", "resnet50")))
def test_predicts_and_evaluates(detector: str, backbone: str, scenes: Path) -> None:
    two_stage = TWO_STAGE if "rcnn" in detector or detector == "rfcn" else {}
    model = made(detector, backbone, **two_stage).eval()
    annotations, _ = load_annotations(find_split(scenes, "val"))
    # Of the network's size: a processor scales bytes in whole numbers, a device does not.
    image = read_image(annotations.image_path(0))[:, :96, :128]
    expected = Predictor(copy.deepcopy(model), score_threshold=0.05).predict(image)
    predictor = Predictor(model, score_threshold=0.05, device=PLACE)
    found = predictor.predict(image)
    assert found.boxes.device.type == "cpu" and len(found.boxes) == len(expected.boxes)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-3)
    process = Process(0, 1, PLACE)
    measured = evaluate_model(model, annotations, process=process, autocast=None, workers=0)
    assert {record["image_id"] for record in measured.results} <= {*annotations.image_ids}
    assert measured.bbox.headline["AP"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("detector", DETECTORS)
def test_half_precision_is_near(detector: str, dtype: torch.dtype) -> None:
    model = made(detector).to(PLACE)
    given = to_device(batch(model), PLACE)
    expected = {name: loss.item() for name, loss in step(model, *given).items()}
    with torch.autocast(PLACE.type, dtype):
        found = step(model, *given)
    assert all(loss.dtype == torch.float32 for loss in found.values())
    total = sum(loss.item() for loss in found.values())
    assert total == pytest.approx(sum(expected.values()), rel=0.1)
