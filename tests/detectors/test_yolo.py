"""YOLO's levels, outputs and files; its boxes and losses are tested with the grid."""

from pathlib import Path

import pytest
import torch
from torch import nn

from detnet.backbones import build_backbone
from detnet.backbones.base import FeatureInfo
from detnet.backbones.spaces.space import parse_path, take_path
from detnet.detectors import create
from detnet.detectors.files import load_model, save_model
from detnet.detectors.grid import (
    YOLOOptions,
)
from detnet.detectors.yolo import GridNet
from detnet.errors import InputError
from detnet.inference.fuse import fuse
from tests.contracts import scene

SMALL = {"width": 0.125, "min_size": 96, "max_size": 128, "norm": "batch"}
TWO = ((20.0, 40.0), (40.0, 20.0))


def make(backbone: str = "detnet59", **options: object) -> nn.Module:
    torch.manual_seed(0)
    return create("yolo", backbone=backbone, num_classes=4, **{**SMALL, **options})


@pytest.mark.parametrize(
    ("backbone", "level", "fine", "stride"),
    [
        ("resnet50", "c5", "c4", 32),
        ("detnet59", "c6", "c3", 16),  # c4 and c5 are no finer
        ("resnet50_dilated", "c5", "c3", 16),
    ],
)
def test_levels(backbone: str, level: str, fine: str, stride: int) -> None:
    body = make(backbone).backbone
    (info,) = body.feature_info
    assert (info.name, info.stride, body.fine_name) == (level, stride, fine)
    (feature,) = body(torch.rand(2, 3, 64, 96)).values()
    assert feature.shape == (2, 128, 64 // stride, 96 // stride)
    assert body.joint[0].in_channels == 128 + 4 * 8
    assert make(backbone, passthrough=False).backbone.joint[0].in_channels == 128


def test_one_anchor_sure_of_one_place() -> None:
    """The head says: everywhere nothing, but for label 2 in the second shape of every cell."""
    model = make("resnet50", anchor_sizes=TWO, score_threshold=0.3).eval()
    head = model.head
    with torch.no_grad():
        for layer in (head.place_head, head.classification_head["cls_logits"]):
            layer.weight.zero_()
            layer.bias.zero_()
        head.place_head.bias[4], head.place_head.bias[9] = -9.0, 9.0
        head.classification_head["cls_logits"].bias[4] = 9.0
        (found,) = model([torch.rand(3, 96, 128)])
    assert (found["labels"] == 2).all() and (found["scores"] > 0.99).all()
    corners = sorted(found["boxes"].tolist())
    assert len(corners) == 12  # 3 rows of 4 cells of 32 pixels; neighbours hardly overlap
    assert corners[0] == pytest.approx([0, 6, 36, 26])  # 40 × 20 around (16, 16), clipped
    assert corners[-1] == pytest.approx([92, 70, 128, 90])


def test_the_surest_keep_their_own_boxes_and_labels() -> None:
    model = make("resnet50", score_threshold=0.3, max_candidates=4, max_detections=3)
    boxes = torch.tensor([[30.0 * at, 5.0, 30.0 * at + 20, 35.0] for at in range(4)])
    boxes[3] = boxes[0] + 1  # suppressed where it says what the first does, and is surer of it
    scores = torch.tensor([[0.5, 0.1, 0.2], [0.3, 0.8, 0.4], [0.2, 0.1, 0.9], [0.6, 0.1, 0.1]])
    found = model._choose(boxes, scores)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.8, 0.6])
    assert found["labels"].tolist() == [3, 2, 1]
    torch.testing.assert_close(found["boxes"], boxes[[2, 1, 3]])


def test_boxes_are_in_pixels_of_the_image_given() -> None:
    model = make("resnet50", anchor_sizes=TWO, score_threshold=0.0).eval()
    image = torch.rand(3, 96, 128)
    doubled = image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    with torch.no_grad():
        small, large = model([image])[0], model([doubled])[0]
    assert large["boxes"].max() > 150 and small["boxes"].max() <= 128


@pytest.mark.processor
@pytest.mark.parametrize("passthrough", [True, False])
def test_bf16_training_and_fusing(passthrough: bool) -> None:
    model = make(passthrough=passthrough).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.train()(*scene(masks=False))
    assert set(losses) == {"loss_objectness", "loss_box_reg", "loss_classifier"}
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    images = scene(masks=False)[0]
    with torch.no_grad():
        plain, fused = model.eval()(images), fuse(model)(images)
    for a, b in zip(plain, fused, strict=True):
        torch.testing.assert_close(a["scores"], b["scores"], rtol=0, atol=1e-4)


