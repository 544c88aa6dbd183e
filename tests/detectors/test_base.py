from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnet.detectors import DETECTORS, create, option_defaults
from detnet.detectors.base import info_of, keep_precise
from detnet.inference.fuse import fuse
from tests.contracts import scene


def test_info_builds_the_same_again() -> None:
    options = {"width": 0.125, "proposals": "per_level", "min_size": 64, "frozen": ("stem", "c2")}
    first = create("mask_rcnn_fpn", backbone="resnet50", num_classes=3, **options)
    info = info_of(first)
    again = create(
        info.detector, backbone=info.backbone, num_classes=info.num_classes, **info.options
    )
    assert info_of(again) == info
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (first, again)]
    assert shapes[0] == shapes[1]
    assert again.rpn.pooled is False
    assert not any(p.requires_grad for p in again.backbone.backbone.stages["c2"].parameters())


def test_other_networks_have_no_info() -> None:
    with pytest.raises(ValueError, match="Conv2d without `info`"):
        info_of(nn.Conv2d(1, 1, 1))


# Where each option has to arrive, with a value that no default has.
ARRIVES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "score_threshold": (
        0.123,  # FCOS's is laid on the class score, before centre-ness
        lambda model: getattr(model, "class_thresh", 0) or model.post_processor.score_thresh,
    ),
    "nms_threshold": (0.345, lambda model: model.post_processor.nms_thresh),
    "max_detections": (37, lambda model: model.post_processor.detections_per_img),
    "max_candidates": (39, lambda model: model.topk_candidates),
    "box_loss_beta": (0.567, lambda model: model.roi_heads.box_loss_beta),
    "roi_batch": (24, lambda model: model.roi_heads.fg_bg_sampler.batch_size_per_image),
    "rpn_batch": (26, lambda model: model.rpn.fg_bg_sampler.batch_size_per_image),
    "pre_nms_train": (201, lambda model: model.rpn._pre_nms_top_n["training"]),
    "pre_nms_test": (202, lambda model: model.rpn._pre_nms_top_n["testing"]),
    "post_nms_train": (203, lambda model: model.rpn._post_nms_top_n["training"]),
    "post_nms_test": (204, lambda model: model.rpn._post_nms_top_n["testing"]),
    "center_radius": (1.75, lambda model: model.center_sampling_radius),
    "negatives": (7.0, lambda model: round(model.neg_to_pos_ratio, 9)),
    "object_weight": (4.5, lambda model: model.options.object_weight),
    "noobject_weight": (0.5, lambda model: model.options.noobject_weight),
    "box_weight": (1.5, lambda model: model.options.box_weight),
    "class_weight": (2.5, lambda model: model.options.class_weight),
    "ignore_threshold": (0.65, lambda model: model.options.ignore_threshold),
    "stage_ious": (
        (0.4, 0.5, 0.8),
        lambda model: tuple(matcher.high_threshold for matcher in model.roi_heads.matchers),
    ),
    "stage_loss_weights": ((1.5, 0.6, 0.2), lambda model: model.roi_heads.loss_weights),
    "num_keypoints": (5, lambda model: model.roi_heads.keypoint_predictor.out_channels),
    "min_size": (72, lambda model: model.transform.min_size[-1]),
    "max_size": (144, lambda model: model.transform.max_size),
    "pixel_mean": ((0.1, 0.2, 0.3), lambda model: tuple(model.transform.image_mean)),
    "pixel_std": ((0.4, 0.5, 0.6), lambda model: tuple(model.transform.image_std)),
}


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_option_arrives_where_it_acts(detector: str) -> None:
    known = option_defaults(detector)
    given = {name: value for name, (value, _) in ARRIVES.items() if name in known}
    assert not any(known[name] == value for name, value in given.items())
    with torch.device("meta"):
        model = create(detector, num_classes=4, width=0.125, **given)
    assert {name: ARRIVES[name][1](model) for name in given} == given


@pytest.mark.parametrize(
    "detector", [name for name in DETECTORS if "rcnn" in name or name == "rfcn"]
)
def test_regions_are_matched_and_drawn_as_detectron_does(detector: str) -> None:
    with torch.device("meta"):
        model: Any = create(detector, num_classes=4, width=0.125)
    first, second = model.rpn, model.roi_heads
    assert (first.proposal_matcher.high_threshold, first.proposal_matcher.low_threshold) == (
        0.7,
        0.3,
    )
    assert (first.fg_bg_sampler.batch_size_per_image, first.fg_bg_sampler.positive_fraction) == (
        256,
        0.5,
    )
    assert first.nms_thresh == 0.7
    matcher = second.proposal_matcher
    assert (matcher.high_threshold, matcher.low_threshold) == (0.5, 0.5)
    assert second.fg_bg_sampler.positive_fraction == 0.25
    scale = (
        3 if detector == "cascade_rcnn_fpn" else 1
    )  # of its last stage, which gives the boxes out
    assert tuple(second.box_coder.weights) == (10.0 * scale, 10.0 * scale, 5.0 * scale, 5.0 * scale)


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
