import pytest
import torch

from detnet.backbones import BACKBONES
from detnet.backbones.base import FeatureInfo
from detnet.detectors.fpn import PyramidNet
from detnet.errors import InputError


@pytest.mark.parametrize(
    ("backbone", "finest", "coarsest", "levels"),
    [
        ("resnet50", 2, 6, {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}),
        ("detnet59", 2, 6, {"p2": 4, "p3": 8, "p4": 16, "p5": 16, "p6": 16}),
        ("resnet50_dilated", 2, 6, {"p2": 4, "p3": 8, "p4": 16, "p5": 16, "p6": 32}),
        ("detnet59", 3, 6, {"p3": 8, "p4": 16, "p5": 16, "p6": 16}),
    ],
)
def test_levels(backbone: str, finest: int, coarsest: int, levels: dict[str, int]) -> None:
    net = PyramidNet(BACKBONES[backbone](width=0.125), finest=finest, coarsest=coarsest)
    assert {info.name: info.stride for info in net.feature_info} == levels
    pyramid = net(torch.rand(1, 3, 128, 192))
    for name, stride in levels.items():
        assert pyramid[name].shape == (1, net.out_channels, 128 // stride, 192 // stride)
    assert net.out_channels == 32  # 256 × width


def test_levels_below_the_finest_are_not_used() -> None:
    net = PyramidNet(BACKBONES["detnet59"](width=0.125), finest=3, coarsest=6)
    assert net.neck.in_names == ("c3", "c4", "c5", "c6")


@pytest.mark.parametrize("levels", [(3, 4), (2, 4), (2, 2), (2, 3, 4, 5, 6, 7)])
def test_levels_that_do_not_fit_are_refused(levels: tuple[int, ...]) -> None:
    backbone = BACKBONES["resnet50"](width=0.125)
    backbone.feature_info = tuple(FeatureInfo(f"x{n}", 8, 16, level=n) for n in levels)
    message = "takes the levels from number 2 on, none left out and none after 6; the backbone has "
    found = ", ".join(f"x{n} .{n}." for n in levels)
    with pytest.raises(InputError, match=message + found):
        PyramidNet(backbone, finest=2, coarsest=6)
