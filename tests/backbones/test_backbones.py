"""Every backbone of `BACKBONES` through the contract, and the published costs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from detnet.backbones import BACKBONES, build_backbone
from detnet.backbones.base import Backbone, Classifier, FeatureInfo
from detnet.backbones.cost import backbone_cost, check_levels
from detnet.backbones.weights.torchvision import from_torchvision
from detnet.errors import InputError
from tests.contracts import check_backbone

# Multiply-adds at 224×224 and parameters, classifier included (facts: the papers' 3.8 … 6.1 G).
COSTS = {
    "resnet50": (3_857_973_248, 25.557),
    "resnet101": (7_570_194_432, 44.549),
    "resnet50_dilated": (6_054_477_824, 25.557),
    "detnet59": (4_846_018_560, 18.373),
    "detnet59_noproj": (4_640_497_664, 17.322),
    "detnet110": (8_558_239_744, 37.365),
    "detnet53_s8": (3_686_240_256, 5.285),
    "detnasnet_300m": (321_219_008, 3.533),
    "detnasnet_300m_retinanet": (324_342_464, 3.725),
    "detnasnet_voc_300m": (349_524_544, 3.651),
    "detnasnet_voc_300m_retinanet": (360_625_984, 3.479),
    "detnasnet_1_3g": (1_318_374_496, 10.426),
    "detnasnet_3_8g": (4_025_560_992, 29.522),
    "shufflenetv2_20": (295_842_496, 3.157),
    "shufflenetv2_40": (1_085_874_592, 8.256),
    "shufflenetv2_40_widened": (3_353_180_640, 22.812),
}
FIELDS = {  # strides and theoretical receptive fields, pixels
    "resnet50": ((4, 8, 16, 32), (35, 99, 291, 483)),
    "resnet50_dilated": ((4, 8, 16, 16), (35, 99, 291, 483)),
    "detnet59": ((4, 8, 16, 16, 16), (35, 99, 291, 483, 675)),
    "detnet59_noproj": ((4, 8, 16, 16, 16), (35, 99, 291, 483, 675)),
    "detnet53_s8": ((4, 8, 8, 8, 16), (35, 83, 211, 275, 371)),
}


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
@pytest.mark.parametrize("name", BACKBONES)
def test_contract(name: str, stride_in: str) -> None:
    check_backbone(lambda: BACKBONES[name](width=0.125, stride_in=stride_in))


@pytest.mark.parametrize("name", BACKBONES)
def test_published_cost(name: str) -> None:
    macs, millions = COSTS[name]
    found = backbone_cost(name)
    assert found.classifier.macs == macs
    assert round(found.classifier.params / 1e6, 3) == millions


@pytest.mark.parametrize("name", FIELDS)
def test_strides_and_fields(name: str) -> None:
    levels = backbone_cost(name).levels
    strides, fields = FIELDS[name]
    assert tuple(level.stride for level in levels) == strides
    assert tuple(level.receptive_field for level in levels) == fields


def test_receptive_field_is_what_a_gradient_reaches() -> None:
    """The announced field of c4 equals the extent of the input that one cell depends on."""
    for stride_in in ("1x1", "3x3"):
        net = BACKBONES["detnet59"](width=0.125, stride_in=stride_in).double().eval()
        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
        net.stem.pool = torch.nn.AvgPool2d(3, 2, 1)  # max pooling hides all but one input
        images = torch.ones(1, 3, 480, 448, dtype=torch.float64, requires_grad=True)
        c4 = net(images)["c4"]
        c4[0, 0, 15, 14].backward()
        reached = images.grad.abs().sum((0, 1)) > 0
        rows = reached.any(1).nonzero()
        announced = net.feature_info[2].receptive_field
        # With the stride in a 1×1 some of the input is skipped, at most a stride at either side.
        assert announced - 16 <= int(rows.max() - rows.min()) + 1 <= announced, stride_in


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
@pytest.mark.parametrize("name", FIELDS)
def test_every_stage_reaches_as_far_as_announced(name: str, stride_in: str) -> None:
    """What a stage's 3×3s see of its input, dilation and all, measured stage by stage."""
    net = BACKBONES[name](width=0.125, stride_in=stride_in).double().eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    strides, fields = FIELDS[name]
    assert tuple(info.receptive_field for info in net.feature_info)[0] == fields[0]
    for at in range(1, len(fields)):
        stage = net.stages[f"c{at + 2}"]
        cells = (fields[at] - fields[at - 1]) // strides[at - 1] + 1
        if stride_in == "3x3" and strides[at] > strides[at - 1]:
            cells -= 2  # the first block's 3×3 works before the stride
        channels = net.feature_info[at - 1].channels
        inputs = torch.ones(1, channels, 44, 60, dtype=torch.float64, requires_grad=True)
        out = stage(inputs)
        out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
        reached = inputs.grad.abs().sum((0, 1)) > 0
        for axis in (0, 1):
            places = reached.any(axis).nonzero()
            assert int(places.max() - places.min()) + 1 == cells, f"c{at + 2}"


