"""Our detectors on ResNet-50, given torchvision's weights, are torchvision's detectors.

In fp64, because in fp32 another order of the same sums turns near ties of the suppression and of
the samplers the other way. Tolerances: losses 1e-6 relative, gradients and scores 1e-6, boxes 1e-4
pixels, masks 1e-5.
"""

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from detnet.detectors import create
from detnet.detectors.weights import from_torchvision

SIZE = (96, 160)
THEIRS: dict[str, Any] = {
    "weights": None,
    "weights_backbone": None,
    "num_classes": 5,
    "min_size": SIZE[0],
    "max_size": SIZE[1],
    "_skip_resize": True,  # it would draw a random number of its own, though it has one size
}
OURS: dict[str, Any] = {
    "backbone": "resnet50",
    "num_classes": 5,
    "stride_in": "3x3",
    "min_size": SIZE[0],
    "max_size": SIZE[1],
    "score_threshold": 0.0,
    "max_detections": 100,
    "anchor_strides": "torchvision",
}
TWO_STAGE: dict[str, Any] = {
    "proposals": "per_level",
    "pre_nms_train": 2000,
    "pre_nms_test": 1000,
    "box_loss_beta": 1 / 9,
    "roi_batch": 32,  # in fp64 a region costs as much as a small network
}
SLOW = pytest.param("keypoint_rcnn_fpn", marks=pytest.mark.slow)  # eight wide layers, in fp64
NAMES = ["faster_rcnn_fpn", "mask_rcnn_fpn", SLOW, "retinanet"]
# Run once more on newer processors; the largest alone would add a quarter to all that is.
HELD_TOO = [pytest.param(name, marks=pytest.mark.processor) for name in (NAMES[0], NAMES[3])]
RENAMED = {"classification": "loss_classifier", "bbox_regression": "loss_box_reg"}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """Builds theirs with random weights, and ours with the same."""
    torch.manual_seed(3)
    if name == "retinanet":
        theirs = torchvision.models.detection.retinanet_resnet50_fpn(
            **{**THEIRS, "num_classes": 4}, score_thresh=0.0, detections_per_img=100
        )
        ours = create(name, **OURS, coarse_from="p")
    else:
        builder = name.replace("_rcnn_fpn", "rcnn_resnet50_fpn")
        # In fp64 a detection of the mask or keypoint branch costs as much as a whole small network.
        most = 50 if name == "faster_rcnn_fpn" else 12
        theirs = getattr(torchvision.models.detection, builder)(
            **THEIRS,
            box_score_thresh=0.0,
            box_detections_per_img=most,
            box_batch_size_per_image=TWO_STAGE["roi_batch"],
        )
        ours = create(name, **{**OURS, **TWO_STAGE, "max_detections": most})
    with torch.no_grad():  # random heads hardly say anything: make boxes move and classes differ
        for key, parameter in theirs.named_parameters():
            if "bbox_pred" in key or "cls_logits" in key or "cls_score" in key:
                parameter.normal_(0, 0.02)
    ours.load_state_dict(
        from_torchvision(theirs.state_dict(), finest=3 if name == "retinanet" else 2)
    )
    return theirs.double(), ours.double()


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(7)
    images = [torch.rand(3, *SIZE, generator=generator, dtype=torch.float64) for _ in range(2)]
    boxes = torch.tensor([[6.0, 12.0, 90.0, 88.0], [96.0, 5.0, 150.0, 50.0]])
    masks = torch.zeros(2, *SIZE, dtype=torch.uint8)
    masks[0, 12:88, 6:90] = 1
    masks[1, 5:50, 96:150] = 1
    places = torch.rand(2, 17, 3, generator=generator)
    places[..., :2] = boxes[:, None, :2] + places[..., :2] * (
        boxes[:, None, 2:] - boxes[:, None, :2]
    )
    places[..., 2] = (places[..., 2] > 0.3) * 2
    target = {"boxes": boxes, "labels": torch.tensor([1, 3]), "masks": masks, "keypoints": places}
    other = {
        "boxes": boxes[:1],
        "labels": torch.tensor([2]),
        "masks": masks[:1],
        "keypoints": places[:1],
    }
    return images, [target, other]


@pytest.mark.processor
@pytest.mark.parametrize("name", NAMES)
def test_same_losses_and_gradients(name: str) -> None:
    theirs, ours = pair(name)
    images, targets = batch()
    shifted = targets
    if name == "retinanet":  # torchvision takes a label as the index of its channel
        shifted = [{**t, "labels": t["labels"] - 1} for t in targets]
    found = []
    for model, aims in ((theirs, shifted), (ours, targets)):
        torch.manual_seed(11)  # the samplers draw from the global generator
        losses = model.train()(images, aims)
        torch.stack(list(losses.values())).sum().backward()
        found.append({RENAMED.get(key, key): value.item() for key, value in losses.items()})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert found[1][key] == pytest.approx(value, rel=1e-6), key
    stem = theirs.backbone.body.conv1.weight.grad
    torch.testing.assert_close(
        ours.backbone.backbone.stem.conv.weight.grad,
        stem,
        rtol=0,
        atol=1e-6 * float(stem.abs().max()),
    )


@pytest.mark.parametrize("name", [*HELD_TOO, *NAMES[1:3]])
def test_same_detections(name: str) -> None:
    theirs, ours = pair(name)
    images, _ = batch()
    with torch.no_grad():
        expected, found = theirs.eval()(images), ours.eval()(images)
    compared = 0
    for a, b in zip(expected, found, strict=True):
        labels = a["labels"] + 1 if name == "retinanet" else a["labels"]
        assert torch.equal(labels, b["labels"])
        torch.testing.assert_close(b["scores"], a["scores"], rtol=0, atol=1e-6)
        torch.testing.assert_close(b["boxes"], a["boxes"], rtol=0, atol=1e-4)
        if name == "mask_rcnn_fpn":
            torch.testing.assert_close(b["masks"], a["masks"], rtol=0, atol=1e-5)
        if name == "keypoint_rcnn_fpn":
            torch.testing.assert_close(b["keypoints"], a["keypoints"], rtol=0, atol=1e-4)
            key = "keypoints_scores"
            torch.testing.assert_close(b[key], a[key], rtol=0, atol=1e-5)
            assert a[key].std() > 0.01  # heatmaps that say something
        compared += len(a["boxes"])
    assert compared >= 20
