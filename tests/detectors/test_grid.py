"""YOLO's boxes on a grid, by hand: where objects are learnt, and what each part of the loss is."""

import math

import pytest
import torch
from torch import Tensor

from detnet.detectors.grid import (
    GridOutput,
    YOLOOptions,
    assign,
    best_overlap,
    decode,
    grid_losses,
    paired_iou,
    shape_iou,
)

ANCHORS = torch.tensor([[20.0, 40.0], [40.0, 20.0]])


STEP = (32.0, 32.0)


RELEASE = YOLOOptions()


# Centre (40, 44): column 1, row 1; a quarter and three eighths of a cell in; wider than high.
BOX = torch.tensor([[15.0, 34.0, 65.0, 54.0]])


def silence(classes: int = 3) -> GridOutput:
    """All zeros: each box is its anchor around its cell's middle, as likely there as not."""
    shape = (1, 2, 3, 2)
    return GridOutput(torch.zeros(*shape, 4), torch.zeros(shape), torch.zeros(*shape, classes))


def losses(output: GridOutput, boxes: Tensor, labels: list[int], **changes: object) -> dict:
    options = {"options": RELEASE, "step": STEP, "image_sizes": [(64, 96)], **changes}
    target = {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64)}
    return grid_losses(output, [target], ANCHORS, **options)


def test_zeros_are_anchors_in_the_middle_of_their_cells() -> None:
    boxes = decode(torch.zeros(2, 3, 2, 4), ANCHORS, STEP)
    assert boxes[0, 0, 0].tolist() == [6.0, -4.0, 26.0, 36.0]
    assert boxes[1, 2, 1].tolist() == [60.0, 38.0, 100.0, 58.0]


def test_offsets_move_and_scale() -> None:
    offsets = torch.zeros(2, 3, 2, 4)
    offsets[1, 0, 1] = torch.tensor([math.log(3), -math.log(3), math.log(2), 100.0])
    left, top, right, bottom = decode(offsets, ANCHORS, (16.0, 32.0))[1, 0, 1].tolist()
    assert (left + right) / 2 == pytest.approx(0.75 * 32)  # the sigmoid of log 3
    assert (top + bottom) / 2 == pytest.approx((1 + 0.25) * 16, abs=1e-3)
    assert right - left == pytest.approx(80)
    assert bottom - top == pytest.approx(20 * math.exp(4), rel=1e-4)  # held in, never infinite


def test_an_object_goes_to_its_centre_and_its_shape() -> None:
    at = assign(BOX, ANCHORS, STEP, (2, 3))
    assert (at.row.tolist(), at.column.tolist(), at.anchor.tolist()) == ([1], [1], [1])
    overlaps = shape_iou(torch.tensor([[50.0, 20.0]]), ANCHORS)
    assert overlaps[0].tolist() == pytest.approx([400 / 1400, 800 / 1000])


def test_a_centre_on_the_border_is_in_the_last_cell() -> None:
    boxes = torch.tensor([[86.0, 54.0, 106.0, 74.0]])  # around (96, 64)
    at = assign(boxes, ANCHORS, STEP, (2, 3))
    assert (at.row.item(), at.column.item()) == (1, 2)


def test_of_two_objects_at_one_place_the_last_is_kept() -> None:
    near = BOX + 1
    other = torch.tensor([[30.0, 24.0, 50.0, 64.0]])  # the same cell, but higher than wide
    at = assign(torch.cat([BOX, near, other]), ANCHORS, STEP, (2, 3))
    assert at.index.tolist() == [1, 2] and at.anchor.tolist() == [1, 0]
    assert assign(torch.zeros(0, 4), ANCHORS, STEP, (2, 3)).index.shape == (0,)


def test_losses_of_one_box_by_hand() -> None:
    """Cell (1, 1), second anchor: its box is 28, 38, 68, 58; common 37 × 16 with the object's."""
    found = losses(silence(), BOX, [2])
    overlap = 37 * 16 / (1000 + 800 - 37 * 16)
    # Eleven others are taught to be none; a half of each squared error of 0.5.
    expected = 5 * (overlap - 0.5) ** 2 / 2 + 11 * 0.25 / 2
    assert found["loss_objectness"] == pytest.approx(expected, rel=1e-5)
    weight = 2 - 50 * 20 / (64 * 96)
    squares = (0.5 - 0.25) ** 2 + (0.5 - 0.375) ** 2 + math.log(50 / 40) ** 2
    assert found["loss_box_reg"] == pytest.approx(weight * squares / 2, rel=1e-5)
    assert found["loss_classifier"] == pytest.approx(math.log(3), rel=1e-5)


def test_cells_need_not_be_square() -> None:
    """Cells 16 high and 32 wide: the object's centre (40, 25) is a quarter and 9/16 of one in."""
    box = torch.tensor([[15.0, 15.0, 65.0, 35.0]])
    found = losses(silence(), box, [2], step=(16.0, 32.0), image_sizes=[(32, 96)])
    squares = (0.5 - 0.25) ** 2 + (0.5 - 0.5625) ** 2 + math.log(50 / 40) ** 2
    weight = 2 - 50 * 20 / (32 * 96)
    assert found["loss_box_reg"] == pytest.approx(weight * squares / 2, rel=1e-5)


def test_boxes_near_an_object_are_not_taught_to_be_none() -> None:
    """The other shape of cell (1, 1) says the object's very box; ten others are taught."""
    output = silence()
    aim = [math.log(0.25 / 0.75), math.log(0.375 / 0.625), math.log(50 / 20), math.log(20 / 40)]
    output.offsets[0, 1, 1, 0] = torch.tensor(aim)
    near = decode(output.offsets[0], ANCHORS, STEP)[1, 1, 0]
    assert paired_iou(near[None], BOX).item() == pytest.approx(1)
    found = losses(output, BOX, [2])
    overlap = 37 * 16 / (1000 + 800 - 37 * 16)
    expected = 5 * (overlap - 0.5) ** 2 / 2 + 10 * 0.25 / 2
    assert found["loss_objectness"] == pytest.approx(expected, rel=1e-5)


def test_a_perfect_answer_costs_nothing() -> None:
    output = silence()
    output.objectness.fill_(-50.0)
    output.objectness[0, 1, 1, 1] = 50.0
    aim = [math.log(0.25 / 0.75), math.log(0.375 / 0.625), math.log(50 / 40), 0.0]
    output.offsets[0, 1, 1, 1] = torch.tensor(aim)
    output.classes[0, 1, 1, 1, 1] = 50.0  # channel 1 is label 2
    found = losses(output, BOX, [2])
    assert all(value == pytest.approx(0, abs=1e-5) for value in found.values())
    wrong = losses(output, BOX, [1])
    assert wrong["loss_classifier"] == pytest.approx(50.0)


def test_without_objects_every_place_is_none() -> None:
    found = losses(silence(), torch.zeros(0, 4), [])
    assert found["loss_objectness"] == pytest.approx(12 * 0.25 / 2)
    assert found["loss_box_reg"] == found["loss_classifier"] == 0


def test_overlaps_with_very_many_objects() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    truth = torch.tensor([[0.0, 0.0, 10.0, 5.0]]).repeat(700, 1)
    truth[650] = torch.tensor([50.0, 50.0, 60.0, 60.0])
    assert best_overlap(boxes, truth).tolist() == [0.5, 1.0]
    assert best_overlap(boxes, truth[:0]).tolist() == [0.0, 0.0]
