import math
import sys

import pytest
import torch
from torch import nn

from detnet.detectors import DETECTORS, create
from detnet.detectors.heads import BoxOptions, RegionOptions, box_head, box_losses

_PARTS = ("box_roi_pool", "box_head", "box_predictor")


def test_box_losses_by_hand() -> None:
    """Two regions: background, and class 2 whose offsets are off by 0.5 and 3 in two numbers."""
    logits = torch.zeros(2, 3)
    deltas = torch.zeros(2, 12)
    deltas[1, 8], deltas[1, 9] = 0.5, 3.0
    deltas[1, 4] = 99.0  # of class 1: not looked at
    labels = [torch.tensor([0]), torch.tensor([2])]
    targets = [torch.full((1, 4), 7.0), torch.zeros(1, 4)]
    losses = box_losses(logits, deltas, labels, targets, beta=1.0)
    assert losses["loss_classifier"].item() == pytest.approx(math.log(3))
    assert losses["loss_box_reg"].item() == pytest.approx((0.5 * 0.5**2 + (3 - 0.5)) / 2)
    sharp = box_losses(logits, deltas, labels, targets, beta=1 / 9)
    assert sharp["loss_box_reg"].item() == pytest.approx((0.5 + 3 - 2 / 18) / 2)


def test_without_objects_the_loss_is_zero_and_has_a_gradient() -> None:
    deltas = torch.zeros(2, 12, requires_grad=True)
    labels, targets = [torch.zeros(2, dtype=torch.int64)], [torch.zeros(2, 4)]
    losses = box_losses(torch.zeros(2, 3), deltas, labels, targets, beta=1.0)
    assert losses["loss_box_reg"].item() == 0
    losses["loss_box_reg"].backward()
    assert deltas.grad is not None and not deltas.grad.any()


def test_a_loss_of_ones_own_sees_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: one region on an object that is twice as wide, one of background."""
    monkeypatch.setattr(DETECTORS, "_homes", dict(DETECTORS._homes))
    monkeypatch.delitem(sys.modules, "tests.plugins.my_loss", raising=False)
    from tests.plugins.my_loss import GIoUFasterRCNNFPN, GIoUHeads

    heads = GIoUFasterRCNNFPN.heads_class(RegionOptions(), **dict.fromkeys(_PARTS))
    assert type(heads) is GIoUHeads
    regions = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    (targets,) = heads.box_coder.encode([torch.tensor([[0.0, 0.0, 20.0, 10.0]] * 2)], [regions])
    deltas = torch.zeros(2, 12, requires_grad=True)  # boxes stay where they are
    labels = [torch.tensor([2, 0])]
    losses = heads.box_losses(torch.zeros(2, 3), deltas, labels, [targets], [regions])
    assert losses["loss_box_reg"].item() == pytest.approx((1 - 0.5) / 2, abs=1e-5)
    assert losses["loss_classifier"].item() == pytest.approx(math.log(3))
    losses["loss_box_reg"].backward()
    assert deltas.grad is not None and deltas.grad[0, 8:].any()
    assert not deltas.grad[1].any() and not deltas.grad[0, :8].any()


@pytest.mark.parametrize("kind", ["2fc", "4conv1fc"])
def test_box_head_shapes(kind: str) -> None:
    head = box_head(BoxOptions(box_head=kind), 16, 24)  # type: ignore[arg-type]
    assert head(torch.rand(5, 16, 7, 7)).shape == (5, 24)


def test_no_regions_at_all_have_no_loss() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    deltas = torch.zeros(0, 12, requires_grad=True)
    losses = box_losses(logits, deltas, [torch.zeros(0).long()], [torch.zeros(0, 4)], beta=1.0)
    assert [float(loss.detach()) for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert logits.grad is not None
    assert deltas.grad is not None


def test_detectron_draws_small_first_outputs() -> None:
    torch.manual_seed(0)
    model = create(
        "cascade_rcnn_fpn",
        backbone="resnet50",
        num_classes=81,
        width=0.25,
        box_head="4conv1fc",
        head_init="detectron",
    )
    for head, predictor in zip(
        model.roi_heads.box_head, model.roi_heads.box_predictor, strict=True
    ):
        (hidden,) = (layer for layer in head.modules() if isinstance(layer, nn.Linear))
        bound = math.sqrt(3 / hidden.in_features)
        assert 0.99 * bound < hidden.weight.abs().max() <= bound
        assert hidden.weight.std().item() == pytest.approx(hidden.in_features**-0.5, rel=0.02)
        assert predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.1)
        layers = (hidden, predictor.cls_score, predictor.bbox_pred)
        assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize("detector", ["faster_rcnn_fpn", "faster_rcnn"])
def test_both_ways_of_drawing_a_head(detector: str) -> None:
    deviations = {}
    for way in ("torch", "detectron"):
        torch.manual_seed(0)
        model = create(detector, backbone="resnet50", num_classes=5, width=0.125, head_init=way)
        heads = model.roi_heads
        layers = (heads.box_head.fc6, heads.box_head.fc7, heads.box_predictor.cls_score)
        deviations[way] = [layer.weight.std().item() * layer.in_features**0.5 for layer in layers]
        assert model.info.options["head_init"] == way
    third = 3**-0.5
    assert deviations["torch"] == pytest.approx([third] * 3, rel=0.05)
    assert deviations["detectron"] == pytest.approx([1, 1, 0.01 * 128**0.5], rel=0.05)
