import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnet.backbones.spaces.space import take_path
from detnet.detectors import create
from detnet.detectors.cascade_rcnn_fpn import AgnosticPredictor, CascadeHeads
from detnet.detectors.files import load_model, save_model
from detnet.detectors.heads import RegionOptions
from detnet.detectors.roi import LevelPooler
from detnet.errors import InputError
from detnet.inference.fuse import fuse
from tests.contracts import scene

SMALL: dict[str, Any] = {"num_classes": 4, "width": 0.125, "min_size": 96, "max_size": 160}
FEW: dict[str, Any] = {
    "pre_nms_train": 200,
    "post_nms_train": 50,
    "pre_nms_test": 100,
    "post_nms_test": 20,
    "roi_batch": 16,
}
# What the three of this family have in common is tested here for all of them.
FAMILY = ["cascade_rcnn_fpn", "faster_rcnn", "rfcn"]


def test_stages_have_heads_of_their_own_and_share_the_pooling() -> None:
    model = create("cascade_rcnn_fpn", **SMALL, head_norm="batch", box_head="4conv1fc")
    heads = model.roi_heads
    assert len(heads.box_head) == len(heads.box_predictor) == 3
    assert len({id(p) for p in heads.parameters()}) == len(list(heads.parameters()))
    assert [coder.weights[0] for coder in heads.coders] == [10, 20, 30]
    assert heads.box_coder.weights == (30, 30, 15, 15)
    sides = torch.tensor([56.0, 130.0, 300.0, 500.0])
    boxes = torch.stack([torch.zeros(4), torch.zeros(4), sides, sides], dim=1)
    # DetNet's P4 and P5 have one stride, and each its own regions.
    assert heads.box_roi_pool.map_levels([boxes]).tolist() == [0, 1, 2, 3]
    assert heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 16]


def test_losses_and_options(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"stage_ious": (0.5, 0.75), "stage_loss_weights": (1.0, 0.5)}
    model = create("cascade_rcnn_fpn", backbone="resnet50", **SMALL, **FEW, **options)
    losses = model(*scene(masks=False))
    kinds = ("loss_classifier_1", "loss_box_reg_1", "loss_classifier_2", "loss_box_reg_2")
    assert list(losses) == [*kinds, "loss_objectness", "loss_rpn_box_reg"]
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
        ({"stage_ious": (0.7, 0.5, 0.6)}, "stage_ious must rise within 0 … 1"),
        ({"stage_ious": ()}, "stage_ious must rise"),
        ({"stage_loss_weights": (1.0, 0.5)}, "must be 3 positive numbers, one a stage"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create("cascade_rcnn_fpn", **SMALL, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.processor
@pytest.mark.parametrize("name", FAMILY)
def test_half_precision_and_channels_last(name: str) -> None:
    torch.manual_seed(0)
    model = create(name, **SMALL, **FEW).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*scene(masks=False))
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model.eval()([torch.rand(3, 80, 120)])[0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32


def with_statistics(model: nn.Module) -> nn.Module:
    """A model whose norms do something, as after training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low in ((module.weight.data, 0.5), (module.running_var, 0.5)):
                assert isinstance(values, Tensor)
                values.copy_(low + torch.rand(values.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [("cascade_rcnn_fpn", {}), ("faster_rcnn", {"box_head": "stages"}), ("rfcn", {})],
)
def test_fused_for_inference_it_finds_the_same(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = create(name, backbone="resnet50", **SMALL, **FEW, **options, score_threshold=0.0)
    model = with_statistics(model.double())
    with torch.no_grad():  # of random features: boxes shall stay apart
        for key, parameter in model.named_parameters():
            if "bbox_pred" in key:
                parameter.mul_(0.01)
    fused = fuse(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    image = torch.rand(3, 80, 120, dtype=torch.float64)
    with torch.no_grad():
        expected, found = model([image])[0], fused([image])[0]
    assert len(expected["boxes"]) > 10
    assert torch.equal(expected["labels"], found["labels"])
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=0, atol=1e-6)
    torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", FAMILY)
def test_very_small_images_and_very_many_boxes(name: str) -> None:
    """Images smaller than a cell of the coarsest level, and 2,100 objects in one image."""
    torch.manual_seed(0)
    model = create(name, **{**SMALL, "min_size": 6, "max_size": 64}, **FEW)
    tiny = [{"boxes": torch.tensor([[1.0, 1.0, 5.0, 4.0]]), "labels": torch.tensor([1])}]
    corners = torch.rand(2100, 2) * torch.tensor([120.0, 90.0])
    many = [{"boxes": torch.cat([corners, corners + 6], 1), "labels": torch.randint(1, 4, (2100,))}]
    for image, targets in ((torch.rand(3, 6, 9), tiny), (torch.rand(3, 96, 128), many)):
        losses = model.train()([image], targets)
        assert all(value.isfinite() for value in losses.values())
    with torch.no_grad():
        (found,) = model.eval()([torch.rand(3, 6, 9)])
    assert (found["boxes"] <= torch.tensor([9.0, 6, 9, 6])).all()


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("space", ["detnas_small", "detnet"])
def test_supernets(name: str, space: str) -> None:
    """A path is taken; what it leaves out has no gradient, the heads all have one."""
    torch.manual_seed(0)
    options = {"backbone_options": {"space": space}}
    model = create(name, backbone="supernet", **SMALL, **FEW, **options)
    genes = model.backbone.backbone.space.genes
    take_path(model, [len(gene.choices) - 1 for gene in genes])
    losses = model(*scene(masks=False))
    torch.stack(list(losses.values())).sum().backward()
    parts = [*model.rpn.parameters(), *model.roi_heads.parameters()]
    assert all(p.grad is not None for p in parts)
    strides = {f.name: f.stride for f in model.backbone.backbone.feature_info}
    pooler = model.roi_heads.box_roi_pool
    assert pooler.scales == [1 / strides["c" + n[1:]] for n in pooler.featmap_names]


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
