"""Sets the path of the supernet within a classifier or detector."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from detnet.backbones.base import FeatureInfo
from detnet.backbones.spaces.space import Supernet, find_supernet


def take_path(model: nn.Module, path: Sequence[int]) -> None:
    """Takes another path from now on, and tells the model's other parts which strides it has.

    Pyramid, anchors and poolers know the strides of their levels; a path of DetNet's space changes
    those. Parts that have a `restride` are told by it. The pyramid's sums go by the sizes that
    features have, and need no word.

    Args:
        model: a classifier or detector on a supernet; its copies for inference and those wrapped
            for several processes, too.
        path: see `Space`.

    Raises:
        InputError: the path does not fit the space.
        ValueError: the model has no supernet.
    """
    supernet = find_supernet(model)
    if supernet is None:
        raise ValueError(f"a {type(model).__name__} without a supernet has no path")
    supernet.take(path)
    levels = supernet.feature_info
    strides = {info.name: info.stride for info in levels}
    strides |= {f"p{info.level}": info.stride for info in levels}  # as a pyramid names them
    around = list(_around(model))
    for body in around:
        if isinstance(info := getattr(body, "feature_info", None), tuple):
            changed = _restrided(info, strides)
            setattr(body, "feature_info", changed)  # noqa: B010  torch takes it for a tensor
            strides |= {level.name: level.stride for level in changed}
    for part in around:
        if callable(restride := getattr(part, "restride", None)):
            restride(strides)


def _around(module: nn.Module) -> Iterator[nn.Module]:
    """Every module outside of the supernet, whose thousands would take a millisecond a step."""
    yield module
    for child in module.children():
        if not isinstance(child, Supernet):
            yield from _around(child)


def _restrided(info: Sequence[FeatureInfo], strides: dict[str, int]) -> tuple[FeatureInfo, ...]:
    """Levels with other strides; those that are added to the supernet's halve the one before."""
    levels: list[FeatureInfo] = []
    for level in info:
        stride = strides[level.name] if level.name in strides else levels[-1].stride * 2
        levels.append(replace(level, stride=stride))
    return tuple(levels)
