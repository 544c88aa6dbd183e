"""Loads pretrained weights: compares a network with a file, takes what fits, reports on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from detnet.backbones.base import Backbone
from detnet.backbones.weights.layout import is_counter
from detnet.backbones.weights.pretrained import PretrainedWeights, blocks_of, describe
from detnet.errors import InputError
from detnet.text import lay_out

_SHOWN = 3  # layers of a part that the text names


@dataclass(frozen=True)
class LoadReport:
    """What a file fills of a network; batch counters are not counted.

    Args:
        loaded: our names of what is taken.
        fresh: our names of what stays as it was drawn.
        left_over: names of what the file has besides.
        mismatched: our names of what has another shape in the file; fresh, too.
        parts: of both, in the network's order.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    left_over: tuple[str, ...]
    mismatched: tuple[str, ...]
    parts: tuple[str, ...]

    def by_part(self) -> dict[str, dict[str, list[str]]]:
        """The names of each kind for every part that has any."""
        kinds = {
            "loaded": self.loaded,
            "fresh": self.fresh,
            "left over": self.left_over,
            "other shape": self.mismatched,
        }
        found: dict[str, dict[str, list[str]]] = {p: {k: [] for k in kinds} for p in self.parts}
        for kind, names in kinds.items():
            for name in names:
                found[part_of(name)][kind].append(name)
        return {part: names for part, names in found.items() if any(names.values())}

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
        return [*lay_out(rows, left={0}).splitlines(), *self._names(parts)]

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
) -> LoadReport:
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
    return LoadReport(
        tuple(n for n in own if n in loaded and not is_counter(n)),
        tuple(fresh),
        tuple(left),
        tuple(n for n in own if n in mismatched and not is_counter(n)),
        tuple(dict.fromkeys(part_of(name) for name in (*own, *given))),
    )


def compare_backbone(own: Backbone, source: PretrainedWeights, *, name: str) -> LoadReport:
    """Says what the weights would fill of a backbone, and sees to it that they belong to it.

    Where both networks have the same stages, nothing that the backbone requires may be missing; of
    a network of other stages, as a ResNet's for a DetNet, what both have in common.

    Args:
        own: the backbone to be filled; on the meta device will do.
        source: the file's weights.
        name: of the backbone, for the message.

    Raises:
        InputError: another width, another network, or something is missing.
    """
    state, given = own.state_dict(), source.backbone
    what = f"{source.place}: holds {source.title} with {describe(given)}; {name} here has"
    first = next(iter(state))
    mine, theirs = state[first], given.get(first, Tensor())
    if theirs.shape[1:] == mine.shape[1:] and len(theirs) != len(mine):
        raise InputError(f"{what} {len(mine)} channels in its first layer: the width is another")
    done = compare(state, {**given, **source.others})
    blocks, counts = blocks_of(state), blocks_of(given)
    relative = blocks.keys() != counts.keys()
    missing = {part_of(n) for n in done.fresh if own.requires(n, relative=relative)}
    missing |= {
        part_of(n)
        for n in done.loaded
        if counts.get(part_of(n), 0) > blocks.get(part_of(n), 0) and own.requires(n, relative=True)
    }
    if missing:
        parts = ", ".join(part for part in done.parts if part in missing)
        raise InputError(f"{what} {describe(state)}: they do not fit in {parts}")
    return done


def load_weights(
    network: nn.Module,
    source: PretrainedWeights,
    *,
    name: str = "the network",
    skip: Callable[[str], bool] = lambda name: False,
) -> LoadReport:
    """Loads a file's weights into a backbone, or into a network that has one.

    Args:
        network: the backbone's weights go into its backbone, wherever that is, all others to the
            same names.
        source: the file's weights.
        name: of the backbone, for messages.
        skip: names that stay fresh although they fit, as those of other classes.

    Raises:
        InputError: they are another network's.
    """
    place, backbone = next((n, m) for n, m in network.named_modules() if isinstance(m, Backbone))
    compare_backbone(backbone, source, name=name)
    prefix = f"{place}." if place else ""
    given = {**{f"{prefix}{n}": v for n, v in source.backbone.items()}, **source.others}
    done = compare(network.state_dict(), given, skip=skip)
    names = set(done.loaded)
    # Batch counters go along with their layer.
    layers = {name.rpartition(".")[0] for name in names}
    chosen = {
        name: value
        for name, value in given.items()
        if name in names or (is_counter(name) and name.rpartition(".")[0] in layers)
    }
    network.load_state_dict(chosen, strict=False)
    return done


def load_into_classifier(
    classifier: nn.Module,
    source: PretrainedWeights,
    *,
    same_classes: bool,
    name: str = "the network",
) -> LoadReport:
    """Loads a file's weights into a classifier, its last layer only for the same classes.

    Raises:
        InputError: they are another network's.
    """
    return load_weights(
        classifier, source, name=name, skip=lambda n: n.startswith("fc.") and not same_classes
    )


def _layer(name: str, part: str) -> str:
    """The layer of a weight, without the name of its part."""
    layer = name.rpartition(".")[0] or name
    return layer.partition(f"{part}.")[2] or layer
