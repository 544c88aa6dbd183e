"""Backbones: networks as tables, found by their published names in `BACKBONES`."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, get_type_hints

from detnet.errors import InputError
from detnet.kinds import is_plain, of_kind, say_kind
from detnet.tables import NameTable, require_known

# ImageNet's colours, which networks are given normalised: red, green, blue of values in [0, 1].
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
_COMMON = ("width", "stride_in", "norm")  # what every builder is asked for
LARGEST_SIDE = 16_384  # of a network's input, in pixels
BACKBONES = NameTable(
    "backbone",
    {
        "resnet50": "detnet.backbones.resnet:resnet50",
        "resnet101": "detnet.backbones.resnet:resnet101",
        "resnet50_dilated": "detnet.backbones.resnet:resnet50_dilated",
        "detnet59": "detnet.backbones.detnet:detnet59",
        "detnet59_noproj": "detnet.backbones.detnet:detnet59_noproj",
        "detnet110": "detnet.backbones.detnet:detnet110",
        "detnet53_s8": "detnet.backbones.detnet:detnet53_s8",
        "detnasnet_300m": "detnet.backbones.detnas:detnasnet_300m",
        "detnasnet_300m_retinanet": "detnet.backbones.detnas:detnasnet_300m_retinanet",
        "detnasnet_voc_300m": "detnet.backbones.detnas:detnasnet_voc_300m",
        "detnasnet_voc_300m_retinanet": "detnet.backbones.detnas:detnasnet_voc_300m_retinanet",
        "detnasnet_1_3g": "detnet.backbones.detnas:detnasnet_1_3g",
        "detnasnet_3_8g": "detnet.backbones.detnas:detnasnet_3_8g",
        "shufflenetv2_20": "detnet.backbones.detnas:shufflenetv2_20",
        "shufflenetv2_40": "detnet.backbones.detnas:shufflenetv2_40",
        "shufflenetv2_40_widened": "detnet.backbones.detnas:shufflenetv2_40_widened",
    },
    listed_by="detnet info --help",
)
# Those that are no network before a space is chosen; see `build_backbone`.
OPEN_BACKBONES = NameTable(
    "backbone",
    {
        "searched": "detnet.backbones.spaces.space:network_of_space",
        "supernet": "detnet.backbones.spaces.space:supernet_of_space",
    },
)


def require_backbone(name: str) -> None:
    """Refuses a name that is no backbone's; no torch is imported.

    Raises:
        InputError: naming the nearest.
    """
    if not isinstance(name, str):
        BACKBONES.require(name)
    if name not in BACKBONES and name not in OPEN_BACKBONES:
        raise InputError(BACKBONES.unknown(name, OPEN_BACKBONES))


def build_backbone(name: str, **options: Any) -> Any:
    """Builds a backbone.

    Args:
        name: of `BACKBONES`, or "searched" or "supernet", which ask for a `space`.
        options: as its builder takes them: width, stride_in, norm.

    Raises:
        InputError: an unknown name, options that do not fit, or what stands under the name takes
            none of them or makes no `Backbone`.
    """
    require_backbone(name)
    builder = (BACKBONES if name in BACKBONES else OPEN_BACKBONES)[name]
    require_known(f"option of {name}", options, _takes(builder))
    missing = [option for option in _asks(builder) if option not in options]
    if missing:
        raise InputError(f"{name} asks for {missing[0]}: give it among backbone_options")
    try:
        inspect.signature(builder).bind(**options)
    except TypeError as error:
        takes = f"{', '.join(_COMMON)} as keywords, or **options"
        raise InputError(f"backbone {name!r}: its builder must take {takes}: {error}") from None
    for option, kind in _kinds(builder).items():
        if option in options and is_plain(kind) and not of_kind(options[option], kind):
            given = f"{say_kind(kind)}, got {options[option]!r}"
            raise InputError(f"{option} of {name} must be {given}")
    backbone = builder(**options)
    levels = getattr(backbone, "feature_info", None) or (None,)
    if not (hasattr(backbone, "freeze") and all(hasattr(level, "stride") for level in levels)):
        made = type(backbone).__name__
        must = "be a `Backbone` and set feature_info, a tuple of `FeatureInfo`"
        raise InputError(f"backbone {name!r}: {made} must {must}")
    return backbone


def _takes(builder: Callable[..., Any]) -> list[str]:
    own = [name for name in inspect.signature(builder).parameters if name != "options"]
    return [*_COMMON, *own]


def _kinds(builder: Any) -> dict[str, Any]:
    """The annotations of a builder's own options, those that can be told."""
    with suppress(NameError, TypeError, AttributeError):  # of a name that is not there, or none
        kind = isinstance(builder, type)
        return get_type_hints(builder.__init__ if kind else builder)
    return {}


def _asks(builder: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(builder).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


__all__ = ["BACKBONES", "OPEN_BACKBONES", "build_backbone", "require_backbone"]
