"""Spaces: sets of networks that share one table, and supernets, all of a set's networks in one."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Unpack, get_type_hints

from torch import Tensor, nn

from detnet.backbones.base import Backbone, FeatureInfo
from detnet.backbones.norm import NormKind
from detnet.backbones.stages import StagedOptions, StrideIn
from detnet.errors import InputError
from detnet.files import read_yaml
from detnet.kinds import MISTAKES, of_kind, say_kind
from detnet.tables import NameTable, require_known
from detnet.text import one_line

SPACES = NameTable(
    "space",
    {
        "detnas_small": "detnet.backbones.detnas:SMALL",
        "detnas_large": "detnet.backbones.detnas:LARGE",
        "detnet": "detnet.backbones.spaces.detnet_space:DETNET",
    },
)
SPACE_KINDS = NameTable(
    "kind of space",
    {
        "shuffle": "detnet.backbones.spaces.shuffle_space:ShuffleSpace",
        "detnet": "detnet.backbones.spaces.detnet_space:DetNetSpace",
    },
)


ROW_NAME = re.compile(r"c\d+")  # of a space's stages, as files write them


@dataclass(frozen=True)
class Gene:
    """One thing that a space leaves open.

    Args:
        stage: the level whose stage it belongs to.
        name: what it is, unique within the stage.
        choices: what it may be, by name, in the order of their indices; at most ten.
    """

    stage: str
    name: str
    choices: tuple[str, ...]


class Space(ABC):
    """A set of networks that share one table; a path, one choice for each gene, picks one."""

    @property
    @abstractmethod
    def genes(self) -> tuple[Gene, ...]:
        """What is left open, input to output, a stage's genes together."""

    @abstractmethod
    def network(
        self,
        path: Sequence[int],
        *,
        width: float = 1.0,
        stride_in: StrideIn = "1x1",
        norm: NormKind = "batch",
    ) -> Backbone:
        """Builds the network that a path picks.

        Raises:
            InputError: an option outside its range, or a path that does not fit.
        """

    @abstractmethod
    def supernet(
        self,
        *,
        width: float = 1.0,
        stride_in: StrideIn = "1x1",
        norm: NormKind = "batch",
    ) -> "Supernet":
        """Builds all networks of the space in one, with shared weights."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The table, with its "kind", as `read_space` takes it."""

    def check(self, path: Sequence[int]) -> tuple[int, ...]:
        """Gives the one spelling of a path, so that equal networks have equal paths.

        Raises:
            InputError: it has another length, or an entry that is no index of a gene's choices.
        """
        genes = self.genes
        if len(path) != len(genes):
            raise InputError(f"a path through this space has {len(genes)} entries, got {len(path)}")
        for number, (index, gene) in enumerate(zip(path, genes, strict=True)):
            # A YAML file may hold texts and fractions; only whole numbers have `__index__`.
            if not hasattr(index, "__index__") or not 0 <= index < len(gene.choices):
                raise InputError(
                    f"entry {number} of the path is {index!r}; the choices of {gene.stage}'s "
                    f"{gene.name} are 0 to {len(gene.choices) - 1}"
                )
        return tuple(int(index) for index in path)

    def format_path(self, path: Sequence[int]) -> str:
        """Writes a path as the tables do: one digit a gene, a blank between stages."""
        text, stage = "", self.genes[0].stage if self.genes else ""
        for index, gene in zip(path, self.genes, strict=True):
            text += ("" if gene.stage == stage else " ") + str(index)
            stage = gene.stage
        return text


class Supernet(Backbone):
    """A backbone whose path is open: every gene's choices are there, `path` says which work.

    Switching costs nothing, since nothing is copied or rebuilt. What the path leaves out takes no
    part in the forward pass and so has no gradient.

    Args:
        space: the table.
        path: the first path to take; the first choice of every gene by default.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3; Guo et al. 2019, arXiv:1904.00420.
    """

    def __init__(self, space: Space, path: Sequence[int] | None = None) -> None:
        super().__init__()
        self.space = space
        self._path = space.check([0] * len(space.genes) if path is None else path)

    @property
    def path(self) -> tuple[int, ...]:
        """The path that `forward` takes."""
        return self._path

    def take(self, path: Sequence[int]) -> None:
        """Takes another path from now on.

        Raises:
            InputError: it does not fit the space.
        """
        self._path = self.space.check(path)

    @abstractmethod
    def weights_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        """The weights of one network: they fit `space.network(path)`, and are not copied."""

    def levelled(self, network: Backbone) -> Backbone:
        """Gives a network of the space the levels that this has on its path, where it lacks any."""
        return network

    def spread(self) -> None:
        """Gives every choice that is off the path the weights of the one on it, as far as they fit.

        A supernet whose first steps all went along one path begins from there, its choices nearly
        interchangeable. Where choices share their weights anyway there is nothing to do.
        """


