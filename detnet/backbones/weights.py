"""Carries backbone weights over from other projects' names."""

import re

from torch import Tensor

_STAGE = re.compile(r"layer(\d+)\.(.+)")


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames a torchvision (or timm) ResNet's weights to ours; the classifier keeps its name.

    Those networks carry the stride in the 3×3: build with `stride_in="3x3"`.

    Args:
        state: names as `conv1.weight`, `bn1.bias`, `layer1.0.conv1.weight`, `fc.weight`.
    """
    renamed = {}
    for name, value in state.items():
        if match := _STAGE.fullmatch(name):
            name = f"stages.c{int(match[1]) + 1}.{match[2]}"
        elif name.startswith(("conv1.", "bn1.")):
            name = f"stem.{name.replace('1.', '.', 1)}"
        renamed[name] = value
    return renamed
