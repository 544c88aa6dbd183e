"""Networks of a search as pages draw them, gene by gene, and the published ones of its space."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detnet.backbones.detnas import (
    DETNASNET_1_3G,
    DETNASNET_300M,
    DETNASNET_300M_RETINANET,
    DETNASNET_VOC_300M,
    DETNASNET_VOC_300M_RETINANET,
)
from detnet.backbones.detnet import DETNET53_S8, DETNET59, DETNET59_NOPROJ
from detnet.backbones.resnet import RESNET50, RESNET50_DILATED
from detnet.backbones.spaces.detnet_space import DetNetSpace
from detnet.backbones.spaces.detnet_stage import spell
from detnet.backbones.spaces.shuffle_space import BlockKind, ShuffleSpace
from detnet.backbones.spaces.space import SPACES, Space
from detnet.errors import InputError
from detnet.search.costs.counting import SpacePath
from detnet.search.records import SpaceNetwork
from detnet.search.run import SearchRun

_PATHS: dict[str, dict[str, SpacePath]] = {
    "detnas_small": {
        "detnasnet_300m": DETNASNET_300M,
        "detnasnet_300m_retinanet": DETNASNET_300M_RETINANET,
        "detnasnet_voc_300m": DETNASNET_VOC_300M,
        "detnasnet_voc_300m_retinanet": DETNASNET_VOC_300M_RETINANET,
        "shufflenetv2_20": (0,) * 20,
    },
    "detnas_large": {"detnasnet_1_3g": DETNASNET_1_3G, "shufflenetv2_40": (0,) * 40},
}
_TABLES = {
    "detnet59": DETNET59,
    "detnet59_noproj": DETNET59_NOPROJ,
    "detnet53_s8": DETNET53_S8,
    "resnet50": RESNET50,
    "resnet50_dilated": RESNET50_DILATED,
}


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork(SpaceNetwork):
    """A published network of a space; `indices` are its path's."""

    name: str
    indices: SpacePath


@dataclass(frozen=True)
class DrawnGene:
    """One thing that a space leaves open.

    Args:
        stage: the level it belongs to.
        name: what it is, unique within the stage.
        choices: what it may be, by name.
        labels: the same in two or three letters, for the drawing.
        note: what a drawing says under it, as channels and stride.
    """

    stage: str
    name: str
    choices: tuple[str, ...]
    labels: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class DrawnChoice:
    """What a network has in the place of a gene.

    Args:
        gene, choice: their numbers.
        title: gene, choice and note in words.
        differs: from the network that it is drawn beside.
    """

    gene: int
    choice: int
    name: str
    label: str
    note: str
    title: str
    differs: bool


@dataclass(frozen=True)
class DrawnStage:
    """One row of a network.

    Args:
        cells: of its genes or, where the network is a table, of all columns, a text where the
            space leaves nothing open.
        absent: whether the network does without the stage.
    """

    name: str
    note: str
    cells: Sequence[DrawnChoice | str]
    absent: bool = False


