"""The names of torchvision's ResNets, which timm and many others keep.

So does the community's DetNet-59, guoruoqian/DetNet_pytorch and its forks, but for the projection
that begins stages 5 and 6 (`layer4`, `layer5`).
"""

import re
from collections.abc import Mapping

from torch import Tensor

from detnet.backbones.weights.layout import IMAGENET_RGB, Layout, State
from detnet.errors import InputError

_STAGE = re.compile(r"layer(\d+)\.(.+)")
_OURS = re.compile(r"stages\.c(\d+)\.(.+)")
_EXTRA_CONV = re.compile(r"(layer[45]\.0)\.extra_conv\.")
_DOWNSAMPLE = re.compile(r"(layer[45]\.0)\.downsample\.")


def from_torchvision(state: Mapping[str, Tensor]) -> State:
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


def to_torchvision(state: Mapping[str, Tensor]) -> State:
    """Renames the weights of one of our ResNets to torchvision's names.

    Raises:
        InputError: it is a network that torchvision does not have.
    """
    if any(name.startswith("stages.c6.") for name in state):
        raise InputError("torchvision and timm have no DetNet: use the layout detnet_pytorch")
    return rename_stages(state)


def rename_stages(state: Mapping[str, Tensor]) -> State:
    """Renames stem and stages, the inverse of `from_torchvision`.

    Raises:
        InputError: it is no network of bottlenecks.
    """
    if "stages.c2.0.conv1.weight" not in state:
        raise InputError("only networks of bottlenecks (ResNets and DetNets) have these names")
    renamed = {}
    for name, value in state.items():
        if match := _OURS.fullmatch(name):
            name = f"layer{int(match[1]) - 1}.{match[2]}"
        elif name.startswith(("stem.conv.", "stem.bn.")):
            name = name.removeprefix("stem.").replace(".", "1.", 1)
        renamed[name] = value
    return renamed


TORCHVISION = Layout(
    name="torchvision",
    title="torchvision's or timm's ResNet",
    marker="layer1.0.conv1.weight",
    to_ours=from_torchvision,
    from_ours=to_torchvision,
    options={"stride_in": "3x3", **IMAGENET_RGB},
)


def from_detnet_pytorch(state: Mapping[str, Tensor]) -> State:
    """Renames the weights of that DetNet-59 to ours; its stride sits in the 3×3."""
    return from_torchvision(
        {_EXTRA_CONV.sub(r"\1.downsample.", name): value for name, value in state.items()}
    )


def to_detnet_pytorch(state: Mapping[str, Tensor]) -> State:
    """Renames the weights of one of our DetNets to that project's names.

    Raises:
        InputError: it is no DetNet.
    """
    if "stages.c6.0.conv1.weight" not in state:
        raise InputError("DetNet_pytorch has DetNets only")
    return {
        _DOWNSAMPLE.sub(r"\1.extra_conv.", name): value
        for name, value in rename_stages(state).items()
    }


DETNET_PYTORCH = Layout(
    name="detnet_pytorch",
    title="DetNet_pytorch's DetNet",
    marker="layer5.0.conv1.weight",
    to_ours=from_detnet_pytorch,
    from_ours=to_detnet_pytorch,
    options={"stride_in": "3x3", **IMAGENET_RGB},
)
