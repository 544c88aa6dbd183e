import pytest
from torch import nn

from detnet.detectors import create
from detnet.detectors.build import info_of


def test_info_builds_the_same_again() -> None:
    options = {"width": 0.125, "proposals": "per_level", "min_size": 64, "frozen": ("stem", "c2")}
    first = create("mask_rcnn_fpn", backbone="resnet50", num_classes=3, **options)
    info = info_of(first)
    again = create(
        info.detector, backbone=info.backbone, num_classes=info.num_classes, **info.options
    )
    assert info_of(again) == info
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (first, again)]
    assert shapes[0] == shapes[1]
    assert again.rpn.pooled is False
    assert not any(p.requires_grad for p in again.backbone.backbone.stages["c2"].parameters())


def test_other_networks_have_no_info() -> None:
    with pytest.raises(ValueError, match="Conv2d without `info`"):
        info_of(nn.Conv2d(1, 1, 1))