@dataclass(frozen=True)
class DrawnSpace:
    """A space as its networks are drawn.

    Args:
        genes: input to output, a stage's genes together.
        stage_notes: what to say of a stage, by its name.
        fixed: what else there is to a stage and is not open: stage -> question -> answer.
    """

    genes: Sequence[DrawnGene]
    stage_notes: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def alike(self) -> bool:
        """Whether all genes have the same choices, as the blocks of DetNAS's spaces."""
        return len({gene.choices for gene in self.genes}) == 1

    @property
    def legend(self) -> list[tuple[int, str, str]]:
        """Index, label and name of each kind of block, where all genes have the same."""
        if not self.alike:
            return []
        pairs = zip(self.genes[0].labels, self.genes[0].choices, strict=True)
        return [(index, label, name) for index, (label, name) in enumerate(pairs)]

    @property
    def columns(self) -> list[str]:
        """The questions, in the order of the stage that has most."""
        whole: dict[str, list[str]] = {}
        for gene in self.genes:
            whole.setdefault(gene.stage, []).append(gene.name)
        longest = max(whole.values(), key=len, default=[])
        fixed = [name for answers in self.fixed.values() for name in answers]
        return list(dict.fromkeys([*longest, *(gene.name for gene in self.genes), *fixed]))

    def network(self, path: Sequence[int], beside: Sequence[int] = ()) -> list[DrawnStage]:
        """One network drawn gene by gene, a row per stage.

        Args:
            path: the network.
            beside: another one; where the two differ is marked.
        """
        rows: dict[str, list[DrawnChoice]] = {
            stage: [] for stage in [*self.fixed, *(gene.stage for gene in self.genes)]
        }
        for index, (gene, choice) in enumerate(zip(self.genes, path, strict=True)):
            title = ", ".join(filter(None, (gene.name, gene.choices[choice], gene.note)))
            differs = bool(beside) and beside[index] != choice
            label = gene.labels[choice]
            cell = DrawnChoice(index, choice, gene.name, label, gene.note, title, differs)
            rows[gene.stage].append(cell)
        if self.alike:
            return [
                DrawnStage(stage, self.stage_notes.get(stage, ""), cells)
                for stage, cells in rows.items()
            ]
        return [self._table_row(stage, {cell.name: cell for cell in rows[stage]}) for stage in rows]

    def _table_row(self, stage: str, there: Mapping[str, DrawnChoice]) -> DrawnStage:
        """The same question of all stages under one head."""
        fixed = self.fixed.get(stage, {})
        cells = [there.get(name) or fixed.get(name, "") for name in self.columns]
        depth = there.get("depth")
        return DrawnStage(stage, "", cells, absent=depth is not None and depth.label == "0")


def drawn_space(space: Space, width: float) -> DrawnSpace:
    """Says how networks of a space are drawn."""
    if not isinstance(space, ShuffleSpace):
        genes = [DrawnGene(g.stage, g.name, g.choices, g.choices) for g in space.genes]
        return DrawnSpace(genes, fixed=_fixed(space))
    labels = _labels(space.choices)
    genes = [
        DrawnGene(
            gene.stage,
            gene.name,
            gene.choices,
            labels,
            f"{at.out_channels}" + (" /2" if at.stride == 2 else ""),
        )
        for gene, at in zip(space.genes, space.scaled(width).positions(), strict=True)
    ]
    rows = space.scaled(width).rows
    notes = {row.name: f"{row.channels} ch, 1/{4 << at}" for at, row in enumerate(rows)}
    return DrawnSpace(genes, notes)


def published_networks(run: SearchRun) -> list[PublishedNetwork]:
    """The published networks of a search's very space, that of its own detector first."""
    found = [
        PublishedNetwork(
            name=name,
            indices=path,
            path=run.space.format_path(path),
            macs=run.costs.macs(path),
            params=run.costs.params(path),
        )
        for name, path in _published(run.space).items()
    ]
    retinanet = run.config.detector == "retinanet"
    return sorted(found, key=lambda one: one.name.endswith("_retinanet") != retinanet)


def alike(path: Sequence[int], other: Sequence[int]) -> int:
    """How many genes are the same."""
    return sum(a == b for a, b in zip(path, other, strict=True))


def _labels(choices: Sequence[BlockKind]) -> tuple[str, ...]:
    """S7 for shufflenet_7x7, X3 for xception_3x3; the index behind those that are alike."""
    short = [f"{choice.name[:1].upper()}{choice.kernels[0]}" for choice in choices]
    counts = Counter(short)
    return tuple(
        f"{label}·{index}" if counts[label] > 1 else label for index, label in enumerate(short)
    )


def _fixed(space: Space) -> dict[str, dict[str, str]]:
    """What a row of DetNet's space does not leave open."""
    if not isinstance(space, DetNetSpace):
        return {}
    return {
        row.name: {
            question: spell(question, answers[0])
            for question, answers in row.options()
            if len(answers) == 1
        }
        for row in space.rows
    }


def _published(space: Space) -> dict[str, SpacePath]:
    if isinstance(space, DetNetSpace):
        found = {}
        for name, table in _TABLES.items():
            with contextlib.suppress(InputError):  # not in every such space
                found[name] = space.path_of(table)
        return found
    own = space.to_json()
    return next((_PATHS[name] for name in _PATHS if SPACES[name].to_json() == own), {})
