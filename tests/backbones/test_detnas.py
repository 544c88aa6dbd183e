"""The published networks' costs, to the last printed digit."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.cost import backbone_cost, count_macs, count_params
from detnet.backbones.detnas import DETNASNET_1_3G, LARGE, LARGE_WIDENED, SMALL
from detnet.backbones.spaces.shuffle_space import ShuffleNet, ShuffleSpace
from detnet.backbones.spaces.space import parse_path
from detnet.cli import main

# Multiply-adds at 224×224 in millions, body and total; parameters in millions, total and body.
PUBLISHED = {
    "detnasnet_300m": ("288.1", "321.2", "3.53", "1.85"),
    "detnasnet_300m_retinanet": ("291.2", "324.3", "3.73", "2.04"),
    "detnasnet_voc_300m": ("316.4", "349.5", "3.65", "1.97"),
    "detnasnet_voc_300m_retinanet": ("327.5", "360.6", "3.48", "1.80"),
    "detnasnet_1_3g": ("1269.2", "1318.4", "10.43", "8.42"),
    "detnasnet_3_8g": ("3937.8", "4025.6", "29.52", "26.72"),
    "shufflenetv2_20": ("262.7", "295.8", "3.16", None),
    "shufflenetv2_40": ("1036.7", "1085.9", "8.26", None),
    "shufflenetv2_40_widened": ("3265.5", "3353.2", "22.81", None),  # counted here, not published
}
# Other points of the spaces that facts are known of.
POINTS = {
    "small, all 5×5": (SMALL, (1,) * 20, ("280.5", "313.7", "3.21", None)),
    "small, all 7×7": (SMALL, (2,) * 20, ("307.2", "340.4", "3.30", None)),
    "small, all Xception": (SMALL, (3,) * 20, ("325.7", "358.8", "3.87", None)),
    "large, all Xception": (LARGE, (3,) * 40, ("1391.2", "1440.4", "11.37", None)),
    "3.8G as the release's code has it": (
        dataclasses.replace(LARGE_WIDENED, tail_channels=1728),
        DETNASNET_1_3G,
        ("3937.8", "4085.9", "31.44", "26.72"),
    ),
    "mmrazor's winner": (
        SMALL,
        parse_path("1000 3032 22330213 2221"),
        ("292.8", "325.9", "3.35", None),
    ),
    "the authors' later search": (
        SMALL,
        parse_path("0001 2033 12223331 3232"),
        ("299.9", None, None, None),
    ),
}


def check_printed(found: tuple[int, int, int, int], published: tuple[str | None, ...]) -> None:
    body, total, params, body_params = (count / 1e6 for count in found)
    shown = (f"{body:.1f}", f"{total:.1f}", f"{params:.2f}", f"{body_params:.2f}")
    known = [(one, other) for one, other in zip(shown, published, strict=True) if other]
    assert [one for one, _ in known] == [other for _, other in known]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_costs(name: str) -> None:
    found = backbone_cost(name)
    total, body = found.classifier, found.body
    check_printed((body.macs, total.macs, total.params, body.params), PUBLISHED[name])
    assert [(level.name, level.stride) for level in found.levels] == [
        ("c2", 4),
        ("c3", 8),
        ("c4", 16),
        ("c5", 32),
    ]


@pytest.mark.parametrize("point", POINTS)
def test_other_points_costs(point: str) -> None:
    space, path, published = POINTS[point]
    check_printed(costs(space, path), published)


def costs(space: ShuffleSpace, path: tuple[int, ...]) -> tuple[int, int, int, int]:
    with torch.device("meta"):
        net = ShuffleNet(space, path).eval()
        classifier = Classifier(net).eval()
        images = torch.empty(1, 3, 224, 224)
    body, total = count_macs(lambda: net(images)), count_macs(lambda: classifier(images))
    return body, total, count_params(classifier), count_params(net)


def test_parts_that_the_release_counts_itself() -> None:
    with torch.device("meta"):
        net = BACKBONES["detnasnet_300m"]().eval()
        images = torch.empty(1, 3, 224, 224)
    assert count_macs(lambda: net.stem(images)) == 5_419_008
    found = backbone_cost("detnasnet_300m")
    assert found.classifier.macs - found.body.macs == 33_136_640  # 640·1024·49 + 1024·1000


def test_all_published_names_are_there() -> None:
    assert set(PUBLISHED) < set(BACKBONES)


def test_a_classifier_s_tail() -> None:
    classifier = Classifier(BACKBONES["detnasnet_300m"](width=0.25), 7)
    assert classifier(torch.rand(2, 3, 64, 96)).shape == (2, 7)
    names = [name for name, _ in classifier.named_parameters() if not name.startswith("backbone.")]
    assert names == [
        *("tail.conv.weight", "tail.conv.bias", "tail.bn.weight", "tail.bn.bias"),
        *("fc.weight", "fc.bias"),
    ]
    assert classifier.fc.in_features == 256
    residual = Classifier(BACKBONES["resnet50"](width=0.125))
    assert isinstance(residual.tail, nn.Identity)


def test_the_3_8g_net_is_the_1_3g_one_widened() -> None:
    large, wide = (BACKBONES[name](width=0.125) for name in ("detnasnet_1_3g", "detnasnet_3_8g"))
    assert large.path == wide.path
    assert list(large.state_dict()) == list(wide.state_dict())


def test_info_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "detnasnet_300m", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["backbone_macs"], facts["macs"]) == (288_082_368, 321_219_008)
    assert [f["channels"] for f in facts["features"]] == [64, 160, 320, 640]
    assert [f["receptive_field"] for f in facts["features"]] == [63, 199, 759, 1431]
