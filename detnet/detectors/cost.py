"""What a detector costs: the levels it takes, multiply-adds and parameters, without computing."""

from dataclasses import dataclass
from typing import Any

import torch

from detnet.backbones.base import FeatureInfo
from detnet.backbones.cost import Cost, count, on_meta
from detnet.detectors import create

IMAGE_SIZE = (800, 1333)
_DIVISIBLE = 32  # what images are padded to


@dataclass(frozen=True)
class DetectorCost:
    """What a detector costs for one image.

    Args:
        cost: of the whole detector.
        levels: names of the backbone's that are taken.
        head_levels: those that heads work on.
        regions: of the image that a second stage looks at; 0 without one.
        padded_size: height and width of the image, pixels.
    """

    cost: Cost
    levels: tuple[str, ...]
    head_levels: tuple[FeatureInfo, ...]
    regions: int
    padded_size: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """As `detnet detectors --json` prints it."""
        return {
            "levels": self.levels,
            "outputs": [{"name": info.name, "stride": info.stride} for info in self.head_levels],
            "macs": self.cost.macs,
            "params": self.cost.params,
            "regions": self.regions,
            "padded_size": self.padded_size,
        }


def detector_cost(
    name: str,
    *,
    backbone: str,
    num_classes: int = 81,
    image_size: tuple[int, int] = IMAGE_SIZE,
    **options: Any,
) -> DetectorCost:
    """Tells a detector's cost for one image; nothing is computed.

    Counted are convolutions and matrix products of backbone, neck and dense heads on the image
    padded to multiples of 32, and of region heads on the default number of proposals, masks and
    keypoints on that of detections. Pooling of regions and suppression are not counted.

    Args:
        name: of `DETECTORS`.
        backbone: see `build_backbone`.
        num_classes: background counted; 81 is COCO's.
        image_size: height and width, pixels.
        options: as `create` takes them.

    Raises:
        InputError: the backbone lacks a level.
    """
    height, width = (-(-side // _DIVISIBLE) * _DIVISIBLE for side in image_size)
    with on_meta():
        model = create(name, backbone=backbone, num_classes=num_classes, **options)
        images = torch.empty(1, 3, height, width)
    cost, _ = count(model, images, run=model.run_layers)
    return DetectorCost(cost, model.levels, model.head_levels, model.regions, (height, width))