def test_a_file_needs_nothing_else(tmp_path: Path) -> None:
    model = make(anchor_sizes=[[12.5, 30.0], [80.0, 41.0], [9.0, 9.0]], score_threshold=0.0).eval()
    save_model(tmp_path / "a.safetensors", model)
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.anchors.tolist() == [[12.5, 30.0], [80.0, 41.0], [9.0, 9.0]]
    assert "anchors" not in model.state_dict()
    images = [torch.rand(3, 80, 120)]
    with torch.no_grad():
        expected, found = model(images)[0], loaded(images)[0]
    assert len(expected["boxes"]) and all(torch.equal(expected[k], found[k]) for k in expected)


def test_learns_one_scene() -> None:
    """Twelve steps on two images, one of them empty, bring the loss from 7.6 to 3.9."""
    model = make("resnet50", anchor_sizes=TWO).train()
    images, targets = scene(masks=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    totals = []
    for _ in range(12):
        total = sum(model(images, targets).values())
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.7 * totals[0]


def test_class_layers_are_known_as_such() -> None:
    """They stay fresh when weights of other categories are taken over."""
    model = make()
    names = [name for name, _ in model.head.named_parameters()]
    kinds = {name: model.is_class_layer(f"head.{name}") for name in names}
    assert kinds == {name: "classification_head" in name for name in names} and len(names) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor_sizes": []}, "pairs of a width and a height"),
        ({"anchor_sizes": [10, 20]}, "must be a list of lists of 2 finite numbers"),
        ({"anchor_sizes": [[10, 20], [30]]}, "lists of 2 finite numbers, got .*30"),
        ({"anchor_sizes": [[10, -20]]}, "pairs of a width and a height"),
        ({"anchor_sizes": "k-means"}, "lists of 2 finite numbers, got 'k-means'"),
        ({"resize": "letterbox"}, "'aspect' or 'square', got 'letterbox'"),
    ],
)
def test_mistakes_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


def test_a_backbone_of_one_level_has_no_finer_one() -> None:
    backbone = build_backbone("resnet50", width=0.125)
    backbone.feature_info = backbone.feature_info[-1:]
    with pytest.raises(InputError, match="finer than c5, and the backbone has none"):
        GridNet(backbone, YOLOOptions())
    assert GridNet(backbone, YOLOOptions(passthrough=False)).fine_name == ""


@pytest.mark.parametrize(("stride", "fine_stride"), [(64, 32), (32, 32), (64, 16), (64, 8)])
def test_the_finer_level_lies_where_the_last_one_does(stride: int, fine_stride: int) -> None:
    """Of an image of 96×160 cells of 64 pixels reach beyond it: each sees what is in its place."""
    net = GridNet(build_backbone("resnet50", width=0.125), YOLOOptions())
    levels = [FeatureInfo("c4", 1, fine_stride, level=4), FeatureInfo("c5", 1, stride, level=5)]
    net.backbone.feature_info = tuple(levels)
    fine, coarse = (torch.empty(1, 1, -(-96 // s), -(-160 // s)) for s in (fine_stride, stride))
    fine[:] = torch.arange(fine.shape[-1]) * fine_stride  # where a cell begins
    found = net._by_twos(fine, coarse)[0, 0]
    assert found.shape == (2 * coarse.shape[-2], 2 * coarse.shape[-1])
    begins = [column * stride // 2 // fine_stride * fine_stride for column in range(found.shape[1])]
    inside = [begin for begin in begins if begin < 160]
    assert found[0].tolist() == [*inside, *[0] * (len(begins) - len(inside))]


@pytest.mark.parametrize("detector", ["yolo", "ssd"])
def test_a_supernet_s_strides_are_followed(detector: str) -> None:
    """Paths that halve C6, and C5 as well, change cells and never a weight's shape."""
    torch.manual_seed(0)
    options = {**SMALL, "num_classes": 4, "backbone_options": {"space": "detnet"}}
    model = create(detector, backbone="supernet", **options).train()
    for text in ("0 1 20 100210 101201", "1 0 12 011110 100210", "0 0 00 011101 200000"):
        take_path(model, parse_path(text))
        losses = model(*scene(masks=False))
        assert torch.stack(list(losses.values())).isfinite().all()
