"""Chooses the networks that the winner of a search is held against."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from detnet.backbones.cost import Cost, count, on_meta
from detnet.backbones.detnet import DETNET59
from detnet.backbones.resnet import RESNET50
from detnet.backbones.spaces.detnet_space import DetNetSpace
from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.errors import InputError
from detnet.files import read_json
from detnet.search.costs.constraints import Constraints
from detnet.search.costs.counting import SpacePath
from detnet.search.records import BaselinesPlan, PlannedNetwork
from detnet.search.run import SearchRun
from detnet.search.standalone.samples import draw_paths, largest_within
from detnet.text import percent

_PURPOSE = 35  # keeps these draws apart from others of the same seed
_ORDER = ("winner", "other", "known", "widened", "largest", "random")  # in which they are trained
_WIDEST, _WIDTH_PARTS = 8, 1000  # that a backbone takes, and what it is given in


def choose_rivals(
    run: SearchRun, winner: SpacePath, asked: BaselinesPlan
) -> tuple[PlannedNetwork, ...]:
    """Chooses the winner and what it must beat, each network once.

    Next to it come the networks that the space is built around (all 3×3 in DetNAS's; DetNet-59 and
    ResNet-50 in DetNet's; the smallest where it has none of these), those of them with fewer
    multiply-adds than the winner once more in the width that gives them as many, the largest
    network within the search's limit, and random ones of about the winner's multiply-adds,
    whatever else they cost. What is the same as one before is noted there.

    Args:
        asked: how many random networks and seeds, and what "about" means.

    Raises:
        InputError: there are not so many random networks.
    """
    first, constraints = run.config.seed, run.constraints()
    seeds = tuple(first + number for number in range(asked.seeds))
    known = _known(run)
    found: dict[SpacePath, PlannedNetwork] = {}
    for kind, name, path, note in (
        ("winner", "the winner", winner, ""),
        *(("known", name, path, "") for name, path in known),
        ("largest", "the largest", *_largest(run, constraints)),
    ):
        if path in found:
            notes = (*found[path].notes, f"is {name}, too")
            found[path] = replace(found[path], notes=notes)
            continue
        over = "" if constraints.allows(path) else "is over the search's limits"
        notes = tuple(text for text in (note, over) if text)
        found[path] = run.plan(path, constraints, name=name, kind=kind, seeds=seeds, notes=notes)
    macs, reach = run.costs.macs, asked.within * run.costs.macs(winner)
    widened = [
        _widened(run, name, path, macs(winner), seeds)
        for name, path in known
        if macs(path) < macs(winner) - reach
    ]
    drawn = draw_paths(
        run.space,
        lambda path: path not in found and abs(macs(path) - macs(winner)) <= reach,
        asked.random,
        seed=first,
        purpose=_PURPOSE,
    )
    random = [
        run.plan(path, constraints, name=f"random {number}", seeds=(first,))
        for number, path in enumerate(drawn, 1)
    ]
    networks = [*found.values(), *widened, *random]
    return _in_order(networks)


def add_winners(run: SearchRun, plan: BaselinesPlan, folders: Sequence[Path]) -> BaselinesPlan:
    """Adds the winners of other searches of the same space, each network once.

    Args:
        folders: of the other searches, which people know by their names.

    Raises:
        InputError: one has no winner, another space or width, the name of one that is there, or
            another winner than when it was added.
    """
    for folder in folders:
        other = SearchRun.open(folder)
        winner = other.winner
        if winner is None:
            raise InputError(
                f"{folder}: the search has no winner yet; go on with it by "
                f"`detnet search --resume {folder}`"
            )
        _require_comparable(run, other)
        before = plan.against.get(other.name)
        if before == winner.path:
            continue
        if before is not None or other.name == run.name:
            which = f"of the winner {before}" if before is not None else "the search itself"
            raise InputError(
                f"{folder}: its winner is {winner.path}, but the plan of {run.folder} knows "
                f"{other.name} as {which}; give searches folders of different names"
            )
        plan = _with_winner(run, plan, f"the winner of {other.name}", winner.path)
        plan = replace(plan, against={**plan.against, other.name: winner.path})
    return plan


def _require_comparable(run: SearchRun, other: SearchRun) -> None:
    if read_json(other.table) != read_json(run.table):
        raise InputError(f"{other.folder}: searches another space than {run.folder}")
    if other.config.width != run.config.width:
        raise InputError(
            f"{other.folder}: searches at width {other.config.width:g}, {run.folder} at "
            f"{run.config.width:g}; their networks are not of one size"
        )


def _with_winner(run: SearchRun, plan: BaselinesPlan, name: str, text: str) -> BaselinesPlan:
    """A plan with one network more, or with a word on the one that it is."""
    for number, one in enumerate(plan.networks):
        if one.path == text and one.width is None and one.kind != "random":
            told = replace(one, notes=(*one.notes, f"is {name}, too"))
            networks = (*plan.networks[:number], told, *plan.networks[number + 1 :])
            return replace(plan, networks=networks)
    constraints, path = run.constraints(), run.read_path(text, run.folder)
    notes = () if constraints.allows(path) else ("is over the search's limits",)
    seeds = plan.networks[0].seeds
    found = run.plan(path, constraints, name=name, kind="other", seeds=seeds, notes=notes)
    return replace(plan, networks=_in_order([*plan.networks, found]))


def _in_order(networks: Iterable[PlannedNetwork]) -> tuple[PlannedNetwork, ...]:
    return tuple(sorted(networks, key=lambda network: _ORDER.index(network.kind)))


def _known(run: SearchRun) -> list[tuple[str, SpacePath]]:
    """Names and paths of the networks that the space is built around, or of its smallest."""
    space = run.space
    if isinstance(space, ShuffleSpace):
        return [(f"all {space.genes[0].choices[0]}", space.check((0,) * len(space.genes)))]
    found = []
    if isinstance(space, DetNetSpace):
        for name, table in (("DetNet-59", DETNET59), ("ResNet-50", RESNET50)):
            with suppress(InputError):  # the space has no such network
                found.append((name, space.path_of(table)))
    return found or [("the smallest", run.costs.smallest())]


def _widened(
    run: SearchRun, name: str, path: SpacePath, macs: int, seeds: tuple[int, ...]
) -> PlannedNetwork:
    """A network in the width, from the search's on, that comes nearest to so many multiply-adds."""
    images = torch.empty(1, 3, *run.costs.image_size, device="meta")

    @cache
    def cost(width: int) -> Cost:
        with on_meta():
            network = run.space.network(path, width=width / _WIDTH_PARTS)
        return count(network, images)[0]

    # Channels come in eights, so multiply-adds go up in steps; one side of the passing step it is.
    widths = range(round(run.config.width * _WIDTH_PARTS), _WIDEST * _WIDTH_PARTS)
    above = bisect_right(widths, macs, key=lambda width: cost(width).macs)
    width = min(widths[above - 1 : above + 1], key=lambda width: abs(cost(width).macs - macs))
    found = cost(width)
    note = f"has width {width / _WIDTH_PARTS:g}, {percent(found.macs / macs)} % of the winner's "
    return PlannedNetwork(
        path=run.space.format_path(path),
        macs=found.macs,
        params=found.params,
        name=f"{name} widened",
        kind="widened",
        seeds=seeds,
        width=width / _WIDTH_PARTS,
        notes=(note + "multiply-adds",),
    )


def _largest(run: SearchRun, constraints: Constraints) -> tuple[SpacePath, str]:
    """The largest network within the limit, and what a person should know of it."""
    limit, costs = run.config.max_macs, run.costs
    if limit is None:
        limit = costs.macs(costs.largest())
    path, exact = largest_within(
        run.space, costs.macs, limit, constraints.allows, seed=run.config.seed
    )
    return path, "" if exact else "found by enlarging random networks; there may be a larger one"
