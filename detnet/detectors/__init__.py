"""Detectors on any backbone, found by their names in `DETECTORS` and made by `create`."""

from typing import TYPE_CHECKING, Any

from detnet.tables import NameTable

if TYPE_CHECKING:
    from torch import nn

DETECTORS = NameTable(
    "detector",
    {
        "cascade_rcnn_fpn": "detnet.detectors.cascade_rcnn_fpn:cascade_rcnn_fpn",
        "faster_rcnn": "detnet.detectors.faster_rcnn:faster_rcnn",
        "faster_rcnn_fpn": "detnet.detectors.faster_rcnn_fpn:faster_rcnn_fpn",
        "fcos": "detnet.detectors.fcos:fcos",
        "keypoint_rcnn_fpn": "detnet.detectors.keypoint_rcnn_fpn:keypoint_rcnn_fpn",
        "mask_rcnn_fpn": "detnet.detectors.mask_rcnn_fpn:mask_rcnn_fpn",
        "retinanet": "detnet.detectors.retinanet:retinanet",
        "rfcn": "detnet.detectors.rfcn:rfcn",
        "ssd": "detnet.detectors.ssd:ssd",
        "yolo": "detnet.detectors.yolo:yolo",
    },
)


def create(
    detector: str, *, backbone: str = "detnet59", num_classes: int, **options: Any
) -> "nn.Module":
    """Builds a detector with fresh weights.

    Args:
        detector: of `DETECTORS`.
        backbone: of `BACKBONES`, or "searched" or "supernet", see `backbone_options`.
        num_classes: background counted (torchvision's convention): labels are 1 … num_classes − 1.
        options: the backbone's (`width`, `stride_in`, `norm`, `frozen`, and in `backbone_options`
            the `space` and `path` of a searched one), the image's (`min_size`,
            `max_size`, `pixel_mean`, `pixel_std`, `channel_order`) and the detector's own, see its
            builder.

    Returns:
        A torchvision-style detector. In train mode it maps a list of (3, H, W) images, floats in
        [0, 1] or uint8, and a list of targets (`boxes` (N, 4) xyxy, `labels`, `masks`,
        `keypoints`) to a dict of losses; in eval mode images to a list of dicts `boxes`, `labels`,
        `scores` (and `masks` or `keypoints`), in pixels of the images given. `model.info` says how
        to build it again.

    Raises:
        InputError: an unknown name or option.
    """
    from detnet.detectors.build import build

    return build(detector, backbone=backbone, num_classes=num_classes, **options)


__all__ = ["DETECTORS", "create"]
