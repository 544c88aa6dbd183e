"""Which weights mean nothing under other categories."""

from pathlib import Path
from typing import Any

import pytest

from detnet.detectors import DETECTORS, create
from detnet.detectors.base import info_of
from detnet.detectors.files import save_model
from detnet.detectors.weights import load_into_detector, open_weights
from tests.contracts import check_class_layers

CORNERS = {"id": 1, "name": "disk", "keypoints": ["top", "foot"], "skeleton": [[1, 2]]}


@pytest.mark.parametrize("detector", DETECTORS)
def test_layers_that_grow_with_the_classes_are_class_layers(detector: str) -> None:
    check_class_layers(detector)


@pytest.mark.parametrize(
    ("detector", "changes", "fresh"),
    [
        ("keypoint_rcnn_fpn", {"skeleton": []}, set()),
        ("keypoint_rcnn_fpn", {"keypoints": ["head", "foot"]}, {"keypoint_predictor"}),
        ("keypoint_rcnn_fpn", {"name": "ring"}, {"keypoint_predictor", "box_predictor"}),
        ("faster_rcnn_fpn", {"keypoints": [], "skeleton": []}, set()),
    ],
)
def test_layers_stay_where_their_classes_do(
    detector: str, changes: dict[str, Any], fresh: set[str], tmp_path: Path
) -> None:
    """How keypoints are drawn, and that they are there, matters to no class of boxes."""
    options: dict[str, Any] = {"backbone": "resnet50", "num_classes": 2, "width": 0.125}
    trained = create("keypoint_rcnn_fpn", **options, num_keypoints=2)
    info_of(trained).categories = [CORNERS]
    save_model(tmp_path / "model.safetensors", trained)
    more = {"num_keypoints": 2} if detector == "keypoint_rcnn_fpn" else {}
    model = create(detector, **options, **more)
    info_of(model).categories = [CORNERS | changes]
    report = load_into_detector(model, open_weights(tmp_path / "model.safetensors"))
    assert {name.split(".")[1] for name in report.fresh} == fresh
