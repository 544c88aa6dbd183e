from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import boxes as box_ops
from torchvision.ops import nms

from detnet.backbones.base import FeatureInfo
from detnet.detectors import create
from detnet.detectors.proposals import (
    ANCHOR_SIZES,
    ProposalNetwork,
    ProposalOptions,
    _suppress,
)
from detnet.errors import InputError

LEVELS = [FeatureInfo(name, 8, 16) for name in ("p4", "p5", "p6")]


def network(**options: object) -> ProposalNetwork:
    torch.manual_seed(0)
    sizes = ANCHOR_SIZES[: len(LEVELS)]
    return ProposalNetwork(8, LEVELS, ProposalOptions(anchor_sizes=sizes, **options)).eval()


BOXES = torch.tensor(
    [
        [0.0, 0.0, 40.0, 20.0],  # level 0
        [60.0, 0.0, 90.0, 20.0],
        [1.0, 0.0, 40.0, 20.0],  # level 1, the first box again and surer
        [0.0, 30.0, 50.0, 60.0],
        [-5.0, 30.0, 45.0, 58.0],  # level 2, the fourth box again, partly outside
    ]
)
LOGITS = torch.tensor([1.0, 2.0, 3.0, -1.0, -2.0])


def test_pooled_suppresses_across_levels_and_per_level_within_them() -> None:
    arguments = BOXES[None], LOGITS[None, :, None], [(60, 100)], [2, 2, 1]
    pooled, scores = network().filter_proposals(*arguments)
    assert pooled[0].tolist() == BOXES[[2, 1, 3]].tolist()  # by score, doubles gone
    assert scores[0].tolist() == pytest.approx(LOGITS[[2, 1, 3]].sigmoid().tolist())
    apart, _ = network(proposals="per_level").filter_proposals(*arguments)
    clipped = BOXES.clone()
    clipped[4, 0] = 0
    assert apart[0].tolist() == clipped[[2, 1, 0, 3, 4]].tolist()


def test_counts_are_per_image_or_per_level() -> None:
    spread = torch.tensor([[10.0 * i, 0, 10.0 * i + 8, 8] for i in range(9)])
    logits = torch.arange(9.0)
    arguments = spread[None], logits[None, :, None], [(60, 100)], [3, 3, 3]
    few = {"pre_nms_test": 2, "post_nms_test": 5}
    pooled, _ = network(**few).filter_proposals(*arguments)
    assert pooled[0].tolist() == spread[[8, 7]].tolist()
    apart, _ = network(**few, proposals="per_level").filter_proposals(*arguments)
    assert apart[0].tolist() == spread[[8, 7, 5, 4, 2]].tolist()


def test_paper_counts_by_mode() -> None:
    net = network()
    assert (net.pre_nms_top_n(), net.post_nms_top_n()) == (6000, 1000)
    net.train()
    assert (net.pre_nms_top_n(), net.post_nms_top_n()) == (12000, 2000)


