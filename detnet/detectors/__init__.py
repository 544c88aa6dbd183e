"""Detectors on any backbone, found by their names in `DETECTORS` and made by `create`."""

import inspect
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from detnet.backbones import build_backbone
from detnet.errors import InputError
from detnet.kinds import of_kind, say_kind
from detnet.tables import NameTable, require_known

if TYPE_CHECKING:
    from detnet.detectors.base import Detector

DETECTORS = NameTable(
    "detector",
    {
        "cascade_rcnn_fpn": "detnet.detectors.cascade_rcnn_fpn:CascadeRCNNFPN",
        "faster_rcnn": "detnet.detectors.faster_rcnn:FasterRCNN",
        "faster_rcnn_fpn": "detnet.detectors.faster_rcnn_fpn:FasterRCNNFPN",
        "fcos": "detnet.detectors.fcos:FCOS",
        "keypoint_rcnn_fpn": "detnet.detectors.keypoint_rcnn_fpn:KeypointRCNNFPN",
        "mask_rcnn_fpn": "detnet.detectors.mask_rcnn_fpn:MaskRCNNFPN",
        "retinanet": "detnet.detectors.retinanet:RetinaNet",
        "rfcn": "detnet.detectors.rfcn:RFCN",
        "ssd": "detnet.detectors.ssd:SSD",
        "yolo": "detnet.detectors.yolo:YOLO",
    },
    listed_by="detnet detectors",
)
# What every backbone can be asked for; "searched" and "supernet" take their space besides.
_BACKBONE_OPTIONS: dict[str, Any] = {
    "width": 1.0,
    "stride_in": "1x1",
    "norm": "batch",
    "backbone_options": {},
}


def create(
    detector: str,
    *,
    backbone: str = "detnet59",
    num_classes: int,
    frozen: Iterable[str] = (),
    **options: Any,
) -> "Detector":
    """Builds a detector with fresh weights.

    Args:
        detector: of `DETECTORS`.
        backbone: of `BACKBONES`, or "searched" or "supernet", see `backbone_options`.
        num_classes: background counted (torchvision's convention): labels are 1 … num_classes − 1.
        frozen: parts of the backbone that are held still.
        options: the backbone's (`width`, `stride_in`, `norm`, and in `backbone_options` the
            `space` and `path` of a searched one), the image's (`min_size`, `max_size`,
            `pixel_mean`, `pixel_std`, `channel_order`) and the detector's own, see its class.

    Returns:
        A torchvision-style detector. In train mode it maps a list of (3, H, W) images, floats in
        [0, 1] or uint8, and a list of targets (`boxes` (N, 4) xyxy, `labels`, `masks`,
        `keypoints`) to a dict of losses; the images are not resized, which is the data pipeline's
        work. In eval mode images go to a list of dicts `boxes`, `labels`, `scores` (and `masks` or
        `keypoints`), in pixels of the images given. `model.info` says how to build it again.

    Raises:
        InputError: an unknown name or option, or an option's value of another kind.
        TypeError: the detector does not say which layers belong to the classes.
    """
    from detnet.detectors.base import ModelInfo

    if num_classes < 2:
        raise InputError(
            f"num_classes counts the background and must be 2 or more, got {num_classes}"
        )
    kind = DETECTORS[detector]
    if not getattr(kind, "class_layers", ()):  # else those of other classes would be loaded
        raise TypeError(f"{kind.__name__} must say its class_layers, as `Detector` describes them")
    # Written out in full: a default that changes later must not change a model of today.
    defaults = option_defaults(detector)
    require_known(f"option of {detector}", options, [*defaults, "frozen"])
    kinds = option_kinds(detector)
    for name, value in options.items():
        if not of_kind(value, kinds[name]):
            raise InputError(f"{name} must be {say_kind(kinds[name])}, got {value!r}")
    full = defaults | options
    of_backbone = {name: full[name] for name in _BACKBONE_OPTIONS if name != "backbone_options"}
    body = build_backbone(backbone, **of_backbone, **full["backbone_options"])
    frozen = (frozen,) if isinstance(frozen, str) else tuple(frozen)
    body.freeze(frozen)
    groups, single = _keywords(kind)
    model: Detector = kind(
        body,
        num_classes,
        **{
            name: group(**{each.name: full[each.name] for each in fields(group)})
            for name, group in groups.items()
        },
        **{name: full[name] for name in single},
    )
    model.info = ModelInfo(detector, backbone, num_classes, full | {"frozen": frozen})
    return model


def option_defaults(detector: str) -> dict[str, Any]:
    """What `create` takes for a detector besides `backbone`, `num_classes` and `frozen`.

    Raises:
        InputError: an unknown detector.
    """
    groups, single = _keywords(DETECTORS[detector])
    defaults = _BACKBONE_OPTIONS | single
    for group in groups.values():
        defaults |= vars(group())
    return defaults


def option_kinds(detector: str) -> dict[str, Any]:
    """The annotations of what `create` takes for a detector, "frozen" among them.

    Raises:
        InputError: an unknown detector.
    """
    from detnet.backbones.stages import StagedOptions

    kind = DETECTORS[detector]
    groups, single = _keywords(kind)
    hints, _ = _constructor(kind)
    general = {"backbone_options": dict[str, Any], "frozen": tuple[str, ...]}
    kinds = {**get_type_hints(StagedOptions), **general, **{name: hints[name] for name in single}}
    for group in groups.values():
        kinds |= get_type_hints(group)
    return kinds


def _keywords(detector: type["Detector"]) -> tuple[dict[str, type], dict[str, Any]]:
    """Splits what a detector is built with into groups of options (dataclasses) and single ones."""
    hints, defaults = _constructor(detector)
    groups = {name: hints[name] for name in defaults if is_dataclass(hints[name])}
    return groups, {name: value for name, value in defaults.items() if name not in groups}


def _constructor(detector: type["Detector"]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The annotations of a detector's keywords, and their defaults.

    A constructor that takes `**others` hands them to its base's, whose keywords come first.
    """
    hints, defaults = dict[str, Any](), dict[str, Any]()
    for build in (vars(kind)["__init__"] for kind in detector.__mro__ if "__init__" in vars(kind)):
        given = inspect.signature(build).parameters.values()
        hints = get_type_hints(build) | hints
        own = {each.name: each.default for each in given if each.kind is each.KEYWORD_ONLY}
        defaults = own | defaults
        if not any(each.kind is each.VAR_KEYWORD for each in given):
            break
    return hints, defaults


__all__ = ["DETECTORS", "create", "option_defaults", "option_kinds"]
