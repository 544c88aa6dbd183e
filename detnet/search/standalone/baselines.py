"""Trains a search's winner and what it must beat, with one budget, and tells the difference."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.engine.loop import Interrupt
from detnet.errors import InputError
from detnet.files import write_text
from detnet.search.costs.constraints import Constraints
from detnet.search.costs.counting import SpacePath
from detnet.search.records import (
    CONFIDENCE,
    SCORES,
    Baselines,
    BaselinesPlan,
    ComparedNetwork,
    PlannedNetwork,
    StandaloneResult,
    WelchDifference,
    read_record,
    write_record,
)
from detnet.search.run import SearchRun
from detnet.search.standalone.samples import draw_paths, largest_within
from detnet.search.standalone.sharing import in_turn, require_one_process
from detnet.search.standalone.statistics import difference_interval, mean_interval
from detnet.search.standalone.text import baselines_markdown
from detnet.search.standalone.training import (
    StandaloneTraining,
    expectation,
    require_same_budget,
    share_trainings,
)
from detnet.training.run_state import OnEvent

_PURPOSE = 35  # keeps these draws apart from others of the same seed


def baselines(
    folder: Path,
    *,
    random: int = 5,
    seeds: int = 3,
    within: float = 0.05,
    share_pretraining: bool = False,
    on_event: OnEvent,
) -> Baselines | None:
    """Trains the winner of a search, and networks to hold it against, each by the same settings.

    These are the network of first choices (all 3×3 in DetNAS's spaces; where a space's genes are
    not kinds of blocks, its smallest network), the largest within the search's limit, and random
    ones of about the winner's multiply-adds, whatever else they cost; which ones is written to
    RUN/baselines/plan.json before any is trained. Several processes may be at it, each started by
    itself. Writes baselines.json and baselines.md into RUN/baselines.

    The winner's first training is that of RUN/winner, the search's last phase.

    Args:
        folder: of a search that has a winner.
        random: how many random networks, of one seed each.
        seeds: trainings of each other network, by different seeds.
        within: how far from the winner's multiply-adds random networks may be, as a share.
        share_pretraining: whether all seeds of a network begin with the first one's pre-training;
            then they differ by their fine-tuning alone.
        on_event: called with the events of the trainings, and "note".

    Returns:
        What it found; None when it was interrupted and can be gone on with.

    Raises:
        InputError: no winner, or other arguments or settings than planned.
    """
    require_one_process("baselines")
    if random < 0 or seeds < 1 or not 0 < within < 1:
        raise InputError(
            f"--random {random} --seeds {seeds} --within {within:g}: give a number of networks, "
            "at least one seed, and a share between 0 and 1"
        )
    run = SearchRun.open(folder)
    asked = BaselinesPlan(
        random=random, seeds=seeds, within=within, share_pretraining=share_pretraining, networks=()
    )
    plan = _resolve_plan(run, asked)
    trainings = [_trainings(run, plan, network) for network in plan.networks]
    everything = [one for several in trainings for one in several]
    require_same_budget(plan.budget, everything[0].budget, _plan_file(run))
    on_event({"event": "note", "text": expectation(everything)})
    with Interrupt() as interrupt:
        if not share_trainings(everything, stop=lambda: interrupt.set, on_event=on_event):
            return None
    found = _summary(plan, trainings)
    write_record(folder / "baselines" / "baselines.json", found)
    write_text(folder / "baselines" / "baselines.md", baselines_markdown(found))
    return found


def _plan_file(run: SearchRun) -> Path:
    return run.folder / "baselines" / "plan.json"


def _resolve_plan(run: SearchRun, asked: BaselinesPlan) -> BaselinesPlan:
    """Chooses the networks, once."""
    place = _plan_file(run)
    winner = _winner(run)
    with in_turn(place.parent):
        if place.exists():
            plan = read_record(BaselinesPlan, place)
            _require_as_planned(plan, asked, run.space.format_path(winner), place)
            return plan
        plan = replace(asked, networks=_choose(run, winner, asked))
        plan = replace(plan, budget=_trainings(run, plan, plan.networks[0])[0].budget)
        write_record(place, plan)
        return plan


def _winner(run: SearchRun) -> SpacePath:
    place, winner = run.folder / "winner.json", run.winner
    if winner is None:
        raise InputError(
            f"{place}: no such file: the search has no winner yet; go on with it by "
            f"`detnet search --resume {run.folder}`"
        )
    return run.read_path(winner.path, place)


def _require_as_planned(
    plan: BaselinesPlan, asked: BaselinesPlan, winner: str, place: Path
) -> None:
    for name in ("random", "seeds", "within", "share_pretraining"):
        if getattr(plan, name) != getattr(asked, name):
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"{place}: planned with {option} {getattr(plan, name)}, not "
                f"{getattr(asked, name)}; give the same, or delete {place.parent} to begin anew"
            )
    if plan.networks[0].path != winner:
        raise InputError(
            f"{place}: planned for the winner {plan.networks[0].path}, but it is {winner} by "
            f"now; delete {place.parent} to begin anew"
        )


@dataclass(frozen=True)
class _PickedNetwork:
    """A network that is worth a comparison, and why."""

    kind: str
    name: str
    path: SpacePath
    note: str = ""


def _choose(run: SearchRun, winner: SpacePath, asked: BaselinesPlan) -> tuple[PlannedNetwork, ...]:
    """The networks, each once; what is the same as one before is noted there."""
    first, constraints = run.config.seed, run.constraints()
    seeds = tuple(first + number for number in range(asked.seeds))
    found: dict[SpacePath, PlannedNetwork] = {}
    for one in (
        _PickedNetwork("winner", "the winner", winner),
        _first_choices(run),
        _largest(run, constraints),
    ):
        if one.path in found:
            notes = (*found[one.path].notes, f"is {one.name}, too")
            found[one.path] = replace(found[one.path], notes=notes)
            continue
        over = "" if constraints.allows(one.path) else "is over the search's limits"
        found[one.path] = PlannedNetwork(
            **asdict(run.describe(one.path, constraints)),
            name=one.name,
            kind=one.kind,
            seeds=seeds,
            notes=tuple(note for note in (one.note, over) if note),
        )
    macs, reach = run.costs.macs, asked.within * run.costs.macs(winner)
    drawn = draw_paths(
        run.space,
        lambda path: path not in found and abs(macs(path) - macs(winner)) <= reach,
        asked.random,
        seed=first,
        purpose=_PURPOSE,
    )
    random = [
        PlannedNetwork(
            **asdict(run.describe(path, constraints)), name=f"random {number}", seeds=(first,)
        )
        for number, path in enumerate(drawn, 1)
    ]
    return (*found.values(), *random)


def _first_choices(run: SearchRun) -> _PickedNetwork:
    if isinstance(run.space, ShuffleSpace):
        name = f"all {run.space.genes[0].choices[0]}"
        return _PickedNetwork("first", name, run.space.check((0,) * len(run.space.genes)))
    return _PickedNetwork("smallest", "the smallest", run.costs.smallest())


def _largest(run: SearchRun, constraints: Constraints) -> _PickedNetwork:
    limit, costs = run.config.max_macs, run.costs
    if limit is None:
        limit = costs.macs(costs.largest())
    path, exact = largest_within(
        run.space, costs.macs, limit, constraints.allows, seed=run.config.seed
    )
    note = "" if exact else "found by enlarging random networks; there may be a larger one"
    return _PickedNetwork("largest", "the largest", path, note)


def _trainings(
    run: SearchRun, plan: BaselinesPlan, network: PlannedNetwork
) -> list[StandaloneTraining]:
    """The trainings of a network, by its seeds; the winner's first is the search's own."""
    place = _plan_file(run).parent / network.name.removeprefix("the ").replace(" ", "_")
    run.read_path(network.path, _plan_file(run))
    winner = run.folder / "winner" if network.kind == "winner" else None
    found = []
    for number, seed in enumerate(network.seeds):
        own = place / f"seed{seed}"
        folder = winner if winner and number == 0 else own
        shared = plan.share_pretraining
        found.append(
            StandaloneTraining(
                run,
                network,
                network.name,
                seed,
                folder=folder,
                result=own / "result.json",
                pretrain_folder=((winner or place) if shared else folder) / "pretrain",
                pretrain_seed=network.seeds[0] if shared else seed,
            )
        )
    return found


def _summary(plan: BaselinesPlan, trainings: Sequence[Sequence[StandaloneTraining]]) -> Baselines:
    networks = tuple(
        _compared(network, [read_record(StandaloneResult, one.result) for one in several])
        for network, several in zip(plan.networks, trainings, strict=True)
    )
    winner, *others = networks
    random = [value for one in others if one.kind == "random" for value in one.values]
    rivals = [("the random ones", "random", random)]
    rivals += [(one.name, one.kind, [*one.values]) for one in others if one.kind != "random"]
    return Baselines(
        seeds=plan.seeds,
        within=plan.within,
        share_pretraining=plan.share_pretraining,
        confidence=CONFIDENCE,
        networks=networks,
        differences=tuple(
            WelchDifference(
                name=name,
                kind=kind,
                difference=statistics.fmean(winner.values) - statistics.fmean(values),
                interval=difference_interval(winner.values, values, confidence=CONFIDENCE),
            )
            for name, kind, values in rivals
            if winner.values and values
        ),
    )


def _compared(network: PlannedNetwork, results: Sequence[StandaloneResult]) -> ComparedNetwork:
    """A network with the means over its trainings."""
    means: dict[str, Any] = {}
    for name in SCORES:
        there = [value for one in results if (value := getattr(one, name)) is not None]
        means[name] = statistics.fmean(there) if there else None
    values = tuple(one.AP for one in results if one.AP is not None)
    planned = {entry.name: getattr(network, entry.name) for entry in fields(network)}
    return ComparedNetwork(
        **planned,
        **means,
        values=values,
        interval=mean_interval(values, confidence=CONFIDENCE),
        trainings=tuple(results),
    )
