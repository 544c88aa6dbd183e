"""Opens weights of any layout known, and fills a detector with them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from detnet.backbones.weights import pretrained
from detnet.backbones.weights.layout import State
from detnet.backbones.weights.loading import LoadReport, load_weights
from detnet.backbones.weights.pretrained import PretrainedWeights
from detnet.backbones.weights.torchvision import from_torchvision as backbone_from_torchvision
from detnet.detectors import DETECTORS, option_defaults
from detnet.detectors.base import Detector, info_of

# What torchvision's detectors have been trained with; weights keep it.
TORCHVISION_RULES: dict[str, Any] = {"anchor_strides": "torchvision", "threshold_on": "score"}
# torchvision's published files have the names of its earlier versions, without the second number.
_LEVEL = re.compile(r"backbone\.fpn\.(inner|layer)_blocks\.(\d+)\.(?:0\.)?(weight|bias)")
_OLD_RPN = re.compile(r"(rpn\.head\.conv)\.(weight|bias)")
_OLD_RETINANET = re.compile(r"(head\.\w+_head\.conv)\.([0246])\.(weight|bias)")


def open_weights(path: str | Path, *, place: str = "") -> PretrainedWeights:
    """Reads the weights of a file: of ours, or of any layout known, torchvision's detectors too.

    Args:
        path: the file.
        place: how messages name it; its path by default.

    Raises:
        InputError: the file cannot be read, or holds weights of no network that we know.
    """
    source = pretrained.open_weights(path, place=place)
    if source.layout == "torchvision" and any(_LEVEL.fullmatch(n) for n in source.others):
        finest = 3 if any(n.startswith("head.") for n in source.others) else 2
        others = from_torchvision(source.others, finest=finest)
        rules = {name: TORCHVISION_RULES[name] for name in _rules_of(others)}
        options = {**source.options, **rules}
        return replace(source, others=others, options=options, title="a detector of torchvision's")
    if detector := source.header.get("detector"):
        options = source.header.get("options", {})
        rules = {name: options[name] for name in DETECTORS[detector].weight_options}
        return replace(source, options={**source.options, **rules})
    return source


def rules_for(detector: str, source: PretrainedWeights) -> dict[str, Any]:
    """The options that a file's heads were trained with, where they fit a detector.

    Those of another kind of detector are not taken over, and neither are their rules.
    """
    rules = {name: source.options[name] for name in TORCHVISION_RULES if name in source.options}
    known = set(DETECTORS[detector].weight_options)
    regions = any(name.startswith("rpn.") for name in source.others)
    fits = known == rules.keys() and regions == ("rpn_batch" in option_defaults(detector))
    return rules if fits else {}


def _rules_of(others: Mapping[str, Tensor]) -> set[str]:
    """The rules that detectors with these weights have; FCOS alone has that of a threshold."""
    points = any(".bbox_ctrness." in name for name in others)
    return set(TORCHVISION_RULES) if points else {"anchor_strides"}


def load_into_detector(model: Detector, source: PretrainedWeights) -> LoadReport:
    """Loads a file's weights into a detector of ours.

    A classifier's or another project's backbone goes under the detector. Class layers stay fresh
    unless the file is a detector's of the same categories.

    Raises:
        InputError: they are another network's.
    """
    info = info_of(model)
    theirs = source.header.get("categories")

    def skip(name: str) -> bool:
        if not model.is_class_layer(name):
            return False
        fields = ("id", "name", "keypoints") if "keypoint_predictor." in name else ("id", "name")
        return _said(theirs, fields) != _said(info.categories, fields) or not source.header

    return load_weights(model, source, name=info.backbone, skip=skip)


def _said(categories: Iterable[Mapping[str, Any]] | None, fields: Sequence[str]) -> list[list[Any]]:
    """What categories say in some fields; how keypoints are drawn matters to no weight."""
    return [[each.get(field) for field in fields] for each in categories or ()]


def from_torchvision(state: Mapping[str, Tensor], *, finest: int = 2) -> State:
    """Renames a state dict of torchvision's ResNet FPN detectors to our names.

    It fits `faster_rcnn_fpn`, `mask_rcnn_fpn`, `keypoint_rcnn_fpn` (finest level 2), `fcos` and
    `retinanet` (finest level 3, with `coarse_from="p"`) on a ResNet with `stride_in="3x3"`.

    Args:
        state: of `fasterrcnn_resnet50_fpn`, `maskrcnn_resnet50_fpn`, `keypointrcnn_resnet50_fpn`,
            `retinanet_resnet50_fpn` or `fcos_resnet50_fpn`.
        finest: number of the pyramid's finest level.
    """
    renamed = {}
    points = any(".bbox_ctrness." in name for name in state)  # FCOS's layers are named as they are
    for name, value in state.items():
        if name.startswith("backbone.body."):
            short = name.removeprefix("backbone.body.")
            ((ours, _),) = backbone_from_torchvision({short: value}).items()
            name = f"backbone.backbone.{ours}"
        elif match := _LEVEL.fullmatch(name):
            side = "lateral" if match[1] == "inner" else "output"
            name = f"backbone.neck.{side}.p{finest + int(match[2])}.{match[3]}"
        elif name.startswith("backbone.fpn.extra_blocks."):
            name = name.replace("backbone.fpn.extra_blocks.", "backbone.neck.extra_convs.")
        elif match := _OLD_RPN.fullmatch(name):
            name = f"{match[1]}.0.0.{match[2]}"
        elif not points and (match := _OLD_RETINANET.fullmatch(name)):
            name = f"{match[1]}.{int(match[2]) // 2}.0.{match[3]}"
        renamed[name] = value
    return renamed
