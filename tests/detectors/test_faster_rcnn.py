"""Faster R-CNN on one level; with torchvision's weights and class it is torchvision's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from detnet.backbones import build_backbone
from detnet.backbones.base import FeatureInfo
from detnet.backbones.detnet import DETNET59
from detnet.backbones.resnet import RESNET50
from detnet.backbones.stages import StagedNet
from detnet.detectors import create
from detnet.detectors.faster_rcnn import (
    SingleLevelNet,
    SingleLevelProposals,
    choose_level,
    hold_stride,
)
from detnet.detectors.files import load_model, save_model
from detnet.detectors.proposals import ProposalOptions
from detnet.detectors.roi import LevelPooler
from detnet.errors import InputError

SMALL: dict[str, Any] = {"num_classes": 5, "width": 0.125, "min_size": 96, "max_size": 128}
FEW: dict[str, Any] = {"pre_nms_train": 200, "post_nms_train": 50, "post_nms_test": 20}
SIZE = (96, 128)


class OneMap(nn.Module):
    """A body in the form that torchvision's class asks for."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.out_channels: int = body.out_channels  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        (found,) = self.body(images).values()
        return found


def pair() -> tuple[nn.Module, nn.Module]:
    """Ours, and torchvision's class around the same body with the same weights, in fp64."""
    torch.manual_seed(3)
    ours = create(
        "faster_rcnn",
        backbone="detnet59",
        **SMALL,
        score_threshold=0.0,
        proposals="per_level",
        pre_nms_train=2000,
        pre_nms_test=1000,
        box_loss_beta=1 / 9,
    )
    with torch.no_grad():  # random heads hardly say anything: make boxes move and classes differ
        for key, parameter in ours.named_parameters():
            if "bbox_pred" in key or "cls_logits" in key or "cls_score" in key:
                parameter.normal_(0, 0.05)
    channels = 128
    theirs = FasterRCNN(
        OneMap(ours.backbone),
        min_size=SIZE[0],
        max_size=SIZE[1],
        rpn_anchor_generator=AnchorGenerator(((32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),)),
        rpn_head=RPNHead(channels, 15),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(channels * 49, 128),
        box_predictor=FastRCNNPredictor(128, 5),
        box_score_thresh=0.0,
        _skip_resize=True,
    )
    for part in ("rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"):
        theirs.get_submodule(part).load_state_dict(ours.get_submodule(part).state_dict())
    return theirs.double(), ours.double()


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(7)
    images = [torch.rand(3, *SIZE, generator=generator, dtype=torch.float64) for _ in range(2)]
    boxes = torch.tensor([[10.0, 20.0, 90.0, 80.0], [70.0, 5.0, 120.0, 60.0]])
    return images, [
        {"boxes": boxes, "labels": torch.tensor([1, 3])},
        {"boxes": boxes[:1], "labels": torch.tensor([2])},
    ]


