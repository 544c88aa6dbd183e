"""The cost of detectors, counted without computing, against a network that runs."""

import pytest
import torch

from detnet.backbones.cost import count_macs, count_params
from detnet.detectors import create
from detnet.detectors.cost import detector_cost

SMALL = {"width": 0.125, "min_size": 96, "max_size": 128}


@pytest.mark.parametrize("name", ["faster_rcnn_fpn", "mask_rcnn_fpn", "retinanet", "fcos", "ssd"])
def test_equals_what_a_real_network_does(name: str) -> None:
    """On 96×128 pixels; regions are fewer than the default there, so heads are counted apart."""
    counted = detector_cost(name, backbone="detnet59", num_classes=4, image_size=(90, 121), **SMALL)
    assert counted.padded_size == (96, 128)
    model = create(name, backbone="detnet59", num_classes=4, **SMALL).eval()
    assert counted.cost.params == count_params(model)
    images = torch.rand(1, 3, 96, 128)
    features = model.backbone(images)
    dense = model.rpn.head if hasattr(model, "rpn") else model.head
    macs = count_macs(lambda: dense(list(model.backbone(images).values())))
    if hasattr(model, "rpn"):
        assert counted.regions == 1000
        channels, heads = next(iter(features.values())).shape[1], model.roi_heads
        pooled = torch.zeros(2, channels, 7, 7)
        macs += 500 * count_macs(lambda: heads.box_predictor(heads.box_head(pooled)))
        if heads.has_mask():
            pooled = torch.zeros(2, channels, 14, 14)
            macs += 50 * count_macs(lambda: heads.mask_predictor(heads.mask_head(pooled)))
    assert counted.cost.macs == macs


@pytest.mark.parametrize(
    ("name", "backbone", "levels", "strides"),
    [
        ("faster_rcnn_fpn", "resnet50", "c2 c3 c4 c5", [4, 8, 16, 32, 64]),
        ("fcos", "detnet59", "c3 c4 c5 c6", [8, 16, 16, 16, 32]),
        ("faster_rcnn", "detnet59", "c6", [16]),
        ("rfcn", "resnet50", "c4 c5", [16, 16]),
        ("yolo", "detnet59", "c3 c6", [16]),
        ("cascade_rcnn_fpn", "detnet59", "c2 c3 c4 c5 c6", [4, 8, 16, 16, 16]),
    ],
)
def test_levels(name: str, backbone: str, levels: str, strides: list[int]) -> None:
    found = detector_cost(name, backbone=backbone, image_size=(96, 128), width=0.125)
    assert found.levels == tuple(levels.split())
    assert [level.stride for level in found.head_levels] == strides


def test_published_parameters() -> None:
    """torchvision's FCOS with 91 outputs: 32,269,600, and its frozen batch norms' 53,120 that are
    no parameters there."""
    found = detector_cost("fcos", backbone="resnet50", num_classes=92, image_size=(96, 128))
    assert found.cost.params == 32_269_600 + 53_120
