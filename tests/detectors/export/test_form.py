"""A form gives the detections of its detector, whatever its options and the size of the images."""

from typing import Any

import pytest
import torch
from torch import Tensor

from detnet.detectors import DETECTORS, create
from detnet.detectors.base import Detector, SimpleDetector
from detnet.detectors.export import regions
from detnet.detectors.export.form import export_form
from detnet.detectors.export.ops import suppress
from detnet.errors import InputError
from tests.contracts import check_form, sure_detector

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("faster_rcnn_fpn", {"proposals": "per_level", "pre_nms_test": 100, "roi_levels": 5}),
    ("faster_rcnn_fpn", {"anchor_strides": "torchvision", "box_head": "4conv1fc"}),
    ("mask_rcnn_fpn", {"roi_canonical_size": 48}),
    ("faster_rcnn", {"box_head": "stages", "level": "c4"}),
    ("rfcn", {"pooling": "pool", "vote": "mean"}),
    ("rfcn", {"dilate": False, "channel_order": "bgr"}),
    ("retinanet", {"anchor_strides": "torchvision", "channel_order": "bgr"}),
    ("fcos", {"threshold_on": "score", "coarse_from": "c"}),
    ("yolo", {"passthrough": False}),
]


@pytest.mark.parametrize("detector", list(DETECTORS))
def test_form_equals_detector(detector: str) -> None:
    check_form(sure_detector(detector, backbone="detnet59"))


@pytest.mark.slow
@pytest.mark.parametrize(("detector", "options"), OPTIONS)
def test_options(detector: str, options: dict[str, Any]) -> None:
    check_form(sure_detector(detector, backbone="resnet50", **options), batch=2)


@torch.no_grad()
@pytest.mark.parametrize("detector", ["faster_rcnn_fpn", "yolo"])
def test_an_image_without_detections(detector: str) -> None:
    model = create(detector, num_classes=4, width=0.125, min_size=64).eval()
    model.post_processor.score_thresh = 1.0
    form = export_form(model)
    boxes, scores, labels, count = form(torch.zeros(2, 3, 40, 64, dtype=torch.uint8))
    assert boxes.shape == (2, 100, 4) and scores.shape == labels.shape == (2, 100)
    assert count.tolist() == [0, 0] and (scores < 0).all()
    assert not boxes.any() and not labels.any()


def test_cells_below_the_class_threshold_take_no_candidates_place() -> None:
    model: Any = sure_detector("fcos", backbone="detnet59")
    model.topk_candidates, model.class_thresh = 20, 0.6
    check_form(model)


@torch.no_grad()
def test_proposals_keep_the_order_of_their_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all probabilities are 1, whose last bit each runtime rounds in its own way."""
    torch.manual_seed(0)
    model: Any = create("faster_rcnn_fpn", num_classes=4, width=0.125, min_size=64).eval()
    torch.nn.init.constant_(model.rpn.head.cls_logits.bias, 30.0)
    seen = []

    def watched(boxes: Tensor, scores: Tensor, *others: Any) -> Tensor:
        seen.append(scores)
        return suppress(boxes, scores, *others)

    monkeypatch.setattr(regions, "suppress", watched)
    export_form(model)(torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8))
    candidates = seen[0][seen[0] >= 0]
    assert (candidates.diff() <= 0).all()
    assert len(candidates.unique()) > len(candidates) / 2 > 200


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(InputError, match="SimpleDetector cannot be exported"):
        export_form(SimpleDetector())
    model: Detector = create("retinanet", num_classes=4, width=0.125)
    model.post_processor.suppress = lambda boxes, scores, labels: (labels, scores)
    with pytest.raises(InputError, match="soft"):
        export_form(model)


def test_the_model_is_left_alone() -> None:
    model = create("retinanet", num_classes=4, width=0.125)
    kinds = [type(module) for module in model.modules()]
    form = export_form(model)
    assert [type(module) for module in model.modules()] == kinds
    assert model.training and not form.training
    torch.testing.assert_close(form.model.state_dict(), model.state_dict())