def test_anchors_follow_the_levels_own_grids() -> None:
    """Three levels at one stride, as DetNet's, have anchors of three sizes on one grid."""
    net = network()
    features = {name: torch.rand(1, 8, 6, 10) for name in ("p4", "p5", "p6")}
    images = ImageList(torch.rand(1, 3, 96, 160), [(96, 160)])
    (anchors,) = net.anchor_generator(images, list(features.values()))
    sizes = (anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt().view(3, 6 * 10 * 3)
    for level, size in enumerate((32, 64, 128)):
        assert sizes[level].tolist() == pytest.approx([size] * 180, rel=0.03)
    centres = (anchors[:, 2:] + anchors[:, :2]).view(3, 6, 10, 3, 2)[..., 0, :] / 2
    assert torch.equal(centres[0, 2, 3], torch.tensor([48.0, 32.0]))
    assert torch.equal(centres[0], centres[2])
    boxes, _ = net(images, features)
    assert boxes[0].shape[1] == 4 and (boxes[0][:, 2] <= 160).all() and (boxes[0][:, 3] <= 96).all()


# An image of 60×100 in a batch that is padded to 64×128.
ANCHORS = torch.tensor(
    [
        [0.0, 0.0, 40.0, 20.0],  # touches two borders
        [-1.0, 0.0, 40.0, 20.0],
        [60.0, 30.0, 100.0, 60.0],  # touches the two others
        [60.0, 30.0, 100.5, 60.0],
        [60.0, 30.0, 100.0, 62.0],
        [45.0, 2.0, 55.0, 12.0],
    ]
)


def labels_of(boxes: list[list[float]], straddle: float | None) -> list[float]:
    net = network(rpn_straddle=straddle)
    size = torch.tensor([60, 100])
    target = {"boxes": torch.tensor(boxes).reshape(-1, 4), "image_size": size}
    (labels,), (matched,) = net.assign_targets_to_anchors([ANCHORS], [target])
    assert matched.shape == ANCHORS.shape
    return labels.tolist()


def test_anchors_over_the_border_are_not_learned_from() -> None:
    objects = [[0.0, 0.0, 40.0, 20.0], [60.0, 30.0, 100.0, 60.0]]
    assert labels_of(objects, None) == [1, 1, 1, 1, 1, 0]
    assert labels_of(objects, 0) == [1, -1, 1, -1, -1, 0]
    assert labels_of(objects, 0.5) == [1, -1, 1, 1, -1, 0]
    assert labels_of([], 0) == [0, -1, 0, -1, -1, 0]


def test_an_object_s_best_anchor_is_one_inside() -> None:
    """The best of all reaches over the border; the next best, at IoU 1/7, takes its place."""
    reaching = [[-1.0, 0.0, 40.0, 20.0], [55.0, 40.0, 75.0, 60.0]]
    assert labels_of(reaching, None) == [1, 1, 1, 0, 0, 0]
    assert labels_of(reaching, 0) == [1, -1, 1, -1, -1, 0]
    # No anchor inside touches this one: none is made positive by an overlap of zero.
    assert labels_of([[5.0, 30.0, 30.0, 55.0]], 0) == [0, -1, 0, -1, -1, 0]


def train_forward(net: ProposalNetwork, shape: tuple[int, int]) -> tuple[Any, list[Tensor]]:
    """Runs a training forward on an image of that shape in a batch of 96×160; labels too."""
    seen: list[Tensor] = []
    sampler = net.fg_bg_sampler
    net.fg_bg_sampler = lambda labels: seen.extend(labels) or sampler(labels)  # type: ignore
    strides = (8, 16, 32)
    features = {f"p{s}": torch.rand(1, 8, 96 // s, 160 // s) for s in strides}
    images = ImageList(torch.rand(1, 3, 96, 160), [shape])
    targets = [{"boxes": torch.tensor([[2.0, 3.0, 12.0, 13.0]])}]
    return net.train()(images, features, targets), seen


def test_the_border_is_the_image_s_own_not_the_padding_s() -> None:
    net = network(rpn_straddle=0)
    shape = (70, 90)
    (_, losses), (labels,) = train_forward(net, shape)
    features = [torch.rand(1, 8, 96 // s, 160 // s) for s in (8, 16, 32)]
    (anchors,) = net.anchor_generator(ImageList(torch.rand(1, 3, 96, 160), [shape]), features)
    low, high = anchors[:, :2].amin(1), anchors[:, 2:]
    inside = (low >= 0) & (high[:, 0] <= 90) & (high[:, 1] <= 70)
    assert 0 < inside.sum() < len(inside)
    assert torch.equal(labels >= 0, inside)  # the object is so small that none lies between
    assert float(losses["loss_objectness"].detach()) > 0


def test_an_image_smaller_than_all_anchors_has_no_loss() -> None:
    net = network(rpn_straddle=0)
    (boxes, losses), _ = train_forward(net, (20, 30))
    assert len(boxes[0])
    assert [float(loss.detach()) for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_images_share_their_surest_proposals_in_training() -> None:
    spread = torch.tensor([[10.0 * i, 0, 10.0 * i + 8, 8] for i in range(4)])
    logits = torch.tensor([[1.0, 2, 3, 4], [8, 5, 7, 6], [0, 1, 2, 3]])
    arguments = spread.repeat(3, 1, 1), logits[..., None], [(60, 100)] * 3, [2, 1, 1]
    for way in ("pooled", "per_level"):
        net = network(post_nms_train=5, post_nms_test=5, post_nms_images=2, proposals=way)
        _, scores = net.train().filter_proposals(*arguments)
        found = [own.logit().round().tolist() for own in scores]
        assert found == [[4], [8, 7, 6, 5], [3, 2, 1, 0]]  # the third has no neighbour
        boxes, scores = net.eval().filter_proposals(*arguments)
        assert [len(own) for own in scores] == [4, 4, 4]
        assert boxes[1].tolist() == spread[[0, 2, 3, 1]].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rpn_straddle": -1}, "rpn_straddle must be 0 pixels or more, got -1"),
        ({"post_nms_images": 0}, "post_nms_images must be positive, got 0"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ProposalOptions(**options)


@pytest.mark.parametrize("detector", ["faster_rcnn_fpn", "cascade_rcnn_fpn"])
def test_a_step_with_all_of_detectron_s_ways(detector: str) -> None:
    """One image has no anchor inside, one no object; every parameter gets a gradient."""
    torch.manual_seed(0)
    model = create(
        detector,
        backbone="detnet59",
        num_classes=3,
        width=0.125,
        norm="sync",
        head_init="detectron",
        rpn_straddle=0,
        post_nms_images=2,
        post_nms_train=20,
    )
    images = [torch.rand(3, *shape) for shape in ((64, 96), (20, 30), (70, 90))]
    one = {"boxes": torch.tensor([[2.0, 3, 18, 19]]), "labels": torch.tensor([1])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model(images, [one, one, none])
    assert all(bool(loss.isfinite()) for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("side", [3.0, 30.0, 300.0])  # nearly all are left, some, hardly any
@pytest.mark.parametrize("count", [0, 7, 60, 240])
def test_the_first_that_are_left_need_not_all_be_looked_at(
    side: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(5)
    corners = torch.rand(500, 2, generator=generator) * torch.tensor([120.0, 80.0])
    boxes = torch.cat([corners, corners + side], dim=1)
    scores = (torch.rand(500, generator=generator) * 40).round().sort(descending=True).values / 40
    expected = nms(boxes, scores, 0.7)
    looked: list[int] = []

    def counted(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
        looked.append(len(boxes))
        return nms(boxes, scores, overlap)

    monkeypatch.setattr(box_ops, "nms", counted)
    assert torch.equal(_suppress(boxes, scores, 0.7, count), expected[:count])
    if side == 3.0:
        assert looked == [2 * count]  # with many equal scores
