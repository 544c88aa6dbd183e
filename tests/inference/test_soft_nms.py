"""Soft suppression against the paper's printed program, by hand, and its pace."""

import math
import time

import pytest
import torch
from torch import Tensor

from detnet.inference.soft_nms import Decay, soft_nms


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def as_printed(
    boxes: list[list[float]], scores: list[float], *, decay: Decay, threshold: float
) -> list[tuple[int, float]]:
    """Figure 2 of the paper, word for word: M is taken, S_i is lowered by f(iou(M, b_i))."""
    left, taken = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda index: left[index])
        taken.append((best, left.pop(best)))
        for index in left:
            iou = overlap(boxes[best], boxes[index])
            if decay == "linear":
                left[index] *= 1 - iou if iou >= threshold else 1
            else:
                left[index] *= math.exp(-(iou**2) / 0.5)
    return taken


def random_boxes(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 100
    size = 10 + torch.rand(count, 2, generator=generator) * 60
    scores = torch.rand(count, generator=generator)
    labels = torch.randint(1, 4, (count,), generator=generator)
    return torch.cat([corner, corner + size], 1), scores, labels


@pytest.mark.parametrize("decay", ["linear", "gaussian"])
def test_equals_the_paper_s_program(decay: Decay) -> None:
    boxes, scores, _ = random_boxes(60)
    labels = torch.ones(60, dtype=torch.int64)
    keep, lowered = soft_nms(boxes, scores, labels, decay=decay, iou_threshold=0.3, floor=0.0)
    expected = as_printed(boxes.tolist(), scores.tolist(), decay=decay, threshold=0.3)
    expected = [(index, score) for index, score in expected if score > 0]
    assert keep.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(lowered, torch.tensor([score for _, score in expected]))
    assert (lowered < scores[keep]).sum() > 30  # the case is no easy one


@pytest.mark.parametrize("decay", ["linear", "gaussian"])
def test_classes_leave_each_other_alone(decay: Decay) -> None:
    boxes, scores, labels = random_boxes(90)
    keep, lowered = soft_nms(boxes, scores, labels, decay=decay, floor=0.01)
    assert (lowered[:-1] >= lowered[1:]).all() and (lowered > 0.01).all()
    for label in (1, 2, 3):
        own = (labels == label).nonzero().squeeze(1)
        alone, alone_scores = soft_nms(
            boxes[own], scores[own], labels[own], decay=decay, floor=0.01
        )
        of_label = labels[keep] == label
        assert torch.equal(keep[of_label], own[alone])
        assert torch.equal(lowered[of_label], alone_scores)
    first, first_scores = soft_nms(boxes, scores, labels, decay=decay, floor=0.01, max_detections=7)
    assert torch.equal(first, keep[:7]) and torch.equal(first_scores, lowered[:7])


def test_by_hand() -> None:
    """Two boxes that share a half of each: IoU 1/3."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [3.0, 3.0, 3.0, 3.0]])
    scores, labels = torch.tensor([0.6, 0.9, 0.5]), torch.tensor([2, 2, 2])
    keep, lowered = soft_nms(boxes, scores, labels, decay="linear")
    assert keep.tolist() == [1, 2, 0]  # a box without an area loses nothing
    assert lowered.tolist() == pytest.approx([0.9, 0.5, 0.6 * 2 / 3])
    keep, lowered = soft_nms(boxes, scores, labels, decay="linear", iou_threshold=0.5)
    assert keep.tolist() == [1, 0, 2] and torch.equal(lowered, scores[keep])
    keep, lowered = soft_nms(boxes, scores, labels, decay="gaussian")
    assert keep.tolist() == [1, 2, 0]
    found = dict(zip(keep.tolist(), lowered.tolist(), strict=True))
    assert found[0] == pytest.approx(0.6 * math.exp(-((1 / 3) ** 2) / 0.5))
    assert found[2] == 0.5
    keep, lowered = soft_nms(boxes[:0], scores[:0], labels[:0], decay="gaussian")
    assert len(keep) == len(lowered) == 0 and keep.dtype == torch.int64


def test_a_thousand_boxes_are_quick() -> None:
    boxes, scores, _ = random_boxes(1000)
    labels = torch.ones(1000, dtype=torch.int64)
    times = []
    for _ in range(5):
        start = time.process_time()
        keep, _ = soft_nms(boxes, scores, labels, decay="gaussian")
        times.append(time.process_time() - start)
    assert len(keep) > 100
    assert min(times) < 0.05, times
