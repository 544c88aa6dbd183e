from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnet.detectors import create
from detnet.detectors.files import load_model, save_model
from detnet.detectors.supernet import take_path
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