def test_convolutions_are_drawn_by_hes_rule_of_the_outputs() -> None:
    """A standard deviation of √(2 / n), n being the outputs that a number takes part in."""
    torch.manual_seed(0)
    net = BACKBONES["detnet59"](width=0.5)
    for name, taken in (
        ("stem.conv", 32 * 49),
        ("stages.c4.0.conv1", 128),
        ("stages.c6.2.conv2", 128 * 9),
    ):
        weight = net.get_submodule(name).weight
        assert weight.std().item() == pytest.approx((2 / taken) ** 0.5, rel=0.05), name
        assert abs(weight.mean().item()) < 0.05 * weight.std().item(), name


def test_width_scales_everything_to_multiples_of_eight() -> None:
    net = BACKBONES["detnet59"](width=0.3)
    assert [info.channels for info in net.feature_info] == [80, 152, 304, 304, 304]
    convs = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert all(conv.out_channels % 8 == 0 for conv in convs)
    assert backbone_cost("detnet59", width=0.5).classifier.macs < 0.27 * COSTS["detnet59"][0]


def test_noproj_differs_from_detnet_in_stage_6_only() -> None:
    full, without = (set(BACKBONES[n]().state_dict()) for n in ("detnet59", "detnet59_noproj"))
    assert without < full
    assert {name.split(".downsample")[0] for name in full - without} == {"stages.c6.0"}


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_torchvision_weights_give_torchvision_logits(name: str) -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.get_model(name, weights=None).eval()
    backbone = BACKBONES[name](stride_in="3x3")
    ours = Classifier(backbone).eval()
    state = from_torchvision(theirs.state_dict())
    ours.fc.load_state_dict({k[3:]: state.pop(k) for k in ("fc.weight", "fc.bias")})
    backbone.load_state_dict(state)
    images = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_dilated_takes_plain_resnet_weights() -> None:
    BACKBONES["resnet50_dilated"](width=0.25).load_state_dict(
        BACKBONES["resnet50"](width=0.25).state_dict()
    )


@pytest.mark.parametrize("kind", ["frozen", "batch", "sync"])
def test_norm_is_a_choice(kind: str) -> None:
    net = BACKBONES["detnet59"](width=0.125, norm=kind)
    learned = [name for name, _ in net.named_parameters() if "bn" in name]
    assert bool(learned) == (kind != "frozen")


@pytest.mark.parametrize(
    ("options", "seen"),
    [({"width": 0}, "0"), ({"stride_in": "5x5"}, "5x5"), ({"norm": "group"}, "group")],
)
def test_bad_options_name_the_value(options: dict, seen: str) -> None:
    with pytest.raises(ValueError, match=seen):
        BACKBONES["detnet59"](**options)


@pytest.mark.parametrize("name", ["detnet59", "resnet50", "shufflenetv2_20"])
def test_an_unknown_option_tells_the_nearest(name: str) -> None:
    with pytest.raises(InputError, match="^unknown option 'widht'; did you mean 'width'"):
        BACKBONES[name](widht=1)


@pytest.mark.parametrize("build", [build_backbone, backbone_cost, check_levels])
def test_a_network_is_no_name(build: Callable[..., object]) -> None:
    with pytest.raises(InputError, match="^a backbone is asked for by its name, got a StagedNet"):
        build(BACKBONES["detnet59"](width=0.125))


def test_one_part_is_frozen_by_its_name_alone() -> None:
    backbone = BACKBONES["detnet59"](width=0.125)
    backbone.freeze("stem")
    backbone.freeze(name for name in ("c2", "c3"))
    assert backbone.frozen == ("stem", "c2", "c3")


def test_bad_names() -> None:
    with pytest.raises(InputError, match="did you mean 'detnet59'"):
        BACKBONES["detnet-59"]
    with pytest.raises(InputError, match="c7.*stem, c2"):
        BACKBONES["detnet59"](width=0.125).freeze(("c7",))
    with pytest.raises(InputError, match="smaller than detnet59's coarsest stride 16"):
        backbone_cost("detnet59", image_size=(8, 224))


class _Own(Backbone):
    """A backbone as someone writes it who is new to this, of three levels at strides 4, 8, 16."""

    def __init__(self, info: tuple[FeatureInfo, ...], **options: object) -> None:
        super().__init__()
        steps = ((3, 4), (8, 2), (8, 2))
        self.layers = nn.ModuleList(nn.Conv2d(before, 8, 3, s, 1) for before, s in steps)
        self.feature_info = info

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {
            name: (images := layer(images)) for name, layer in zip("abc", self.layers, strict=True)
        }


