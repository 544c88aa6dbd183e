"""Under bf16 autocast every detector's last layers give what fp32 arithmetic gives."""

import pytest
import torch
from torch import Tensor, nn

from detnet.detectors import DETECTORS, create
from detnet.detectors.last_layers import keep_precise
from detnet.inference.fuse import fuse
from tests.contracts import scene

# Names of each detector's last layers, by their ends: what losses and detections are made of.
REGIONS = ("rpn.head.cls_logits", "rpn.head.bbox_pred")
BOXES = ("box_predictor.cls_score", "box_predictor.bbox_pred")
STAGES = tuple(
    f"box_predictor.{stage}.{name}" for stage in "012" for name in ("cls_score", "bbox_pred")
)
DENSE = ("classification_head.cls_logits", "regression_head.bbox_reg")
LEVELS = tuple(
    f"{head}_head.module_list.{level}"
    for head in ("classification", "regression")
    for level in range(6)
)
LAST: dict[str, tuple[str, ...]] = {
    "cascade_rcnn_fpn": REGIONS + STAGES,
    "faster_rcnn": REGIONS + BOXES,
    "faster_rcnn_fpn": REGIONS + BOXES,
    "fcos": (*DENSE, "regression_head.bbox_ctrness"),
    "keypoint_rcnn_fpn": (*REGIONS, *BOXES, "keypoint_predictor.kps_score_lowres"),
    "mask_rcnn_fpn": (*REGIONS, *BOXES, "mask_predictor.mask_fcn_logits"),
    "retinanet": DENSE,
    "rfcn": REGIONS + BOXES,
    "ssd": LEVELS,
    "yolo": ("head.place_head", "head.classification_head.cls_logits"),
}


def last_layers(model: nn.Module, detector: str) -> dict[str, nn.Module]:
    found = {n: m for n, m in model.named_modules() if n.endswith(LAST[detector])}
    assert len(found) == len(LAST[detector]), sorted(found)
    return found


def listen(model: nn.Module, detector: str) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """What goes into each last layer and what comes out, call after call."""
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, layer in last_layers(model, detector).items():

        def note(layer: nn.Module, given: tuple[Tensor], out: Tensor, name: str = name) -> None:
            calls.setdefault(name, []).append((given[0].detach(), out.detach()))

        layer.register_forward_hook(note)
    return calls


def in_fp32(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer by torch's own arithmetic, outside of autocast."""
    plain = nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d
    plain = nn.ConvTranspose2d if isinstance(layer, nn.ConvTranspose2d) else plain
    with torch.no_grad():
        result: Tensor = plain.forward(layer, x.float())
    return result


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("detector", DETECTORS)
def test_last_layers_are_fp32_under_autocast(detector: str, folded: bool) -> None:
    torch.manual_seed(0)
    options = {"width": 0.125, "min_size": 96, "max_size": 160, "num_classes": 4}
    model = create(detector, backbone="detnet59", **options)
    if "score_threshold" in model.info.options:
        model.info.options["score_threshold"] = 0.0
    images, targets = scene(
        masks=detector == "mask_rcnn_fpn", keypoints=detector == "keypoint_rcnn_fpn"
    )
    if folded:
        model = fuse(model.eval(), dtype=torch.bfloat16)
    calls = listen(model, detector)
    with torch.autocast("cpu", torch.bfloat16):
        if folded:
            getattr(model, "roi_heads", model).score_thresh = 0.0
            model(images)
        else:
            losses = model.train()(images, targets)
            torch.stack(list(losses.values())).sum().backward()
    layers = last_layers(model, detector)
    assert calls.keys() == layers.keys()
    cast = 0
    for name, pairs in calls.items():
        for given, out in pairs:
            exact = in_fp32(layers[name], given)
            assert out.dtype == torch.float32, name
            assert torch.equal(out, exact), name
            assert len(out.unique()) == len(exact.unique()), name
            # In bf16 the values are a small share of these: that the test can tell.
            if out.numel() > 5000:
                assert len(out.bfloat16().unique()) < 0.8 * len(out.unique()), name
            cast += given.dtype == torch.bfloat16
        weight = layers[name].weight
        assert weight.dtype == torch.float32
        assert folded or (weight.grad is not None and weight.grad.dtype == torch.float32)
    assert cast  # the rest was in bf16: otherwise nothing was tried


def test_double_precision_stays_and_values_too() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 1)
    x = torch.rand(2, 3, 5, 7)
    before = layer(x)
    names, state = list(layer.state_dict()), torch.get_rng_state()
    keep_precise(layer)
    assert torch.equal(layer(x), before) and list(layer.state_dict()) == names
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.double()(x.double()).dtype == torch.float64
    with pytest.raises(ValueError, match="ReLU is none of Conv2d, ConvTranspose2d, Linear"):
        keep_precise(nn.ReLU())
