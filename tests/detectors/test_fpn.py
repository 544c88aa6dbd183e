import pytest
import torch

from detnet.backbones import BACKBONES
from detnet.backbones.base import FeatureInfo
from detnet.detectors.fpn import FPN, NECKS, Extra, PyramidNet
from detnet.errors import InputError

RESNET = [FeatureInfo(f"c{i}", 8 * i, 2**i) for i in (2, 3, 4, 5)]
DETNET = [FeatureInfo(f"c{i}", 8 * i, min(2**i, 16), level=i) for i in (2, 3, 4, 5, 6)]


def features_of(info: list[FeatureInfo], size: tuple[int, int] = (64, 96)) -> dict:
    return {
        i.name: torch.rand(2, i.channels, size[0] // i.stride, size[1] // i.stride) for i in info
    }


def as_identity(neck: FPN) -> None:
    """Makes every lateral sum its input's channels and every output copy its input."""
    for layer in neck.lateral.values():
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    for layer in neck.output.values():
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)


def test_detnet_levels_are_plain_sums() -> None:
    neck = FPN(DETNET, out_channels=4)
    assert [(i.name, i.stride) for i in neck.feature_info] == [
        ("p2", 4), ("p3", 8), ("p4", 16), ("p5", 16), ("p6", 16),
    ]  # fmt: skip
    as_identity(neck)
    features = features_of(DETNET)
    pyramid = neck(features)
    sums = {name: feature.sum(1) for name, feature in features.items()}
    torch.testing.assert_close(pyramid["p6"][:, 0], sums["c6"])
    torch.testing.assert_close(pyramid["p5"][:, 1], sums["c5"] + sums["c6"])
    torch.testing.assert_close(pyramid["p4"][:, 2], sums["c4"] + sums["c5"] + sums["c6"])
    up = pyramid["p4"][:, 0].repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(pyramid["p3"][:, 3], sums["c3"] + up)
    assert not neck.extra_convs


def test_resnet_pools_p6() -> None:
    neck = FPN(RESNET, out_channels=4)
    pyramid = neck(features_of(RESNET, (128, 192)))
    assert list(pyramid) == ["p2", "p3", "p4", "p5", "p6"]
    assert torch.equal(pyramid["p6"], pyramid["p5"][:, :, ::2, ::2])
    assert neck.feature_info[-1].stride == 64


@pytest.mark.parametrize(
    ("info", "made"), [(RESNET[1:], {"p6": 40, "p7": 8}), (DETNET[1:], {"p7": 48})]
)
def test_convolved_levels(info: list[FeatureInfo], made: dict[str, int]) -> None:
    neck = FPN(info, out_channels=8, num_levels=5, extra="conv_from_c")
    assert {name: conv.in_channels for name, conv in neck.extra_convs.items()} == made
    pyramid = neck(features_of(info, (128, 256)))
    for level in neck.feature_info:
        assert pyramid[level.name].shape == (2, 8, 128 // level.stride, 256 // level.stride)


def test_convolved_level_can_begin_at_the_pyramid() -> None:
    neck = FPN(RESNET[1:], out_channels=8, num_levels=5, extra="conv_from_p")
    pyramid = neck(features_of(RESNET[1:], (128, 192)))
    torch.testing.assert_close(pyramid["p6"], neck.extra_convs["p6"](pyramid["p5"]))


@pytest.mark.parametrize("extra", ["conv_from_c", "conv_from_p"])
def test_of_two_convolved_levels_the_second_is_made_of_the_first_rectified(extra: Extra) -> None:
    neck = FPN(RESNET[1:], out_channels=8, num_levels=5, extra=extra)
    features = features_of(RESNET[1:], (128, 192))
    pyramid = neck(features)
    source = features["c5"] if extra == "conv_from_c" else pyramid["p5"]
    torch.testing.assert_close(pyramid["p6"], neck.extra_convs["p6"](source))
    assert (pyramid["p6"] < 0).any()
    torch.testing.assert_close(pyramid["p7"], neck.extra_convs["p7"](pyramid["p6"].relu()))


def test_weights_are_drawn_by_xaviers_rule_of_the_inputs() -> None:
    """Caffe's filler: evenly from -√(3 / n) to √(3 / n), n being the numbers that are summed."""
    torch.manual_seed(0)
    neck = FPN(DETNET, out_channels=32)
    for layer, summed in ((neck.lateral["p4"], 32), (neck.output["p4"], 32 * 9)):
        limit = (3 / summed) ** 0.5
        assert 0.98 * limit < layer.weight.abs().max() <= limit
        assert layer.weight.abs().mean().item() == pytest.approx(limit / 2, rel=0.1)
        assert not layer.bias.any()


def test_odd_sizes_meet() -> None:
    info = RESNET[:2]
    neck = FPN(info, out_channels=4, num_levels=2)
    features = {"c2": torch.rand(1, 16, 25, 19), "c3": torch.rand(1, 24, 13, 10)}
    assert neck(features)["p2"].shape == (1, 4, 25, 19)


def test_norm_replaces_bias() -> None:
    neck = FPN(DETNET, out_channels=8, norm="sync")
    assert not any(name.endswith("0.bias") for name, _ in neck.named_parameters())
    assert neck(features_of(DETNET))["p2"].shape == (2, 8, 16, 24)


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(InputError, match="5 levels.*room for 4"):
        FPN(DETNET, num_levels=4)


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


def test_a_neck_that_forgets_a_level_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(FPN):
        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            pyramid = super().forward(features)
            del pyramid["p4"]
            return pyramid

    monkeypatch.setitem(NECKS._homes, "forgetful", Forgetful)
    net = PyramidNet(BACKBONES["detnet59"](width=0.125), finest=3, neck="forgetful")
    told = "^neck 'forgetful' gives the levels p3, p5, p6, its feature_info has p3, p4, p5, p6$"
    with pytest.raises(InputError, match=told):
        net(torch.rand(1, 3, 64, 96))


def test_levels_below_the_finest_are_not_used() -> None:
    net = PyramidNet(BACKBONES["detnet59"](width=0.125), finest=3, coarsest=6)
    assert net.neck.in_names == ("c3", "c4", "c5", "c6")


@pytest.mark.parametrize("levels", [(3, 4), (2, 4), (2, 2)])
def test_levels_that_do_not_fit_are_refused(levels: tuple[int, ...]) -> None:
    backbone = BACKBONES["resnet50"](width=0.125)
    backbone.feature_info = tuple(FeatureInfo(f"x{n}", 8, 16, level=n) for n in levels)
    message = "takes the levels from number 2 on, none left out; the backbone has "
    found = ", ".join(f"x{n} .{n}." for n in levels)
    remedy = r"; where strides are equal say the number, FeatureInfo\(…, level=5\)"
    end = remedy if len({*levels}) < len(levels) else ""
    with pytest.raises(InputError, match=f"{message}{found}{end}$"):
        PyramidNet(backbone, finest=2, coarsest=6)
