"""The plan of a validation: which networks are trained by which seeds, drawn before any score."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detnet.data.classification.shards import index_images
from detnet.data.reading import fingerprint_files
from detnet.errors import InputError
from detnet.search.costs.constraints import Constraints
from detnet.search.records import (
    PlannedNetwork,
    StandaloneResult,
    ValidationPlan,
    read_record,
    write_record,
)
from detnet.search.run import SearchRun
from detnet.search.split import class_folder
from detnet.search.standalone.plan import differences
from detnet.search.standalone.samples import draw_paths
from detnet.search.standalone.training import StandaloneTraining
from detnet.search.trainings import retrain_config
from detnet.training.detection.config import find_train, find_val

FEWEST = 10  # networks
_SCORING = "scoring"  # of a budget in a plan of an earlier version; each score tells its own now
_PURPOSE = 34  # keeps these draws apart from others of the same seed


def plan_file(run: SearchRun) -> Path:
    return run.folder / "validate" / "plan.json"


def plan_validation(
    run: SearchRun,
    plan: ValidationPlan | None,
    count: int | None,
    seeds: int | None,
    seed: int | None,
) -> ValidationPlan:
    """Draws the networks, or those that a larger count adds; all have the same seeds.

    Args:
        plan: that there is, to be added to.
        count, seeds, seed: see `validate`.

    Raises:
        InputError: fewer networks or seeds than planned, or another seed of the draw.
    """
    if plan and seed not in (None, plan.seed):
        place = plan_file(run)
        raise InputError(
            f"{place}: drawn with seed {plan.seed}, not {seed}; leave --seed out, or delete "
            f"{place.parent} to begin again"
        )
    count = _resolve_count(count, len(plan.networks) if plan else 0)
    planned = len(plan.networks[0].seeds) if plan else 0
    seeds = _resolve_seeds(seeds, planned)
    if plan is None:
        plan = ValidationPlan(seed=run.config.seed if seed is None else seed)
    if _SCORING in plan.budget:
        trained = {kind: one for kind, one in plan.budget.items() if kind != _SCORING}
        plan = replace(plan, budget=trained)
    if (count, seeds) == (len(plan.networks), planned):
        return plan
    networks = plan.networks
    if count > len(networks):
        networks = _draw(run, networks, count, plan.seed)
    first = plan.networks[0].seeds[0] if plan.networks else run.config.seed
    numbers = tuple(first + number for number in range(seeds))
    return replace(plan, networks=tuple(replace(one, seeds=numbers) for one in networks))


def _resolve_count(count: int | None, planned: int) -> int:
    least = max(FEWEST, planned)
    if count is not None and count < least:
        why = f"{planned} networks are planned" if planned else f"at least {FEWEST} are needed"
        raise InputError(f"--count {count}: {why}; fewer would be a choice among them")
    return count or least


def _resolve_seeds(seeds: int | None, planned: int) -> int:
    if seeds is not None and seeds < max(1, planned):
        why = f"{planned} are planned" if planned else "at least one is needed"
        raise InputError(f"--seeds {seeds}: {why}; fewer would be a choice among them")
    return seeds or planned or 1


def _draw(
    run: SearchRun, planned: Sequence[PlannedNetwork], count: int, seed: int
) -> tuple[PlannedNetwork, ...]:
    known = [run.read_path(one.path, plan_file(run)) for one in planned]
    constraints: Constraints = run.constraints()
    drawn = draw_paths(
        run.space,
        # Latency may be measured otherwise than it was before.
        lambda path: path in known or constraints.allows(path),
        count,
        seed=seed,
        purpose=_PURPOSE,
    )
    new = [path for path in drawn if path not in known][: count - len(known)]
    found = [
        run.plan(path, constraints, name=f"{number:02d}", seeds=(run.config.seed,))
        for number, path in enumerate(new, len(known) + 1)
    ]
    return (*planned, *found)


def trainings_of(run: SearchRun, plan: ValidationPlan) -> list[list[StandaloneTraining]]:
    """The trainings of all networks by the first seed, then by the second, …"""
    for network in plan.networks:
        run.read_path(network.path, plan_file(run))
    return [
        [_training(run, network, network.seeds[number]) for network in plan.networks]
        for number in range(len(plan.networks[0].seeds))
    ]


def _training(run: SearchRun, network: PlannedNetwork, seed: int) -> StandaloneTraining:
    folder = run.folder / "validate" / network.name
    if seed != network.seeds[0]:
        folder = folder / f"seed{seed}"
    return StandaloneTraining(
        run,
        network,
        f"network {network.name}",
        seed,
        folder=folder,
        result=folder / "result.json",
        pretrain_folder=folder / "pretrain",
        pretrain_seed=seed,
        changes=run.config.validate,
    )


def join_plans(run: SearchRun, plan: ValidationPlan | None, other: Path) -> ValidationPlan:
    """Makes a plan hold all networks and seeds of another search's validation.

    So that several supernets, longer ones or trained otherwise, are held against the same networks,
    which are trained once.

    Args:
        run: whose supernet is to be validated; of the same space, width and data.
        plan: of its own, if there is one: it must begin with the same networks and seeds.
        other: folder of the other search.

    Raises:
        InputError: it has no plan, is of another space, width or other data, its networks were
            trained otherwise than here, or `plan` has others.
    """
    theirs = SearchRun.open(other)
    found = _plan_of(theirs)
    for name, mine, its in zip(_ALIKE, _data_of(run), _data_of(theirs), strict=True):
        if mine != its:
            raise InputError(f"{other}: its networks are of another {name} than this search's")
    trained = {kind: one for kind, one in found.budget.items() if kind != _SCORING}
    ours = trainings_of(run, found)[0][0].budget
    for kind, name, its, mine in differences(trained, ours):
        raise InputError(
            f"{other}: its networks were trained with {kind} {name} {its}, here it is {mine}"
        )
    if plan is None:
        return replace(found, taken=str(other.resolve()))
    networks = max(plan.networks, found.networks, key=len)
    seeds = max(plan.networks[0].seeds, found.networks[0].seeds, key=len)
    for part in (plan.networks, found.networks):
        alike = all(one.path == its.path for one, its in zip(part, networks, strict=False))
        if not alike or part[0].seeds != seeds[: len(part[0].seeds)]:
            own = plan_file(run)
            raise InputError(
                f"{own}: plans other networks or seeds than {plan_file(theirs)}; delete "
                f"{own.parent} to take those"
            )
    networks = tuple(replace(one, seeds=seeds) for one in networks)
    joined = replace(plan, networks=networks, taken=plan.taken or str(other.resolve()))
    return plan if joined == plan else joined


def take_over(run: SearchRun, plan: ValidationPlan, other: Path) -> int:
    """Takes what networks of a plan reached when trained alone for another search's validation.

    What is here already stays.

    Returns:
        How many trainings were taken.

    Raises:
        InputError: the other search has no plan, or its files are damaged.
    """
    theirs = SearchRun.open(other)
    there = {
        (one.network.path, one.seed): one.result
        for by_seed in trainings_of(theirs, _plan_of(theirs))
        for one in by_seed
    }
    taken = 0
    for by_seed in trainings_of(run, plan):
        for one in by_seed:
            found = there.get((one.network.path, one.seed))
            if found is not None and found.is_file() and not one.result.exists():
                write_record(one.result, read_record(StandaloneResult, found))
                taken += 1
    return taken


def _plan_of(run: SearchRun) -> ValidationPlan:
    place = plan_file(run)
    if not place.is_file():
        raise InputError(f"{place}: no such file: nothing was validated there")
    return read_record(ValidationPlan, place)


_ALIKE = ("space", "width", "training data", "validation split", "pre-training data")


def _data_of(run: SearchRun) -> tuple[Any, ...]:
    """What two searches must have in common for one network to reach the same in both."""
    config, any_path = run.config, [0] * len(run.space.genes)
    train = retrain_config(config, run.folder, any_path, None)
    val = find_val(train)
    return (
        run.space.to_json(),
        config.width,
        fingerprint_files(find_train(train)),
        fingerprint_files(val) if val else None,
        None if config.from_scratch else index_images(class_folder(config)).fingerprint(),
    )
