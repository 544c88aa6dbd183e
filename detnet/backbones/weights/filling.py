"""Compares a network with what a file holds, loads what fits, and makes a table of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from detnet.backbones.weights.layout import is_counter
from detnet.backbones.weights.source import Source, blocks_of, describe
from detnet.errors import InputError

_SHOWN = 3  # layers of a part that the text names
# What every ResNet and DetNet of the same depth has in common: the paper's stages 1 to 4.
_COMMON = ("stem", "c2", "c3", "c4")
_PROJECTIONS = ("stages.c5.0.downsample", "stages.c6.0.downsample")


@dataclass(frozen=True)
class Import:
    """What a file fills of a network; batch counters are not counted.

    Args:
        loaded: our names of what is taken.
        fresh: our names of what stays as it was drawn.
        left_over: names of what the file has besides.
        mismatched: our names of what has another shape in the file; fresh, too.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    left_over: tuple[str, ...]
    mismatched: tuple[str, ...]

    def by_part(self) -> dict[str, dict[str, list[str]]]:
        """The names of each kind for every part, stem and stages first."""
        parts: dict[str, dict[str, list[str]]] = {}
        kinds = {
            "loaded": self.loaded,
            "fresh": self.fresh,
            "left over": self.left_over,
            "other shape": self.mismatched,
        }
        for kind, names in kinds.items():
            for name in names:
                part = parts.setdefault(part_of(name), {kind: [] for kind in kinds})
                part[kind].append(name)
        return dict(sorted(parts.items(), key=lambda item: _order(item[0])))

    def lines(self) -> list[str]:
        """The table, a line for each part, and under it the names that were not simply loaded."""
        parts = self.by_part()
        if not parts:
            return []
        kinds = list(next(iter(parts.values())))
        rows = [["part", *kinds]]
        rows += [
            [part, *(str(len(names[kind])) for kind in kinds)] for part, names in parts.items()
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        return [*table, *self._names(parts)]

    def to_json(self) -> dict[str, Any]:
        """Counts and names, as `--json` prints them."""
        return {
            "loaded": list(self.loaded),
            "fresh": list(self.fresh),
            "left_over": list(self.left_over),
            "shape_mismatch": list(self.mismatched),
        }

    def _names(self, parts: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
        found = []
        for kind in ("fresh", "left over", "other shape"):
            for part, names in parts.items():
                layers = list(dict.fromkeys(_layer(name, part) for name in names[kind]))
                more = len(layers) - _SHOWN
                rest = f" and {more} more" if more > 0 else ""
                if layers:
                    found.append(f"{kind}, {part}: {', '.join(layers[:_SHOWN])}{rest}")
        return found


def part_of(name: str) -> str:
    """The part of a network that a weight belongs to: stem, c2 …, neck, rpn, roi_heads, fc."""
    name = name.removeprefix("backbone.").removeprefix("backbone.")
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "stages" and len(pieces) > 1 else pieces[0]


def compare(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    *,
    skip: Callable[[str], bool] = lambda name: False,
) -> Import:
    """Sorts the names of a network and of a file into loaded, fresh, left over and mismatched.

    A stage is taken whole or not at all: one that differs in shape anywhere stays fresh, since its
    weights are those of another stage.

    Args:
        own: the network's state.
        given: the file's, in the network's names.
        skip: names that stay fresh although they fit.
    """
    mismatched = {n for n, v in own.items() if n in given and given[n].shape != v.shape}
    spoiled = {part_of(name) for name in mismatched if ".stages." in f".{name}"}
    loaded = {
        name
        for name in own
        if name in given
        and name not in mismatched
        and not (".stages." in f".{name}" and part_of(name) in spoiled)
        and not skip(name)
    }
    fresh = [n for n in own if n not in loaded and not is_counter(n)]
    left = [n for n in given if n not in loaded and n not in mismatched and not is_counter(n)]
    return Import(
        tuple(n for n in own if n in loaded and not is_counter(n)),
        tuple(fresh),
        tuple(left),
        tuple(n for n in own if n in mismatched and not is_counter(n)),
    )


def load(module: nn.Module, given: Mapping[str, Tensor], done: Import) -> None:
    """Copies what `compare` found to fit into the network."""
    names = set(done.loaded)
    # Batch counters go along with their layer.
    layers = {name.rpartition(".")[0] for name in names}
    chosen = {
        name: value
        for name, value in given.items()
        if name in names or (is_counter(name) and name.rpartition(".")[0] in layers)
    }
    module.load_state_dict(chosen, strict=False)


def require_common(own: Mapping[str, Tensor], source: Source, *, name: str) -> None:
    """Sees to it that what both networks should have in common is there.

    A DetNet and a ResNet share stem and stages c2 to c4, all others everything.

    Args:
        own: state of the backbone to be filled.
        source: the file's weights.
        name: of the backbone, for the message.

    Raises:
        InputError: another width, another network, or something is missing.
    """
    given = source.backbone
    what = f"{source.place}: holds {source.title} with {describe(given)}; {name} here has"
    mine, theirs = own["stem.conv.weight"], given.get("stem.conv.weight", Tensor())
    if theirs.shape[1:] == mine.shape[1:] and len(theirs) != len(mine):
        raise InputError(f"{what} a stem of {len(mine)} channels: the width is another")
    counts, blocks = blocks_of(given), blocks_of(own)
    expected = _expected(blocks, counts)
    missing = [part_of(n) for n in compare(own, given).fresh if expected(n)]
    missing += [p for p, count in blocks.items() if p in _COMMON and counts.get(p, 0) > count]
    if missing:
        parts = ", ".join(sorted(set(missing), key=_order))
        raise InputError(f"{what} {describe(own)}: they do not fit in {parts}")


def _expected(mine: Mapping[str, int], theirs: Mapping[str, int]) -> Callable[[str], bool]:
    """Tells whether a weight should be in the file, by the blocks of both networks."""
    if ("c6" in mine) != ("c6" in theirs):
        return lambda name: part_of(name) in _COMMON
    if "c6" in mine:  # DetNet-59 and its variant differ in a projection
        return lambda name: not name.startswith(_PROJECTIONS)
    return lambda name: True


def fill_backbone(backbone: nn.Module, source: Source, *, name: str = "the network") -> Import:
    """Loads a file's weights into a backbone.

    Raises:
        InputError: they are another network's.
    """
    own = backbone.state_dict()
    require_common(own, source, name=name)
    done = compare(own, {**source.backbone, **source.others})
    load(backbone, source.backbone, done)
    return done


def fill_classifier(
    classifier: nn.Module, source: Source, *, same_classes: bool, name: str = "the network"
) -> Import:
    """Loads a file's weights into a classifier, its last layer only for the same classes.

    Raises:
        InputError: they are another network's.
    """
    own = classifier.state_dict()
    bodies = {n.removeprefix("backbone."): v for n, v in own.items() if n.startswith("backbone.")}
    require_common(bodies, source, name=name)
    given = {**{f"backbone.{n}": v for n, v in source.backbone.items()}, **source.others}
    done = compare(own, given, skip=lambda n: n.startswith("fc.") and not same_classes)
    load(classifier, given, done)
    return done


def _layer(name: str, part: str) -> str:
    """The layer of a weight, without the name of its part."""
    layer = name.rpartition(".")[0] or name
    return layer.partition(f"{part}.")[2] or layer


def _order(part: str) -> tuple[bool, bool, str]:
    stage = part.startswith("c") and part[1:].isdigit()
    return (part != "stem", not stage, part)
