"""Sets the path of the supernet within a classifier or detector."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from detnet.backbones.base import FeatureInfo
from detnet.backbones.supernet import Supernet, find_supernet
from detnet.detectors.pyramid import PyramidNet
from detnet.detectors.roi import LevelPooler


def take_path(model: nn.Module, path: Sequence[int]) -> None:
    """Takes another path from now on, and tells the model's other parts which strides it has.

    Pyramid and poolers know the strides of their levels; a path of DetNet's space changes those.
    Anchors and the pyramid's sums go by the sizes that features have, and need no word.

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
    strides = {info.name: info.stride for info in supernet.feature_info}
    strides |= {f"p{name[1:]}": stride for name, stride in strides.items()}
    around = list(_around(model))
    for body in around:
        if isinstance(body, PyramidNet):
            strides |= _restride(body, strides)
    for pooler in around:
        if isinstance(pooler, LevelPooler):
            pooler.scales = [1 / strides[name] for name in pooler.featmap_names]


def _around(module: nn.Module) -> Iterator[nn.Module]:
    """Every module outside of the supernet, whose thousands would take a millisecond a step."""
    yield module
    for child in module.children():
        if not isinstance(child, Supernet):
            yield from _around(child)


def _restride(body: PyramidNet, strides: dict[str, int]) -> dict[str, int]:
    """Writes strides into the levels of a pyramid; those it adds halve the one before."""
    levels: list[FeatureInfo] = []
    for level in body.feature_info:
        stride = strides[level.name] if level.name in strides else levels[-1].stride * 2
        levels.append(replace(level, stride=stride))
    body.feature_info = body.neck.feature_info = tuple(levels)
    return {level.name: level.stride for level in levels}
