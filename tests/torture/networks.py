"""Tiny model files, detector and classifier, of a space of four blocks."""

from pathlib import Path
from typing import Any

import torch

from tests.search.small_search import SPACE

BACKBONE: dict[str, Any] = {"backbone_options": {"space": SPACE, "path": "0 1 2 3"}, "width": 0.5}
_DETECTOR: dict[str, Any] = {
    "min_size": 64,
    "max_size": 96,
    "pre_nms_test": 100,
    "post_nms_test": 20,
    "score_threshold": 0.0,
}


def write_detector(path: Path) -> None:
    """An untrained detector of three classes."""
    from detnet import create
    from detnet.detectors.base import info_of
    from detnet.detectors.files import save_model

    torch.manual_seed(0)
    model = create(
        "faster_rcnn_fpn", backbone="searched", num_classes=4, norm="sync", **BACKBONE, **_DETECTOR
    )
    names = ("disk", "square", "triangle")
    info_of(model).categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    save_model(path, model)


def write_classifier(path: Path) -> None:
    """An untrained classifier of two classes."""
    from detnet.backbones import build_backbone
    from detnet.backbones.base import Classifier
    from detnet.backbones.files import ClassifierInfo, save_classifier

    torch.manual_seed(0)
    options = {"width": 0.5, **BACKBONE["backbone_options"]}
    model = Classifier(build_backbone("searched", **options), 2)
    info = ClassifierInfo("searched", ("cat", "dog"), options, input_size=32, short_side=37)
    save_classifier(path, info, model.state_dict())


def write_resnet(path: Path) -> None:
    """An untrained ResNet-50 of an eighth of its width, which other projects' layouts know."""
    from detnet.backbones import build_backbone
    from detnet.backbones.base import Classifier
    from detnet.backbones.files import ClassifierInfo, save_classifier

    torch.manual_seed(0)
    model = Classifier(build_backbone("resnet50", width=0.125), 2)
    info = ClassifierInfo("resnet50", ("cat", "dog"), {"width": 0.125}, input_size=32)
    save_classifier(path, info, model.state_dict())
