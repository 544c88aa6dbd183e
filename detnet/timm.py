"""Our backbones as models of timm: import this, and `timm.create_model` knows their names.

import timm
import detnet.timm
features = timm.create_model("detnet59", features_only=True, out_indices=(1, 2, 3, 4, 5))

ResNets are `detnet_resnet50` … there, since timm has its own. As in timm's own networks the first
level is the stem's at half the input's size, so that level 1 is `c2`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detnet.backbones import BACKBONES
from detnet.backbones.base import Backbone, Classifier, StagedBackbone
from detnet.backbones.weights.layout import IMAGENET_RGB, RAW_BGR
from detnet.backbones.weights.loading import load_into_classifier, load_weights
from detnet.backbones.weights.pretrained import open_weights
from detnet.errors import InputError

try:
    from timm.models import FeatureInfo, register_model
except ImportError as error:
    raise ImportError("timm is not installed: pip install 'detnet[hub]'") from error

_STEM_STRIDE = 2  # before any pooling
_RATES = ("drop_rate", "drop_path_rate", "drop_block_rate")  # timm's train.py gives them as 0


class TimmFeatures(nn.Module):
    """What `features_only=True` gives: a list of levels, fine to coarse.

    Args:
        backbone: one of ours.
        out_indices: of the levels, 0 for the stem's if there is one, 1 for `c2`; negative ones
            count from the end, and a number n means the last n. Levels come fine to coarse in
            whatever order asked.

    Raises:
        InputError: `out_indices` name a level that is not there.
    """

    def __init__(self, backbone: Backbone, out_indices: Sequence[int] | int | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        info = describe(backbone)
        chosen = _indices(out_indices, len(info))
        self.feature_info = FeatureInfo(info, out_indices=chosen)
        # transformers sets it to get other levels for one call.
        self.return_layers = {info[index]["module"]: str(index) for index in chosen}

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (N, 3, H, W) normalised images to the chosen levels."""
        levels = _levels(self.backbone, images)
        names = [entry["module"] for entry in self.feature_info.info]
        return [
            level for name, level in zip(names, levels, strict=True) if name in self.return_layers
        ]


class TimmClassifier(Classifier):
    """A classifier with what timm's scripts ask of one."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes)
        self.pretrained_cfg: dict[str, Any] = {}
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = self.fc.in_features
        self.feature_info = describe(backbone)
        if not num_classes:
            self.fc = nn.Identity()  # type: ignore[assignment]

    def forward_features(self, images: Tensor) -> Tensor:
        """Maps (N, 3, H, W) to the last level."""
        return self.backbone(images)[self.backbone.feature_info[-1].name]

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps the last level to logits, or to what the last layer gets."""
        pooled = self.pool(self.tail(last)).flatten(1)
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts a fresh last layer in place, or none for 0 classes.

        Raises:
            InputError: another pooling than the average.
        """
        _require_average(global_pool)
        self.num_classes = num_classes
        fresh = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.fc = fresh  # type: ignore[assignment]


def describe(backbone: Backbone) -> list[dict[str, Any]]:
    """The levels as timm describes them: `num_chs`, `reduction` and the module's name."""
    levels = [
        {"num_chs": level.channels, "reduction": level.stride, "module": level.name}
        for level in backbone.feature_info
    ]
    if not isinstance(backbone, StagedBackbone):
        return levels
    conv = next(layer for layer in backbone.stem.modules() if isinstance(layer, nn.Conv2d))
    return [{"num_chs": conv.out_channels, "reduction": _STEM_STRIDE, "module": "stem"}, *levels]


def _levels(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """The stem before its pooling, where there is one, then the backbone's own levels."""
    if not isinstance(backbone, StagedBackbone):
        return list(backbone(images).values())
    x = images
    found = []
    for name, layer in backbone.stem.named_children():
        if name == "pool":
            found.append(x)
        x = layer(x)
    if not found:
        found.append(x)
    for stage in backbone.stages.values():
        x = stage(x)
        found.append(x)
    return found


def _indices(asked: Sequence[int] | int | None, count: int) -> tuple[int, ...]:
    if asked is None:
        return tuple(range(count))
    numbers = range(-asked, 0) if isinstance(asked, int) else asked
    if not all(-count <= number < count for number in numbers):
        raise InputError(f"out_indices must lie in 0 to {count - 1}, got {asked}")
    return tuple(sorted(number % count for number in numbers))


def _create(
    name: str,
    *,
    pretrained: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | int | None = None,
    num_classes: int = 1000,
    weights: str | Path | None = None,
    in_chans: int = 3,
    **options: Any,
) -> nn.Module:
    for unused in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(unused, None)
    for rate in _RATES:
        if not options.get(rate):
            options.pop(rate, None)
    global_pool = options.pop("global_pool", None)
    if not features_only:
        _require_average(global_pool)
    if in_chans != 3:
        raise InputError(f"{name} takes images of 3 channels, got in_chans {in_chans}")
    if pretrained and weights is None:
        raise InputError(f"there are no published weights of {name}: give weights=FILE")
    source = open_weights(Path(weights)) if weights is not None else None
    if source:
        built = {**source.header.get("options", {}), **source.options}
        options = {n: built[n] for n in ("width", "stride_in") if n in built} | options
    backbone = BACKBONES[name](**options)
    if features_only:
        if source:
            load_weights(backbone, source, name=name)
        return TimmFeatures(backbone, out_indices)
    model = TimmClassifier(backbone, num_classes)
    if source:
        given = source.others.get("fc.weight", torch.empty(0))
        load_into_classifier(model, source, same_classes=len(given) == num_classes, name=name)
    model.pretrained_cfg = _configuration(name, source.options if source else {}, num_classes)
    return model


def _require_average(global_pool: str | None) -> None:
    if global_pool not in (None, "avg"):
        raise InputError(f"global_pool must be 'avg', got {global_pool!r}")


def _configuration(name: str, images: Mapping[str, Any], num_classes: int = 1000) -> dict[str, Any]:
    """What timm's data loaders ask of a model; it has no word for the order of channels."""
    if "pixel_mean" not in images:
        images = RAW_BGR if name.startswith(("detnas", "shufflenet")) else IMAGENET_RGB
    return {
        "url": "",
        "num_classes": num_classes,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": images["pixel_mean"],
        "std": images["pixel_std"],
        "first_conv": "backbone.stem.conv",
        "classifier": "fc",
    }


def _timm_name(name: str) -> str:
    return f"detnet_{name}" if name.startswith("resnet") else name


def _register(name: str) -> None:
    def entrypoint(pretrained: bool = False, **options: Any) -> nn.Module:
        return _create(name, pretrained=pretrained, **options)

    entrypoint.__name__ = _timm_name(name)
    entrypoint.__doc__ = f"Builds {name}; `width`, `stride_in`, `norm` and `weights` are options."
    register_model(entrypoint)


default_cfgs = {
    _timm_name(name): _configuration(name, {}) for name in BACKBONES
}  # timm looks for it
for _name in BACKBONES:
    _register(_name)
