import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnet.backbones.base import FeatureInfo
from detnet.detectors import create, option_defaults
from detnet.detectors.files import load_model, save_model
from detnet.detectors.heads import RegionOptions
from detnet.detectors.rfcn import (
    Pooling,
    PositionSensitiveHeads,
    PositionSensitivePooler,
    ScoreMaps,
    ohem,
    region_losses,
)
from detnet.errors import InputError
from tests.contracts import scene

SMALL: dict[str, Any] = {"num_classes": 4, "width": 0.125, "min_size": 96, "max_size": 160}


@pytest.mark.parametrize(
    ("backbone", "options", "levels", "strides"),
    [
        ("detnet59", {}, ["c4", "c6"], [4, 8, 16, 16, 16]),
        ("detnet59", {"proposal_level": "c6"}, ["c6"], [4, 8, 16, 16, 16]),
        ("resnet50", {}, ["c4", "c5"], [4, 8, 16, 16]),
        ("resnet50", {"dilate": False}, ["c4"], [4, 8, 16]),
        ("detnasnet_300m", {}, ["c4", "c5"], [4, 8, 16, 16]),
    ],
)
def test_levels(
    backbone: str, options: dict[str, Any], levels: list[str], strides: list[int]
) -> None:
    model = create("rfcn", backbone=backbone, **SMALL, **options)
    assert [info.name for info in model.backbone.feature_info] == levels
    assert [info.stride for info in model.backbone.backbone.feature_info] == strides
    assert (model.rpn.level, model.roi_heads.level) == (levels[0], levels[-1])
    assert model.roi_heads.box_roi_pool.scales == [1 / 16]


def test_the_paper_s_numbers() -> None:
    defaults = option_defaults("rfcn")
    assert (defaults["post_nms_train"], defaults["post_nms_test"]) == (300, 300)
    assert (defaults["ohem"], defaults["roi_batch"], defaults["nms_threshold"]) == (True, 128, 0.3)
    with torch.device("meta"):
        model = create("rfcn", backbone="resnet101", num_classes=81)
    heads = model.roi_heads
    assert heads.vote_scale == 7
    assert heads.box_head[0].weight.shape == (1024, 2048, 1, 1)
    assert heads.box_predictor.cls_score.out_channels == 7 * 7 * 81
    assert heads.box_predictor.bbox_pred.out_channels == 7 * 7 * 4


