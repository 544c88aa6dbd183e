"""What a detector costs: the levels it takes, multiply-adds and parameters, without computing."""

from typing import Any

import torch

from detnet.backbones.cost import count_macs, count_params
from detnet.detectors import create

IMAGE_SIZE = (800, 1333)
_DIVISIBLE = 32  # what images are padded to


def describe(
    name: str,
    *,
    backbone: str,
    num_classes: int = 81,
    image_size: tuple[int, int] = IMAGE_SIZE,
    **options: Any,
) -> dict[str, Any]:
    """Tells a detector's cost for one image, as `detnet detectors --json` prints it.

    Counted are convolutions and matrix products of backbone, neck and dense heads on the image
    padded to multiples of 32, and of region heads on the default number of proposals, masks and
    keypoints on that of detections. Pooling of regions and suppression are not counted. Nothing
    is computed: weights and features live on torch's meta device.

    Args:
        name: of `DETECTORS`.
        backbone: see `build_backbone`.
        num_classes: background counted; 81 is COCO's.
        image_size: height and width, pixels.
        options: as `create` takes them.

    Returns:
        `levels`, the names of the backbone's that are taken, `outputs`, name and stride of those
        that heads work on, `macs`, `params`, `regions` and `padded_size`.

    Raises:
        InputError: the backbone lacks a level.
    """
    with torch.device("meta"):
        model = create(name, backbone=backbone, num_classes=num_classes, **options).eval()
    padded = [-(-side // _DIVISIBLE) * _DIVISIBLE for side in image_size]
    images = torch.empty(1, 3, *padded, device="meta")
    return {
        "levels": list(model.levels),
        "outputs": [{"name": info.name, "stride": info.stride} for info in model.head_levels],
        "macs": count_macs(lambda: model.run_layers(images)),
        "params": count_params(model),
        "regions": model.regions,
        "padded_size": padded,
    }