def find_supernet(model: nn.Module) -> Supernet | None:
    """Finds the supernet within a classifier or detector, None where there is none."""
    return next((module for module in model.modules() if isinstance(module, Supernet)), None)


def renamed(state: dict[str, Tensor], places: dict[str, str]) -> dict[str, Tensor]:
    """Takes from `state` what lies under the keys of `places`, renamed to their values.

    Args:
        places: prefix here -> prefix there, without the dot behind.
    """
    found = {}
    for name, value in state.items():
        for here, there in places.items():
            if name.startswith(f"{here}."):
                found[there + name[len(here) :]] = value
    return found


def parse_path(text: str) -> tuple[int, ...]:
    """Reads a path as the tables write it: one digit a gene, blanks where one likes.

    Raises:
        InputError: anything but digits and blanks.
    """
    digits = text.replace(" ", "")
    if not (digits.isascii() and digits.isdigit()):
        raise InputError(f"a path is written in digits and blanks, got {text!r}")
    return tuple(int(digit) for digit in digits)


def read_space(source: str | Mapping[str, Any]) -> Space:
    """Finds a space by its name, or reads a table of one's own.

    Args:
        source: of `SPACES`, a mapping as `Space.to_json` gives it, or the path of a YAML file that
            holds one.

    Raises:
        InputError: no such name or file, or a table that does not hold together.
    """
    if isinstance(source, str):
        if source in SPACES:
            space: Space = SPACES[source]
            return space
        if not source.endswith((".yaml", ".yml", ".json")):
            raise InputError(SPACES.unknown(source) + ", or a YAML file")
        return _from_mapping(read_yaml(Path(source)), source)
    return _from_mapping(source, "space")


def _from_mapping(table: Any, where: str) -> Space:
    if not isinstance(table, Mapping) or "kind" not in table:
        raise InputError(
            f"{where}: a space is a mapping with a 'kind', one of {', '.join(SPACE_KINDS)}"
        )
    kind = table["kind"]
    if not isinstance(kind, str) or kind not in SPACE_KINDS:
        raise InputError(f"{where}: {SPACE_KINDS.unknown(kind)}")
    values = {name: value for name, value in table.items() if name != "kind"}
    try:
        space: Space = SPACE_KINDS[kind].from_json(values)
        if is_dataclass(space):
            require_kinds(space)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except MISTAKES as error:
        raise InputError(f"{where}: no {kind} space: {one_line(error)}") from error
    return space


def require_keys(kind: type[Any], table: Mapping[str, Any], what: str) -> None:
    """Refuses keys of a table, or of a part of it, that are none of its dataclass's.

    Raises:
        InputError: naming the nearest.
    """
    require_known(f"key of {what}", table, [field.name for field in fields(kind)])


def rows_of(given: Any, kind: type[Any]) -> list[dict[str, Any]]:
    """The rows of a table as a file has them.

    Args:
        kind: the dataclass that they are for.

    Raises:
        InputError: they are no list of mappings, or have a key that is none of the dataclass's.
    """
    if not of_kind(given, list[dict[str, Any]]):
        raise InputError(
            f"rows must be a list of mappings, each with its name, got {str(given)[:60]!r}"
        )
    for row in given:
        require_keys(kind, row, "a row")
    return [dict(row) for row in given]


def require_kinds(part: Any) -> None:
    """Refuses values that the table's own annotations do not allow, as a width that is a text.

    Raises:
        InputError: naming the first.
    """
    hints = get_type_hints(type(part))
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, tuple) and value and is_dataclass(value[0]):
            for member in value:
                require_kinds(member)
        elif not of_kind(value, hints[field.name]):
            wanted = say_kind(hints[field.name])
            raise InputError(f"{field.name} must be {wanted}, got {str(value)[:60]!r}")


def network_of_space(
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
    if not isinstance(path, str | Sequence):  # YAML reads digits as a number, nothing as null
        raise InputError(
            "write the path as a text, 'path: \"0123\"' in YAML, or with a blank between two "
            f"stages, got {path}"
        )
    indices = parse_path(path) if isinstance(path, str) else path
    return read_space(space).network(indices, **options)


def supernet_of_space(
    *, space: str | Mapping[str, Any], **options: Unpack[StagedOptions]
) -> Supernet:
    """Builds all networks of a space in one, with shared weights.

    Args:
        space: see `read_space`.

    Raises:
        InputError: no such space.
    """
    return read_space(space).supernet(**options)


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
