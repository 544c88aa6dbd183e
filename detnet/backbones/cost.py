"""The one counter of multiply-adds and parameters, and what a backbone costs, level by level."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops.misc import FrozenBatchNorm2d

from detnet.backbones import build_backbone
from detnet.backbones.base import Classifier
from detnet.errors import InputError

_CHECKED = 128  # pixels at least of the image that levels are looked at with


class Cost(NamedTuple):
    """What a network costs: multiply-adds of a pass over one image, and parameters."""

    macs: int
    params: int


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


@contextmanager
def on_meta() -> Iterator[None]:
    """Builds networks on torch's meta device: shapes alone, no memory, nothing drawn or computed.

    Such a network is good for counting, and for the names and shapes of its weights.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


def count(
    network: nn.Module, *inputs: Tensor, run: Callable[..., Any] | None = None
) -> tuple[Cost, Any]:
    """Counts what a network on the meta device costs.

    Args:
        network: built `on_meta`; its norms pass on from now on what they get.
        inputs: on the meta device, too.
        run: what is counted, the network's own call by default.

    Returns:
        the cost, and what came out.
    """
    network.eval()
    for module in network.modules():
        # Not counted, and shapes stay. On the meta device torch works norms out in Python, which
        # takes longer than all the rest.
        if isinstance(module, nn.modules.batchnorm._NormBase | FrozenBatchNorm2d):
            module.forward = nn.Identity().forward
    outputs: list[Any] = []
    macs = count_macs(lambda: outputs.append((run or network)(*inputs)))
    return Cost(macs, count_params(network)), outputs[0]


def check_levels(
    name: str, *, width: float = 1.0, options: Mapping[str, Any] | None = None
) -> None:
    """Refuses a backbone whose levels are not what its `feature_info` says; nothing is computed.

    Channels that differ end a run with a message of torch's, and a stride that differs puts all
    anchors in the wrong places and says nothing. What cannot run on the meta device is let through.

    Args:
        name, width, options: as of `backbone_cost`.

    Raises:
        InputError: naming the level, and what it is.
    """
    if "width" in (options or {}):
        raise InputError("backbone_options: width is a setting of its own: give width")
    with on_meta():
        backbone = build_backbone(name, width=width, **(options or {}))
        unit = math.lcm(*(info.stride for info in backbone.feature_info))
        height, width_px = (unit * math.ceil(_CHECKED / unit) * times for times in (1, 2))
        images = torch.empty(1, 3, height, width_px)
    try:
        _, features = count(backbone, images)
    except Exception:  # a network may do what needs values; the first step then tells
        return
    if not (isinstance(features, Mapping) and all(map(torch.is_tensor, features.values()))):
        raise InputError(
            f"backbone {name!r} gives a {type(features).__name__}, and must give a dict of its "
            f"levels' maps: {', '.join(backbone.levels)}"
        )
    said = {
        info.name: (info.channels, height // info.stride, width_px // info.stride)
        for info in backbone.feature_info
    }
    found = {level: tuple(feature.shape[1:]) for level, feature in features.items()}
    if list(said) != list(found):
        raise InputError(
            f"backbone {name!r} gives the levels {', '.join(found)}, its feature_info has "
            f"{', '.join(said)}"
        )
    for level, shape in said.items():
        if found[level] != shape:
            raise InputError(
                f"backbone {name!r}: of an image of {height}×{width_px} its level {level} is "
                f"{_shape(found[level])}, by its feature_info {_shape(shape)}"
            )


def _shape(sizes: tuple[int, ...]) -> str:
    return f"{sizes[0]} channels of {'×'.join(map(str, sizes[1:]))} cells"


class _NothingDrawn(TorchFunctionMode):
    """Leaves out random draws: on the meta device the first one takes seconds of imports."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class LevelShape:
    """One level of a backbone on an image; `size` is height and width in cells."""

    name: str
    channels: int
    stride: int
    receptive_field: int
    size: tuple[int, int]


@dataclass(frozen=True)
class BackboneCost:
    """What a backbone costs.

    Args:
        name: see `build_backbone`.
        image_size: height and width, pixels.
        width: factor on all channel counts.
        classifier: with tail and classifier.
        body: without them, as a detector takes it.
        levels: fine to coarse.
    """

    name: str
    image_size: tuple[int, int]
    width: float
    classifier: Cost
    body: Cost
    levels: tuple[LevelShape, ...]

    def to_json(self) -> dict[str, Any]:
        """As `detnet info --json` prints it."""
        return {
            "name": self.name,
            "image_size": self.image_size,
            "width": self.width,
            "macs": self.classifier.macs,
            "backbone_macs": self.body.macs,
            "params": self.classifier.params,
            "backbone_params": self.body.params,
            "features": [asdict(level) for level in self.levels],
        }


def backbone_cost(
    name: str,
    *,
    image_size: tuple[int, int] = (224, 224),
    width: float = 1.0,
    num_classes: int = 1000,
    options: Mapping[str, Any] | None = None,
) -> BackboneCost:
    """Tells a backbone's cost and levels; nothing is computed.

    Args:
        name: see `build_backbone`.
        image_size: height and width, pixels.
        width: the backbone's `width`.
        num_classes: of the classifier.
        options: the backbone's other options; a supernet's cost is that of its first path, and all
            of its parameters count.

    Raises:
        InputError: an unknown name, or an image smaller than the coarsest stride.
    """
    height, width_px = image_size
    with on_meta():
        backbone = build_backbone(name, width=width, **(options or {}))
        classifier = Classifier(backbone, num_classes)
        images = torch.empty(1, 3, height, width_px)
    coarsest = max(info.stride for info in backbone.feature_info)
    if min(image_size) < coarsest:
        raise InputError(
            f"image size {height}×{width_px} is smaller than {name}'s coarsest stride {coarsest}"
        )
    body, features = count(backbone, images)
    head, _ = count(classifier, features, run=classifier.classify)
    return BackboneCost(
        name,
        (height, width_px),
        width,
        Cost(body.macs + head.macs, head.params),
        body,
        tuple(
            LevelShape(
                info.name,
                info.channels,
                info.stride,
                info.receptive_field,
                (features[info.name].shape[-2], features[info.name].shape[-1]),
            )
            for info in backbone.feature_info
        ),
    )
