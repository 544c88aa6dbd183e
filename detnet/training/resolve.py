"""Settles a training's settings once, before any data is read.

Names and options are tried by building the network on the meta device, with placeholders for what
the data decide: classes, keypoints, anchors. What the settings leave to the weights is taken from
those. Afterwards nothing is open, and a run that keeps its settings needs no file of weights to be
resumed.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic

import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from detnet.backbones import PIXEL_MEAN, PIXEL_STD
from detnet.backbones.cost import check_levels
from detnet.backbones.weights.layout import IMAGE_OPTIONS
from detnet.backbones.weights.loading import compare_backbone, part_of
from detnet.backbones.weights.pretrained import PretrainedWeights, meta_backbone
from detnet.coco.categories import Categories
from detnet.detectors import DETECTORS
from detnet.detectors.base import info_of
from detnet.detectors.weights import TORCHVISION_RULES, rules_for
from detnet.errors import InputError
from detnet.evaluation.metrics import column_names
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.network import build_classifier
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector
from detnet.training.pretrained import open_named
from detnet.training.run_config import PAPERS_STRIDE, Run, RunConfig

_IOU_TYPES = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}  # by target
_ONE_CLASS = Categories((1,), ("thing",))


@dataclass(frozen=True)
class Resolved(Generic[Run]):
    """Settings of which nothing is open but what the data decide.

    Args:
        config: the settings.
        weights: what the run begins from; None from scratch, or where they were not asked for.
        notes: a line for each thing that the weights decided or contradict.
    """

    config: Run
    weights: PretrainedWeights | None
    notes: list[str]


def resolve(config: Run, *, load_weights: bool = True) -> Resolved[Run]:
    """Settles everything that the settings leave open and refuses what cannot be used.

    Args:
        load_weights: open the weights that the run begins from; a resumed run's settings say what
            they decided.

    Raises:
        InputError: an unknown name or option, weights that cannot be read or are another network's,
            or something still random that is to be held still.
    """
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("tensorboard is not installed: pip install 'detnet[track]'")
    weights = open_named(config.weights) if config.weights and load_weights else None
    decays = {
        name: config.weight_decay
        for name in ("norm_weight_decay", "bias_weight_decay")
        if getattr(config, name) is None
    }
    for name in ("stride_in", "norm"):
        if name in config.backbone_options:
            raise InputError(f"backbone_options: {name} is a setting of its own: give {name}")
    check_levels(config.backbone, width=config.width, options=config.backbone_options)
    changes: dict[str, Any] = {**config.length, **decays}
    config = replace(config, **changes)
    kind: Any = _detector if isinstance(config, TrainConfig) else _classifier
    config, notes = kind(config, weights)
    return Resolved(config, weights, notes)


def _detector(
    config: TrainConfig, weights: PretrainedWeights | None
) -> tuple[TrainConfig, list[str]]:
    kind = DETECTORS[config.detector]
    _require_metric(config, column_names([_IOU_TYPES[target] for target in kind.targets]))
    config = replace(config, test_min_size=config.test_min_size or config.min_sizes[-1])
    notes: list[str] = []
    if weights is not None:
        config, notes = _by_weights(config, weights)
    with torch.device("meta"):
        model = build_detector(config, _ONE_CLASS)
    if not config.weights:
        norms = any(isinstance(layer, FrozenBatchNorm2d) for layer in model.modules())
        still = (["batch norm"] if norms else []) + config.frozen
        if still:
            raise InputError(
                f"{', '.join(still)} would be frozen as drawn at random: give --weights with a "
                "trained model, or train from scratch with --norm sync and --frozen []"
            )
    built = info_of(model).options
    kept = (*kind.weight_options, *(IMAGE_OPTIONS if config.weights else ()))
    options = {**config.detector_options, **{name: _plain(built[name]) for name in kept}}
    resolved = replace(
        config,
        stride_in=built["stride_in"],
        norm=built["norm"],
        norm_momentum=_momentum(config, model),
        detector_options=options,
    )
    return resolved, notes


def _by_weights(config: TrainConfig, source: PretrainedWeights) -> tuple[TrainConfig, list[str]]:
    """Takes over what a run's weights ask of the network, unless the user asked otherwise.

    That is the convolution that carries a block's stride, the images' mean, deviation and channel
    order, and where anchors lie for heads of the same kind. A `norm` of "auto" becomes "frozen"
    where every batch norm of the backbone is in the file, else "sync": a fresh one must learn.

    Raises:
        InputError: the weights are another network's, or something fresh would be held still.
    """
    stride, notes = _resolve_stride(config.stride_in, source.options)
    options, more = _resolve_images(config.detector_options, source.options)
    notes += more
    options, more = _resolve_rules(config.detector, options, source)
    notes += more
    config = replace(config, stride_in=stride, detector_options=options)
    fresh = _fresh_parts(config, source)
    norm = config.norm
    if norm == "auto":
        norm = "sync" if fresh else "frozen"
        if fresh:
            notes.append(f"weights: norm sync, since the batch norm of {', '.join(fresh)} is fresh")
    elif norm == "frozen" and fresh:
        raise InputError(
            f"batch norm of {', '.join(fresh)} would be frozen as drawn at random: {source.place} "
            "has no weights for it; give --norm sync"
        )
    still = [part for part in config.frozen if part in fresh]
    if still:
        raise InputError(
            f"{', '.join(still)} would be frozen as drawn at random: {source.place} has no weights "
            "for it"
        )
    return replace(config, norm=norm), notes


def _classifier(
    config: PretrainConfig, weights: PretrainedWeights | None
) -> tuple[PretrainConfig, list[str]]:
    _require_metric(config, column_names(["classification"]))
    changes: dict[str, Any] = {"test_short_side": config.short_side}
    given = {
        **({"pixel_mean": config.pixel_mean} if config.pixel_mean else {}),
        **({"pixel_std": config.pixel_std} if config.pixel_std else {}),
        **({} if config.channel_order == "auto" else {"channel_order": config.channel_order}),
    }
    images = {"pixel_mean": [*PIXEL_MEAN], "pixel_std": [*PIXEL_STD], "channel_order": "rgb"}
    stride, notes = config.stride_place, list[str]()
    if weights is not None:
        own = meta_backbone(config.backbone, config.width, config.backbone_options)
        compare_backbone(own, weights, name=config.backbone)  # or it is another network's
        stride, notes = _resolve_stride(config.stride_in, weights.options)
        given, more = _resolve_images(given, weights.options)
        notes = notes + more
    resolved = replace(config, stride_in=stride, **{**changes, **images, **given})
    with torch.device("meta"):
        model = build_classifier(resolved, ("one", "other"))
    return replace(resolved, norm_momentum=_momentum(config, model)), notes


def _momentum(config: RunConfig, model: nn.Module) -> float | None:
    """The batch norms' momentum: the one asked for, or the layers' own where they have one."""
    norms = (layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
    own = {layer.momentum for layer in norms}
    return own.pop() if config.norm_momentum is None and len(own) == 1 else config.norm_momentum


def _require_metric(config: TrainConfig | PretrainConfig, known: Iterable[str]) -> None:
    """Refuses a metric that no evaluation will have, before the first hours."""
    names = list(known)
    if config.best_metric not in names:
        raise InputError(
            f"best_metric must be one of {', '.join(names)}, got {config.best_metric!r}"
        )


def _resolve_stride(mine: Any, asked: Mapping[str, Any]) -> tuple[Any, list[str]]:
    theirs = asked.get("stride_in")
    if mine == "auto":
        place = theirs or PAPERS_STRIDE
        changed = place != PAPERS_STRIDE
        return place, [f"weights: stride_in {place}, as these weights have it"] if changed else []
    if theirs in (None, mine):
        return mine, []
    return mine, [_warning("stride_in", mine, f"are of a network with {theirs}")]


def _resolve_images(
    given: Mapping[str, Any], asked: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    options, notes = dict(given), []
    for name in IMAGE_OPTIONS:
        if name not in asked:
            continue
        if name not in options:
            options[name] = _plain(asked[name])
        elif not _equal(options[name], asked[name]):
            theirs = f"were trained with {_rounded(asked[name])}"
            notes.append(_warning(name, options[name], theirs))
    if asked.get("channel_order", "rgb") != "rgb" and "channel_order" not in given:
        notes.append(
            f"weights: images as {asked['channel_order'].upper()}, "
            f"mean {_rounded(asked['pixel_mean'], 255)} and deviation "
            f"{_rounded(asked['pixel_std'], 255)} of 0 to 255, as these weights have it"
        )
    return options, notes


def _resolve_rules(
    detector: str, given: Mapping[str, Any], source: PretrainedWeights
) -> tuple[dict[str, Any], list[str]]:
    options, notes = dict(given), []
    for name, rule in rules_for(detector, source).items():
        if name not in options:
            options[name] = rule
            if rule == TORCHVISION_RULES[name]:
                notes.append(f"weights: {name} {rule}, as these weights were trained")
        elif options[name] != rule:
            notes.append(_warning(name, options[name], f"were trained with {rule}"))
    return options, notes


def _warning(name: str, mine: Any, theirs: str) -> str:
    return f"warning: {name} {mine} was asked for; these weights {theirs}"


def _fresh_parts(config: TrainConfig, source: PretrainedWeights) -> list[str]:
    """The parts of the backbone that have a batch norm which is not in the file."""
    own = meta_backbone(config.backbone, config.width, config.backbone_options)
    fresh = compare_backbone(own, source, name=config.backbone).fresh
    return list(dict.fromkeys(part_of(n) for n in fresh if n.endswith("running_var")))


def _equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, str) or isinstance(theirs, str):
        return bool(mine == theirs)
    return all(abs(a - b) < 1e-4 for a, b in zip(mine, theirs, strict=False))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _rounded(values: Any, factor: float = 1.0) -> Any:
    if isinstance(values, str) or not isinstance(values, Iterable):
        return values
    return ", ".join(f"{factor * value:.4g}" for value in values)