class _Asking(_Own):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return super().forward(images * images.mean().item())


A, B, C = FeatureInfo("a", 8, 4), FeatureInfo("b", 8, 8), FeatureInfo("c", 8, 16)


@pytest.fixture
def own() -> Iterator[Callable[..., str]]:
    """Registers what builds a backbone, for one test."""

    def register(builder: Callable[..., object]) -> str:
        BACKBONES.register("own", builder)
        return "own"

    yield register
    BACKBONES._homes.pop("own")


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ((A, B, FeatureInfo("c", 9, 16)), "level c is 8 channels of 8×16 cells, by .* 9 channels"),
        (
            (A, B, FeatureInfo("c", 8, 32)),
            "of 128×256 its level c .* by its feature_info .* 4×8 ce",
        ),
        ((A, B), "gives the levels a, b, c, its feature_info has a, b"),
        ((FeatureInfo("x", 8, 4), B, C), "gives the levels a, b, c, its feature_info has x, b, c"),
    ],
)
def test_levels_that_are_not_as_they_are_said_to_be(
    own: Callable[..., str], info: tuple[FeatureInfo, ...], said: str
) -> None:
    """A wrong stride would put all anchors in the wrong places, without a word."""
    name = own(lambda **options: _Own(info, **options))
    with pytest.raises(InputError, match=f"^backbone 'own'.* {said}"):
        check_levels(name)


def test_levels_that_are_as_they_are_said_to_be(own: Callable[..., str]) -> None:
    check_levels(own(lambda **options: _Own((A, B, C), **options)))
    check_levels("detnet59", width=0.125)
    check_levels("searched", options={"space": "detnas_small", "path": [0] * 20})


class _Listing(_Own):
    def forward(self, images: Tensor) -> Any:
        return [*super().forward(images).values()]


class _Sizes(_Own):
    def forward(self, images: Tensor) -> Any:
        return dict.fromkeys(super().forward(images), 3)


@pytest.mark.parametrize(("kind", "given"), [(_Listing, "list"), (_Sizes, "dict")])
def test_levels_are_maps_by_name(own: Callable[..., str], kind: type[_Own], given: str) -> None:
    name = own(lambda **options: kind((A, B, C), **options))
    said = f"^backbone 'own' gives a {given}, and must give a dict of its levels' maps: a, b, c$"
    with pytest.raises(InputError, match=said):
        check_levels(name)


def test_options_are_of_the_builders_kinds(own: Callable[..., str]) -> None:
    def builder(
        *, depth: int = 3, gain: float | None = None, places: Sequence[int] = (), **options: Any
    ) -> Backbone:
        assert isinstance(depth, int)
        return _Own((A, B, C))

    name = own(builder)
    build_backbone(name, depth=2, gain=1, places=[1], width=0.5)
    build_backbone(name, gain=None)
    with pytest.raises(InputError, match="^depth of own must be a whole number, got 'two'$"):
        build_backbone(name, depth="two")
    with pytest.raises(InputError, match="^gain of own must be a finite number or null, got '1'$"):
        build_backbone(name, gain="1")
    with pytest.raises(InputError, match="^unknown option of own 'dept'; did .* depth, gain, pla"):
        build_backbone(name, dept=1)


def test_options_are_listed_once(own: Callable[..., str]) -> None:
    def builder(*, width: float = 1.0, stride_in: str = "1x1", norm: str = "batch") -> Backbone:
        return _Own((A, B, C))

    with pytest.raises(InputError, match="from: width, stride_in, norm$"):
        build_backbone(own(builder), depth=1)


def test_what_needs_values_is_let_through(own: Callable[..., str]) -> None:
    check_levels(own(lambda **options: _Asking((A, B), **options)))


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        (lambda: _Own((A, B, C)), "its builder must take width, stride_in, norm as keywords, or"),
        (lambda **options: nn.Conv2d(3, 8, 3), "Conv2d must be a `Backbone` and set feature_info"),
        (lambda **options: Backbone(), "Backbone must be a `Backbone` and set feature_info"),
        (lambda **options: _Own((("a", 8, 4),)), "_Own must .* a tuple of `FeatureInfo`"),
        (lambda **options: _Own(()), "_Own must be a `Backbone` and set feature_info"),
    ],
)
def test_what_is_no_backbone_is_said_to_be_none(
    own: Callable[..., str], builder: Callable[..., object], said: str
) -> None:
    with pytest.raises(InputError, match=f"^backbone 'own': {said}"):
        build_backbone(own(builder), width=0.5)
