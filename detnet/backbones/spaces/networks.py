"""Networks of a space: one of them, picked by a path, and all of them in one."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from detnet.backbones.base import Backbone
from detnet.backbones.spaces.space import parse_path, read_space
from detnet.backbones.spaces.supernet import Supernet
from detnet.backbones.stages import StagedOptions
from detnet.errors import InputError


def searched(
    *,
    space: str | Mapping[str, Any],
    path: str | Sequence[int],
    **options: Unpack[StagedOptions],
) -> Backbone:
    """Builds the network that a path picks from a space, as a search finds it.

    Args:
        space: see `read_space`.
        path: one index for each of the space's genes, or the same in digits.

    Raises:
        InputError: no such space, or a path that does not fit it.
    """
    if isinstance(path, int):  # YAML reads digits as a number, and loses zeros at its beginning
        raise InputError(f"write the path with a blank between two stages, got {path}")
    indices = parse_path(path) if isinstance(path, str) else path
    return read_space(space).network(indices, **options)


def supernet(*, space: str | Mapping[str, Any], **options: Unpack[StagedOptions]) -> Supernet:
    """Builds all networks of a space in one, with shared weights.

    Args:
        space: see `read_space`.

    Raises:
        InputError: no such space.
    """
    return read_space(space).supernet(**options)
