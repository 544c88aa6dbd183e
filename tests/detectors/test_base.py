from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from detnet.detectors import DETECTORS, create, option_defaults
from detnet.detectors.base import info_of


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
    "object_weight": (4.5, lambda model: model.weights.object_weight),
    "noobject_weight": (0.5, lambda model: model.weights.noobject_weight),
    "box_weight": (1.5, lambda model: model.weights.box_weight),
    "class_weight": (2.5, lambda model: model.weights.class_weight),
    "ignore_threshold": (0.65, lambda model: model.weights.ignore_threshold),
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
