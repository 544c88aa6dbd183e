import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from detnet.backbones import build_backbone
from detnet.backbones.base import FeatureInfo
from detnet.detectors.proposals import ProposalOptions
from detnet.detectors.roi import level_pooler
from detnet.detectors.single_level import (
    SingleLevelNet,
    SingleLevelProposals,
    choose_level,
    hold_stride,
)
from detnet.errors import InputError

NARROW = {"width": 0.125}


@pytest.mark.parametrize(
    ("backbone", "level", "dilate", "expected"),
    [
        ("detnet59", "auto", False, "c6"),  # C4, C5 and C6 are all at 16: the last
        ("detnet59", "auto", True, "c6"),
        ("detnet59", "c5", False, "c5"),
        ("resnet50", "auto", False, "c4"),
        ("resnet50", "auto", True, "c5"),
        ("resnet50", "c4", True, "c4"),
        ("resnet50_dilated", "auto", False, "c5"),
        ("shufflenetv2_20", "auto", False, "c4"),
        ("shufflenetv2_20", "auto", True, "c5"),
    ],
)
def test_the_level_of_each_backbone(backbone: str, level: str, dilate: bool, expected: str) -> None:
    body = build_backbone(backbone, **NARROW)
    info = choose_level(body, level, dilate=dilate)
    assert (info.name, info.stride) == (expected, 16)
    found = body.eval()(torch.rand(1, 3, 64, 96))[expected]
    assert found.shape == (1, info.channels, 4, 6)


@pytest.mark.parametrize(
    ("level", "dilate", "message"),
    [
        ("c5", False, "one level, c5, at stride 16 .dilate=True.*c4 at 16, c5 at 32"),
        ("c3", True, "one level, c3, at stride 16; the backbone has c2 at 4, c3 at 8"),
        ("c7", True, "c7"),
    ],
)
def test_a_level_that_is_not_there_is_one_line(level: str, dilate: bool, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        choose_level(build_backbone("resnet50", **NARROW), level, dilate=dilate)
    assert "\n" not in str(caught.value)


def test_a_held_resnet_is_the_dilated_one() -> None:
    torch.manual_seed(0)
    held = build_backbone("resnet50", **NARROW).eval()
    dilated = build_backbone("resnet50_dilated", **NARROW).eval()
    dilated.load_state_dict(held.state_dict())
    assert hold_stride(held, "c5").stride == 16
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found, expected = held(images), dilated(images)
    assert [info.stride for info in held.feature_info] == [4, 8, 16, 16]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_stages_that_no_one_looks_at_are_taken_off() -> None:
    body = SingleLevelNet(build_backbone("resnet50", **NARROW), ["c3", "c4"])
    assert list(body.backbone.parts()) == ["stem", "c2", "c3", "c4"]
    assert [info.name for info in body.backbone.feature_info] == ["c2", "c3", "c4"]
    assert [info.name for info in body.feature_info] == ["c3", "c4"]
    features = body(torch.rand(1, 3, 64, 96))
    assert {name: tuple(f.shape[1:]) for name, f in features.items()} == {
        "c3": (64, 8, 12),
        "c4": (128, 4, 6),
    }
    frozen = build_backbone("resnet50", **NARROW)
    frozen.freeze(["stem", "c5"])
    with pytest.raises(InputError, match="cannot freeze c5: this detector's backbone ends at c4"):
        SingleLevelNet(frozen, ["c4"])


def test_all_sizes_of_anchors_sit_in_each_cell() -> None:
    info = FeatureInfo("c6", 8, 16)
    net = SingleLevelProposals(info, ProposalOptions(post_nms_test=20)).eval()
    others = torch.rand(1, 4, 12, 20)
    features = {"c3": others, "c6": torch.rand(1, 8, 6, 10)}
    images = ImageList(torch.rand(1, 3, 96, 160), [(96, 160)])
    (anchors,) = net.anchor_generator(images, [features["c6"]])
    cells = anchors.view(6, 10, 15, 4)
    sizes = (cells[2, 3, :, 2:] - cells[2, 3, :, :2]).prod(1).sqrt()
    assert sizes.tolist() == pytest.approx([32, 64, 128, 256, 512] * 3, rel=0.03)
    centres = (cells[..., :2] + cells[..., 2:]) / 2
    assert (centres[2, 3] == torch.tensor([48.0, 32.0])).all()
    boxes, _ = net(images, features)
    assert 0 < len(boxes[0]) <= 20
    with pytest.raises(InputError, match="anchor_sizes must be one or more sides"):
        ProposalOptions(anchor_sizes=())


def test_regions_of_every_size_are_pooled_from_the_level_at_its_stride() -> None:
    """On a map that tells each cell's column, a bin's average is its middle over 16."""
    pooler = level_pooler((FeatureInfo("c6", 1, 16),), output_size=1)
    columns = torch.arange(20.0).expand(1, 1, 12, 20)
    boxes = torch.tensor([[32.0, 32, 96, 64], [16, 16, 304, 176], [100, 50, 104, 54]])
    pooled = pooler({"c6": columns}, [boxes], [(192, 320)])
    assert pooled.flatten().tolist() == pytest.approx([64 / 16, 160 / 16, 102 / 16 + 0.375])