@pytest.mark.parametrize(
    "options", [{"ohem": False}, {"pooling": "pool", "bins": 3, "vote": "mean"}]
)
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create("rfcn", backbone="resnet50", **SMALL, **options)
    losses = model(*scene(masks=False))
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    save_model(tmp_path / "a.safetensors", model.eval())
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.info == model.info
    with torch.no_grad():
        image = torch.rand(3, 80, 120)
        expected, found = model([image])[0], loaded([image])[0]
    assert len(expected["boxes"]) and all(torch.equal(expected[k], found[k]) for k in expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "'align' or 'pool', got 'max'"),
        ({"vote": "sum"}, "'scaled' or 'mean', got 'sum'"),
        ({"bins": 0}, "bins must be positive, got 0"),
        ({"level": "c6"}, "one level, c6, at stride 16; the backbone has c2 at 4"),
        ({"proposal_level": "c3"}, "one level, c3, at stride 16"),
        ({"frozen": ("c5",), "dilate": False}, "cannot freeze c5"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create("rfcn", backbone="resnet50", **SMALL, **options)
    assert "\n" not in str(caught.value)


LEVEL = FeatureInfo("c6", 8, 16)
WHOLE = [torch.tensor([[0.0, 0.0, 64.0, 64.0]])]  # 4×4 cells


@pytest.mark.parametrize("pooling", ["align", "pool"])
def test_each_bin_looks_at_its_own_place_in_its_own_map(pooling: Pooling) -> None:
    """Two classes, 2×2 bins: channel (class × 2 + row) × 2 + column."""
    pooler = PositionSensitivePooler(LEVEL, bins=2, pooling=pooling)
    maps = torch.full((1, 8, 5, 6), 9.0)  # torchvision's pool leaves out a map's last row, column
    maps[:, :, :4, :4] = 0
    maps[0, 0, :2, :2] = 1  # class 0, top left, where it belongs
    maps[0, 1, :2, :2] = 8  # class 0, the map of the top right bin, which does not look there
    maps[0, 3, 2:4, 2:4] = 3  # class 0, bottom right
    maps[0, 5, :2, 2:4] = torch.tensor([[4.0, 0.0], [2.0, 2.0]])  # class 1, top right: average 2
    found = pooler.vote(maps, WHOLE)
    assert found.tolist() == [[(1 + 0 + 0 + 3) / 4, (0 + 2 + 0 + 0) / 4]]


@pytest.mark.parametrize("pooling", ["align", "pool"])
def test_a_box_that_is_nan_or_infinite_is_no_index(pooling: Pooling) -> None:
    """torchvision's kernel reads memory that is not the map's; run by itself it ends the process.

    Boxes of such objects are among the regions in training, whose losses then tell it.
    """
    pooler = PositionSensitivePooler(LEVEL, bins=2, pooling=pooling)
    broken = [[16.0, 16, math.nan, 64], [math.nan] * 4, [16, 16, math.inf, 64]]
    for boxes in torch.tensor(broken):
        found = pooler.vote(torch.ones(1, 8, 5, 6), [torch.stack([WHOLE[0][0], boxes])])
        assert found[0].tolist() == [1, 1] and found[1].isfinite().all()


def test_a_bin_is_the_mean_of_four_points() -> None:
    """Cells hold the square of their column; a bin of 4 cells from -0.5 is seen at 0.5 and 2.5."""
    maps = (torch.arange(6.0) ** 2).expand(1, 1, 4, 6).contiguous()
    pooler = PositionSensitivePooler(LEVEL, bins=1, pooling="align")
    assert pooler.vote(maps, WHOLE).item() == pytest.approx(((0 + 1) / 2 + (4 + 9) / 2) / 2)


def test_regions_look_into_their_own_image() -> None:
    pooler = PositionSensitivePooler(LEVEL, bins=2, pooling="align")
    maps = torch.stack([torch.full((4, 4, 4), 1.0), torch.full((4, 4, 4), 5.0)])
    none = torch.zeros(0, 4)
    assert pooler.vote(maps, [none, WHOLE[0]]).tolist() == [[5.0]]
    assert pooler.vote(maps, [WHOLE[0], WHOLE[0]]).tolist() == [[1.0], [5.0]]
    assert pooler.vote(maps, [none, none]).shape == (0, 1)


def test_hardest_regions_are_picked_in_each_image() -> None:
    losses = torch.tensor([0.1, 0.9, 0.5, 2.0, 3.0])
    assert ohem(losses, [3, 2], 1).tolist() == [1, 4]
    assert ohem(losses, [3, 2], 2).tolist() == [1, 2, 4, 3]
    assert ohem(losses, [0, 5], 9).tolist() == [4, 3, 1, 2, 0]


def test_region_losses_by_hand() -> None:
    logits = torch.zeros(3, 4)
    logits[2, 1] = math.log(5)  # probability 5 / 8
    deltas = torch.tensor([[9.0, 9, 9, 9], [0.5, 3, 0, 0], [0, 0, 0, 0]], requires_grad=True)
    nowhere = [[math.inf, 0, 0, -math.inf]]  # background has no object to go to
    targets = torch.tensor([*nowhere, [0, 0, 0, 0], [0, 0, 0, 0.2]])
    classes, boxes = region_losses(logits, deltas, torch.tensor([0, 3, 1]), targets, beta=1.0)
    assert classes.tolist() == pytest.approx([math.log(4), math.log(4), math.log(8 / 5)])
    assert boxes.tolist() == pytest.approx([0, 0.5 * 0.25 + 2.5, 0.5 * 0.04])
    boxes.sum().backward()
    assert deltas.grad is not None
    assert deltas.grad[0].tolist() == [0, 0, 0, 0]
    assert deltas.grad[1].tolist() == [0.5, 1, 0, 0]


def heads(*, hard_examples: bool, roi_batch: int) -> PositionSensitiveHeads:
    torch.manual_seed(0)
    made = PositionSensitiveHeads(
        RegionOptions(roi_batch=roi_batch, nms_threshold=0.3, max_detections=10),
        level="c6",
        hard_examples=hard_examples,
        box_roi_pool=PositionSensitivePooler(LEVEL, bins=3, pooling="align"),
        box_head=nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()),
        box_predictor=ScoreMaps(8, 4, 3),
    )
    for maps in (made.box_predictor.cls_score, made.box_predictor.bbox_pred):
        nn.init.normal_(maps.weight, std=2.0)  # losses that differ
    return made