def test_torchvision_s_class_with_the_same_weights_does_the_same() -> None:
    theirs, ours = pair()
    images, targets = batch()
    losses = []
    for model in (theirs, ours):
        torch.manual_seed(11)  # the samplers draw from the global generator
        losses.append({name: v.item() for name, v in model.train()(images, targets).items()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    with torch.no_grad():
        expected, found = theirs.eval()(images), ours.eval()(images)
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a["labels"], b["labels"])
        torch.testing.assert_close(b["scores"], a["scores"], rtol=0, atol=1e-6)
        torch.testing.assert_close(b["boxes"], a["boxes"], rtol=0, atol=1e-4)
    assert sum(len(a["boxes"]) for a in expected) >= 50


@pytest.mark.parametrize(
    ("backbone", "options", "level", "head"),
    [
        ("detnet59", {"box_head": "4conv1fc"}, "c6", ["Conv2d"] * 4 + ["Linear"]),
        ("resnet50", {"dilate": True}, "c5", ["Linear"] * 2),
        ("resnet50", {"box_head": "stages"}, "c4", []),
        ("shufflenetv2_20", {"box_head": "stages"}, "c4", []),
        ("detnet59", {"box_head": "stages", "level": "c4"}, "c4", []),
    ],
)
def test_forms(backbone: str, options: dict[str, Any], level: str, head: list[str]) -> None:
    """Every form learns with all of its parameters, the stages of a head under the backbone."""
    torch.manual_seed(0)
    model = create("faster_rcnn", backbone=backbone, **SMALL, **FEW, **options, roi_batch=8)
    assert [info.name for info in model.backbone.feature_info] == [level]
    kinds = [type(m).__name__ for m in model.roi_heads.box_head.modules()]
    assert [kind for kind in kinds if kind in ("Conv2d", "Linear")] == head
    images, targets = batch()
    losses = model([image.float() for image in images], targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    last = list(model.backbone.backbone.parts())[-1]
    assert (last == level) == (options.get("box_head") != "stages")


def test_the_head_of_stages_sees_seven_bins_at_its_end() -> None:
    resnet = create("faster_rcnn", backbone="resnet50", **SMALL, box_head="stages")
    detnet = create("faster_rcnn", **SMALL, box_head="stages", level="c4")
    for model, bins in ((resnet, 14), (detnet, 7)):
        heads = model.roi_heads.eval()
        pooled = heads.box_roi_pool(
            {"c4": torch.rand(1, 128, 6, 8)}, [torch.tensor([[0.0, 0, 64, 64]])], [SIZE]
        )
        assert pooled.shape == (1, 128, bins, bins)
        assert heads.box_head(pooled).shape == (
            1,
            model.backbone.backbone.feature_info[-1].channels,
        )
    with pytest.raises(InputError, match="asks for stages after c6.*c2, c3, c4, c5, c6"):
        create("faster_rcnn", **SMALL, box_head="stages")
    with pytest.raises(InputError, match="'2fc', '4conv1fc' or 'stages', got '3fc'"):
        create("faster_rcnn", **SMALL, box_head="3fc")


@pytest.mark.parametrize("options", [{"box_head": "stages"}, {"anchor_sizes": (16, 64)}])
def test_a_model_file_holds_it_all(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create("faster_rcnn", backbone="resnet50", **SMALL, **FEW, **options).eval()
    save_model(tmp_path / "a.safetensors", model)
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.info == model.info
    with torch.no_grad():
        image = torch.rand(3, 80, 120)
        expected, found = model([image])[0], loaded([image])[0]
    assert all(torch.equal(expected[key], found[key]) for key in expected)


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


def test_a_stride_that_an_earlier_stage_has_is_held_there() -> None:
    """C5 halves and C6 keeps that, dilated already: both are held, and see twice as far as before.

    Every second cell of a held level is then what the plain network has there, but for the border.
    """
    torch.manual_seed(0)
    table = (*DETNET59[:3], replace(RESNET50[3], channels=1024), replace(DETNET59[4], blocks=1))
    plain, held = (StagedNet(table, width=0.125).eval().double() for _ in range(2))
    held.load_state_dict(plain.state_dict())
    assert [info.stride for info in plain.feature_info] == [4, 8, 16, 32, 32]
    assert choose_level(held, "auto", dilate=True).stride == 16
    images = torch.rand(1, 3, 32 * 17, 32 * 19).double()
    with torch.no_grad():
        found, expected = held(images), plain(images)
    for info in held.feature_info:
        assert found[info.name].shape[-2:] == (544 // info.stride, 608 // info.stride)
    inner = (..., slice(5, -5), slice(5, -5))
    for name in ("c5", "c6"):
        torch.testing.assert_close(found[name][..., ::2, ::2][inner], expected[name][inner])


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
    pooler = LevelPooler(["c6"], [16], output_size=1)
    columns = torch.arange(20.0).expand(1, 1, 12, 20)
    boxes = torch.tensor([[32.0, 32, 96, 64], [16, 16, 304, 176], [100, 50, 104, 54]])
    pooled = pooler({"c6": columns}, [boxes], [(192, 320)])
    assert pooled.flatten().tolist() == pytest.approx([64 / 16, 160 / 16, 102 / 16 + 0.375])
