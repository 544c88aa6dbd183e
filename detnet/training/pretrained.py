"""The weights a run begins from: what they ask of the network, and what they fill of it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from detnet.backbones.files import ClassifierInfo
from detnet.backbones.weights.layout import IMAGE_OPTIONS
from detnet.backbones.weights.loading import (
    LoadReport,
    compare_backbone,
    load_into_classifier,
    part_of,
)
from detnet.backbones.weights.pretrained import PretrainedWeights, meta_backbone
from detnet.detectors import DETECTORS
from detnet.detectors.base import Detector, info_of
from detnet.detectors.weights import (
    TORCHVISION_RULES,
    load_into_detector,
    open_weights,
    rules_for,
)
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig
from detnet.training.hub import find_weights
from detnet.training.run_config import PAPERS_STRIDE
from detnet.training.settings import SHA256


def settle(config: TrainConfig, source: PretrainedWeights) -> tuple[TrainConfig, list[str]]:
    """Takes over what a run's weights ask of the network, unless the user asked otherwise.

    That is the convolution that carries a block's stride, the images' mean, deviation and channel
    order, and where anchors lie for heads of the same kind. A `norm` of "auto" becomes "frozen"
    where every batch norm of the backbone is in the file, else "sync": a fresh one must learn.

    Args:
        config: of the run.
        source: its weights.

    Returns:
        the settings with all of that said, and a line for each thing changed or in conflict.

    Raises:
        InputError: the weights are another network's, or something fresh would be held still.
    """
    stride, notes = _settle_stride(config.stride_in, source.options)
    options, more = _settle_images(config.detector_options, source.options)
    notes += more
    options, more = _settle_rules(config.detector, options, source)
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


def is_settled(config: TrainConfig) -> bool:
    """Whether nothing is left that only the weights could tell, as in a run's own settings."""
    named = all(name in config.detector_options for name in IMAGE_OPTIONS)
    return named and "auto" not in (config.norm, config.stride_in)


def as_built(config: TrainConfig, model: nn.Module) -> TrainConfig:
    """The settings with all that the weights decided: a run that keeps them needs no such file to
    be resumed, and what became of the stride is known from scratch, too."""
    built = info_of(model).options
    rules = {name: built[name] for name in DETECTORS[config.detector].weight_options}
    options = {**config.detector_options, **rules}
    config = replace(config, stride_in=built["stride_in"], detector_options=options)
    if not config.weights:
        return config
    images = {name: _plain(built[name]) for name in IMAGE_OPTIONS}
    return replace(config, norm=built["norm"], detector_options={**options, **images})


def open_for(text: str) -> PretrainedWeights:
    """Opens what a WEIGHTS argument stands for.

    Raises:
        InputError: see `find_weights` and `open_weights`.
    """
    return open_weights(find_weights(text), place=text.partition(SHA256)[0])


def carry_weights(model: Detector, source: PretrainedWeights) -> list[str]:
    """Loads what fits into a detector; class layers stay fresh where categories differ.

    Returns:
        what was loaded and what was not, as lines of a table.

    Raises:
        InputError: they are another network's.
    """
    done = load_into_detector(model, source)
    return report(source, done)


def settle_classifier(
    info: ClassifierInfo, source: PretrainedWeights, *, asked: Mapping[str, Any] | None = None
) -> tuple[ClassifierInfo, list[str]]:
    """Takes over what the weights ask of a classifier's network.

    Args:
        info: of the classifier to be built.
        source: its weights.
        asked: what the user asked for of `stride_in`, `pixel_mean`, `pixel_std` and
            `channel_order`; the weights' is taken of all else.

    Returns:
        the description to build it by, and a line for each thing changed or in conflict.

    Raises:
        InputError: the weights are another network's.
    """
    general = ("width", "stride_in", "norm")
    own_options = {name: value for name, value in info.options.items() if name not in general}
    own = meta_backbone(info.backbone, info.options.get("width", 1.0), own_options)
    compare_backbone(own, source, name=info.backbone)
    asked = asked or {}
    stride, notes = _settle_stride(asked.get("stride_in", "auto"), source.options)
    given = {name: asked[name] for name in IMAGE_OPTIONS if name in asked}
    images, more = _settle_images(given, source.options)
    options = {**info.options, "stride_in": stride}
    changes: dict[str, Any] = {name: _as_tuple(value) for name, value in images.items()}
    return replace(info, options=options, **changes), notes + more


def carry_classifier(
    model: nn.Module, info: ClassifierInfo, source: PretrainedWeights
) -> list[str]:
    """Loads what fits into a classifier; its last layer stays fresh for other classes.

    Returns:
        what was loaded and what was not, as lines of a table.

    Raises:
        InputError: they are another network's.
    """
    same = tuple(source.header.get("classes", ())) == info.classes
    done = load_into_classifier(model, source, same_classes=same, name=info.backbone)
    return report(source, done)


def report(source: PretrainedWeights, done: LoadReport) -> list[str]:
    """Says in a few lines what an import filled."""
    head = f"weights: {len(done.loaded)} tensors from {source.place} ({source.title})"
    if not (done.fresh or done.left_over or done.mismatched):
        return [f"{head}: all there are"]
    return [head, *(f"  {line}" for line in done.lines())]


def _settle_stride(mine: Any, asked: Mapping[str, Any]) -> tuple[Any, list[str]]:
    theirs = asked.get("stride_in")
    if mine == "auto":
        place = theirs or PAPERS_STRIDE
        changed = place != PAPERS_STRIDE
        return place, [f"weights: stride_in {place}, as these weights have it"] if changed else []
    if theirs in (None, mine):
        return mine, []
    return mine, [
        f"warning: stride_in {mine} was asked for; these weights are of a network with {theirs}"
    ]


def _settle_images(
    given: Mapping[str, Any], asked: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    options, notes = dict(given), []
    for name in IMAGE_OPTIONS:
        if name not in asked:
            continue
        if name not in options:
            options[name] = _plain(asked[name])
        elif not _equal(options[name], asked[name]):
            notes.append(
                f"warning: {name} {options[name]} was asked for; these weights were trained with "
                f"{_rounded(asked[name])}"
            )
    if asked.get("channel_order", "rgb") != "rgb" and "channel_order" not in given:
        notes.append(
            f"weights: images as {asked['channel_order'].upper()}, "
            f"mean {_rounded(asked['pixel_mean'], 255)} and deviation "
            f"{_rounded(asked['pixel_std'], 255)} of 0 to 255, as these weights have it"
        )
    return options, notes


def _settle_rules(
    detector: str, given: Mapping[str, Any], source: PretrainedWeights
) -> tuple[dict[str, Any], list[str]]:
    options, notes = dict(given), []
    for name, rule in rules_for(detector, source).items():
        if name not in options:
            options[name] = rule
            if rule == TORCHVISION_RULES[name]:
                notes.append(f"weights: {name} {rule}, as these weights were trained")
        elif options[name] != rule:
            notes.append(
                f"warning: {name} {options[name]} was asked for; these weights were trained with "
                f"{rule}"
            )
    return options, notes


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


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _rounded(values: Any, factor: float = 1.0) -> Any:
    if isinstance(values, str) or not isinstance(values, Iterable):
        return values
    return ", ".join(f"{factor * value:.4g}" for value in values)
