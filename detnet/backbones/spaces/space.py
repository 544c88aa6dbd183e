"""Spaces: sets of networks that share one table, each picked from it by a path."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml

from detnet.backbones.base import Backbone
from detnet.backbones.blocks import StrideIn
from detnet.backbones.norm import NormKind
from detnet.errors import InputError
from detnet.kinds import of_kind, say_kind
from detnet.tables import NameTable, unknown_name

if TYPE_CHECKING:
    from detnet.backbones.spaces.supernet import Supernet

SPACES = NameTable(
    "space",
    {
        "detnas_small": "detnet.backbones.detnas:SMALL",
        "detnas_large": "detnet.backbones.detnas:LARGE",
        "detnet": "detnet.backbones.spaces.detnet_space:DETNET",
    },
)
_KINDS = NameTable(
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
            InputError: it has another length, or an index beyond a gene's choices.
        """
        genes = self.genes
        if len(path) != len(genes):
            raise InputError(f"a path through this space has {len(genes)} entries, got {len(path)}")
        for number, (index, gene) in enumerate(zip(path, genes, strict=True)):
            if not 0 <= index < len(gene.choices):
                raise InputError(
                    f"entry {number} of the path is {index}; the choices of {gene.stage}'s "
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
            raise InputError(unknown_name("space", source, SPACES) + ", or a YAML file")
        return _from_mapping(_load(Path(source)), source)
    return _from_mapping(source, "space")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def _from_mapping(table: Any, where: str) -> Space:
    if not isinstance(table, Mapping) or "kind" not in table:
        raise InputError(f"{where}: a space is a mapping with a 'kind', one of {', '.join(_KINDS)}")
    if table["kind"] not in _KINDS:
        raise InputError(f"{where}: {unknown_name(_KINDS.kind, table['kind'], _KINDS)}")
    values = {name: value for name, value in table.items() if name != "kind"}
    try:
        space: Space = _KINDS[table["kind"]].from_json(values)
    except (TypeError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{where}: {error}") from error
        raise InputError(f"{where}: no {table['kind']} space: {error}") from error
    _require_kinds(space, where)
    return space


def _require_kinds(part: Any, where: str) -> None:
    """Refuses values that the table's own annotations do not allow, as a width that is a text."""
    hints = get_type_hints(type(part))
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, tuple) and value and is_dataclass(value[0]):
            for member in value:
                _require_kinds(member, where)
        elif not of_kind(value, hints[field.name]):
            wanted = say_kind(hints[field.name])
            raise InputError(f"{where}: {field.name} must be {wanted}, got {str(value)[:60]!r}")
