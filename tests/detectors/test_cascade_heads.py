import math

import pytest
import torch
from torch import nn

from detnet.detectors.cascade_rcnn_fpn import AgnosticPredictor, CascadeHeads
from detnet.detectors.heads import RegionOptions
from detnet.detectors.roi import LevelPooler

SHAPES = [(128, 128)]
OBJECT = [{"boxes": torch.tensor([[0.0, 0.0, 100.0, 100.0]]), "labels": torch.tensor([2])}]


def cascade() -> CascadeHeads:
    """Three stages on one level of zeros, whose predictors say what their biases are."""
    predictors = [AgnosticPredictor(49, 3) for _ in range(3)]
    for predictor in predictors:
        for layer in (predictor.cls_score, predictor.bbox_pred):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return CascadeHeads(
        [nn.Flatten() for _ in range(3)],
        predictors,
        ious=(0.5, 0.6, 0.7),
        loss_weights=(1.0, 0.5, 0.25),
        options=RegionOptions(roi_batch=8, max_detections=10),
        box_roi_pool=LevelPooler(["p2"], [4], output_size=7),
    )


def test_each_stage_is_stricter_than_the_one_before() -> None:
    """Boxes that overlap the object by .45, .55, .65 and .75."""
    heads = cascade()
    boxes = [torch.tensor([[0.0, 0.0, width, 100.0] for width in (45.0, 55.0, 65.0, 75.0)])]
    labels = [heads.match(stage, boxes, OBJECT)[0][0].tolist() for stage in range(3)]
    assert labels == [[0, 2, 2, 2], [0, 0, 2, 2], [0, 0, 0, 2]]


def test_later_stages_encode_the_same_way_in_larger_numbers() -> None:
    heads = cascade()
    box = [torch.tensor([[0.0, 0.0, 80.0, 100.0]])]
    for stage in range(3):
        _, (aim,) = heads.match(stage, box, OBJECT)
        expected = [10 * (50 - 40) / 80, 0, 5 * math.log(100 / 80), 0]
        assert aim[0].tolist() == pytest.approx([(stage + 1) * e for e in expected], abs=1e-6)
        (moved,) = heads.move(stage, aim, box, SHAPES)
        torch.testing.assert_close(moved, OBJECT[0]["boxes"])
    (clipped,) = heads.move(0, torch.tensor([[10.0, -10.0, 0.0, 0.0]]), box, SHAPES)
    assert clipped.tolist() == [[80, 0, 128, 0]]


def test_images_without_objects_are_background() -> None:
    heads = cascade()
    box = torch.tensor([[0.0, 0.0, 80.0, 100.0]])
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    labels, aims = heads.match(1, [box, box], [nothing, OBJECT[0]])
    assert [own.tolist() for own in labels] == [[0], [2]]
    assert aims[0].isfinite().all()


def test_scores_are_averaged_over_the_stages_and_boxes_are_the_last_one_s() -> None:
    """Every stage moves the box by a tenth of its width; the stages disagree about the class."""
    heads = cascade().eval()
    probabilities = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5]])
    with torch.no_grad():
        for stage in range(3):
            heads.box_predictor[stage].cls_score.bias.copy_(probabilities[stage].log())
            heads.box_predictor[stage].bbox_pred.bias[0] = stage + 1.0
        features = {"p2": torch.zeros(1, 1, 32, 32)}
        found, losses = heads(features, [torch.tensor([[10.0, 10.0, 30.0, 20.0]])], SHAPES)
    assert losses == {}
    assert found[0]["labels"].tolist() == [2, 1]
    assert found[0]["scores"].tolist() == pytest.approx([0.5, 0.3])
    torch.testing.assert_close(found[0]["boxes"], torch.tensor([[16.0, 10, 36, 20]] * 2))


def test_losses_of_the_stages_are_weighted_and_each_takes_the_boxes_moved_before() -> None:
    """One box .55 on the object; the first stage moves it to .65, the second leaves it."""
    heads = cascade().train()
    with torch.no_grad():
        bias = heads.box_predictor[0].bbox_pred.bias
        bias[0], bias[2] = 10 * 5 / 55, 5 * math.log(65 / 55)
    box = torch.tensor([[0.0, 0.0, 55.0, 100.0]])
    _, losses = heads({"p2": torch.zeros(1, 1, 32, 32)}, [box], SHAPES, OBJECT)
    # The object itself is among the regions, and moved as well: to 4.5 to 122.7 pixels.
    first = torch.tensor([[0.0, 0.0, 55.0, 100.0], [0.0, 0.0, 100.0, 100.0]])
    second = torch.tensor([[0.0, 0.0, 65.0, 100.0], [0.0, 0.0, 0.0, 100.0]])
    middle, width = 50 + 100 * 5 / 55, 100 * 65 / 55
    second[1, 0], second[1, 2] = middle - width / 2, middle + width / 2
    second[1, 0].clamp_(min=0)
    labels = [heads.match(s, [b], OBJECT)[0][0] for s, b in enumerate((first, second, second))]
    assert [own.tolist() for own in labels] == [[2, 2], [2, 2], [0, 2]]
    for stage, weight in enumerate((1.0, 0.5, 0.25)):
        assert losses[f"loss_classifier_{stage + 1}"].item() == pytest.approx(weight * math.log(3))
    _, (aims,) = heads.match(1, [second], OBJECT)
    errors = nn.functional.smooth_l1_loss(torch.zeros(2, 4), aims, reduction="sum")
    assert losses["loss_box_reg_2"].item() == pytest.approx(0.5 * errors.item() / 2, rel=1e-4)
    # A stage learns from its own loss only, not from where its boxes lead the next one.
    (gradient,) = torch.autograd.grad(losses["loss_box_reg_2"], [bias], allow_unused=True)
    assert gradient is None
