"""What a backbone costs: multiply-adds and parameters, and the page `detnet info` shows of it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops.misc import FrozenBatchNorm2d

from detnet.backbones import build_backbone
from detnet.backbones.base import Classifier
from detnet.errors import InputError


def count_macs(run: Callable[[], Any]) -> int:
    """Counts the multiply-adds of convolutions and matrix products while `run` runs.

    This is torch's own counter, halved: it counts two operations a multiply-add, the papers' FLOPs
    one.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def count_params(module: nn.Module) -> int:
    """Counts the numbers that training could change, frozen ones included."""
    return sum(parameter.numel() for parameter in module.parameters())


def skip_norms(model: nn.Module) -> None:
    """Makes norms pass on what they get: they are not counted, and leave shapes as they are.

    On the meta device torch works them out in Python, which takes longer than all the rest.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | FrozenBatchNorm2d):
            module.forward = nn.Identity().forward


def describe(
    name: str,
    *,
    image_size: tuple[int, int] = (224, 224),
    width: float = 1.0,
    num_classes: int = 1000,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Tells a backbone's cost and levels, as `detnet info --json` prints them.

    Nothing is computed: the network lives on torch's meta device.

    Args:
        name: see `build_backbone`.
        image_size: height and width, pixels.
        width: the backbone's `width`.
        num_classes: of the classifier that `macs` and `params` include.
        options: the backbone's other options; a supernet's cost is that of its first path, and all
            of its parameters count.

    Returns:
        `macs` and `params` with the classifier, `backbone_macs` and `backbone_params` without it,
        and `features`, fine to coarse: name, channels, stride, receptive_field, height, width.

    Raises:
        InputError: an unknown name, or an image smaller than the coarsest stride.
    """
    height, width_px = image_size
    with torch.device("meta"):
        backbone = build_backbone(name, width=width, **(options or {})).eval()
        classifier = Classifier(backbone, num_classes).eval()
        images = torch.empty(1, 3, height, width_px)
    skip_norms(classifier)
    coarsest = max(info.stride for info in backbone.feature_info)
    if min(image_size) < coarsest:
        raise InputError(
            f"image size {height}×{width_px} is smaller than {name}'s coarsest stride {coarsest}"
        )
    features: dict[str, Tensor] = {}
    backbone_macs = count_macs(lambda: features.update(backbone(images)))
    return {
        "name": name,
        "image_size": [height, width_px],
        "width": width,
        "macs": backbone_macs + count_macs(lambda: classifier.classify(features)),
        "backbone_macs": backbone_macs,
        "params": count_params(classifier),
        "backbone_params": count_params(backbone),
        "features": [
            {
                "name": info.name,
                "channels": info.channels,
                "stride": info.stride,
                "receptive_field": info.receptive_field,
                "size": list(features[info.name].shape[-2:]),
            }
            for info in backbone.feature_info
        ],
    }
