"""The names of the community's DetNet-59, guoruoqian/DetNet_pytorch and its forks.

They are torchvision's, but for the projection that begins stages 5 and 6 (`layer4`, `layer5`).
"""

import re
from collections.abc import Mapping

from torch import Tensor

from detnet.backbones.weights.layout import IMAGENET_RGB, Layout, State
from detnet.backbones.weights.torchvision import from_torchvision, rename_stages
from detnet.errors import InputError

_THEIRS = re.compile(r"(layer[45]\.0)\.extra_conv\.")
_TORCHVISIONS = re.compile(r"(layer[45]\.0)\.downsample\.")


def from_detnet_pytorch(state: Mapping[str, Tensor]) -> State:
    """Renames the weights of that DetNet-59 to ours; its stride sits in the 3×3."""
    return from_torchvision(
        {_THEIRS.sub(r"\1.downsample.", name): value for name, value in state.items()}
    )


def to_detnet_pytorch(state: Mapping[str, Tensor]) -> State:
    """Renames the weights of one of our DetNets to that project's names.

    Raises:
        InputError: it is no DetNet.
    """
    if "stages.c6.0.conv1.weight" not in state:
        raise InputError("DetNet_pytorch has DetNets only")
    return {
        _TORCHVISIONS.sub(r"\1.extra_conv.", name): value
        for name, value in rename_stages(state).items()
    }


LAYOUT = Layout(
    name="detnet_pytorch",
    title="DetNet_pytorch's DetNet",
    anchor="layer5.0.conv1.weight",
    to_ours=from_detnet_pytorch,
    from_ours=to_detnet_pytorch,
    options={"stride_in": "3x3", **IMAGENET_RGB},
)