def regions_and_objects() -> tuple[dict[str, Tensor], list[Tensor], list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(2, 12, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 10 + 40 * torch.rand(2, 12, 2, generator=generator)], 2)
    targets = [
        {"boxes": boxes[0, :2] + 1, "labels": torch.tensor([3, 1])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    return {"c6": torch.rand(2, 8, 8, 8, generator=generator)}, list(boxes), targets


def test_online_hard_examples_are_the_highest_losses_of_all() -> None:
    features, proposals, targets = regions_and_objects()
    net = heads(hard_examples=True, roi_batch=4)
    _, losses = net(features, list(proposals), [(128, 128)] * 2, targets)
    every, _, labels, aims = net.select_training_samples(list(proposals), targets)
    assert [len(boxes) for boxes in every] == [14, 12]  # with the objects themselves
    assert [int((kinds > 0).sum()) for kinds in labels] == [4, 0]
    logits, deltas = net.predict(features, every)
    classes, boxes = region_losses(logits, deltas, torch.cat(labels), torch.cat(aims), beta=1.0)
    order = (classes + boxes).detach().numpy()
    chosen = sorted(range(14), key=lambda i: -order[i])[:4]
    by_class = sorted(range(14), key=lambda i: -classes[i].item())[:4]
    assert set(chosen) != set(by_class)  # what boxes lose counts
    chosen += sorted(range(14, 26), key=lambda i: -order[i])[:4]
    assert losses["loss_classifier"].item() == pytest.approx(classes[chosen].mean().item())
    assert losses["loss_box_reg"].item() == pytest.approx(boxes[chosen].mean().item())
    assert sum(losses.values()) > 1.1 * (classes + boxes).mean()


def test_without_hard_examples_regions_are_drawn() -> None:
    features, proposals, targets = regions_and_objects()
    net = heads(hard_examples=False, roi_batch=8)
    every, _, labels, _ = net.select_training_samples(list(proposals), targets)
    assert [len(boxes) for boxes in every] == [8, 8]
    assert int((labels[0] > 0).sum()) == 2  # a quarter
    _, losses = net(features, list(proposals), [(128, 128)] * 2, targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg"}


def test_no_regions_at_all_have_no_loss_and_a_gradient() -> None:
    features, _, targets = regions_and_objects()
    net = heads(hard_examples=True, roi_batch=4)
    empty = [torch.zeros(0, 4), torch.zeros(0, 4)]
    _, losses = net(features, empty, [(128, 128)] * 2, [targets[1], targets[1]])
    assert [value.item() for value in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_classes_share_their_boxes() -> None:
    """Sure of class 2 everywhere, offsets that move every region by a tenth of its width."""
    features, proposals, _ = regions_and_objects()
    net = heads(hard_examples=True, roi_batch=4).eval()
    with torch.no_grad():
        for conv in (net.box_predictor.cls_score, net.box_predictor.bbox_pred):
            conv.weight.zero_()
        net.box_predictor.cls_score.bias.view(4, 9)[2] = 9.0
        net.box_predictor.bbox_pred.bias.view(4, 9)[0] = 1.0
        region = torch.tensor([[20.0, 20.0, 60.0, 50.0]])
        found, losses = net(features, [region, region], [(128, 128)] * 2)
    assert losses == {}
    for detection in found:
        assert detection["labels"].tolist() == [2]
        torch.testing.assert_close(detection["boxes"], torch.tensor([[24.0, 20, 64, 50]]))
    plain = net.predict(features, [region, region])
    net.vote_scale = 3
    for before, after in zip(plain, net.predict(features, [region, region]), strict=True):
        torch.testing.assert_close(after, 3 * before)
