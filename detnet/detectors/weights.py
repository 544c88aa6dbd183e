"""Carries torchvision's detector weights over to ours, by renaming."""

import re

from torch import Tensor

from detnet.backbones.weights import from_torchvision as backbone_from_torchvision

_LEVEL = re.compile(r"backbone\.fpn\.(inner|layer)_blocks\.(\d+)\.0\.(.+)")


def from_torchvision(state: dict[str, Tensor], *, finest: int = 2) -> dict[str, Tensor]:
    """Renames a state dict of torchvision's ResNet FPN detectors to our names.

    It fits `faster_rcnn_fpn`, `mask_rcnn_fpn` (finest level 2) and `retinanet` (finest level 3,
    with `coarse_from="p"`) on a ResNet with `stride_in="3x3"`.

    Args:
        state: of `fasterrcnn_resnet50_fpn`, `maskrcnn_resnet50_fpn` or `retinanet_resnet50_fpn`.
        finest: number of the pyramid's finest level.
    """
    renamed = {}
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
        renamed[name] = value
    return renamed
