"""Trains a search's winner and what it must beat, with one budget, and tells the difference."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.engine.interrupt import Interrupt
from detnet.errors import InputError
from detnet.files import write_text
from detnet.search.standalone.networks import Search, budget_of, open_search, require_same_budget
from detnet.search.standalone.samples import draw_paths, largest_within
from detnet.search.standalone.sharing import (
    in_turn,
    read_json,
    require_one_process,
    share,
    write_json,
)
from detnet.search.standalone.statistics import difference_interval, mean_interval
from detnet.search.standalone.text import baselines_markdown
from detnet.search.standalone.training import SCORES, Alone, expectation
from detnet.search.standalone.validate import training_jobs
from detnet.training.run_state import Watch

_PURPOSE = 35  # keeps these draws apart from others of the same seed
CONFIDENCE = 0.95


def baselines(
    run: Path,
    *,
    random: int = 5,
    seeds: int = 3,
    within: float = 0.05,
    share_pretraining: bool = False,
    watch: Watch,
) -> dict[str, Any] | None:
    """Trains the winner of a search, and networks to hold it against, each by the same settings.

    These are the network of first choices (all 3×3 in DetNAS's spaces; where a space's genes are
    not kinds of blocks, its smallest network), the largest within the search's limit, and random
    ones of about the winner's multiply-adds, whatever else they cost; which ones is written to
    RUN/baselines/plan.json before any is trained. Several processes may be at it, each started by
    itself. Writes baselines.json and baselines.md into RUN/baselines.

    The winner's first training is that of RUN/winner, the search's last phase.

    Args:
        run: of a search that has a winner.
        random: how many random networks, of one seed each.
        seeds: trainings of each other network, by different seeds.
        within: how far from the winner's multiply-adds random networks may be, as a share.
        share_pretraining: whether all seeds of a network begin with the first one's pre-training;
            then they differ by their fine-tuning alone.
        watch: called with the events of the trainings, and "note".

    Returns:
        What baselines.json holds; None when it was interrupted and can be gone on with.

    Raises:
        InputError: no winner, or other arguments or settings than planned.
    """
    require_one_process("baselines")
    if random < 0 or seeds < 1 or not 0 < within < 1:
        raise InputError(
            f"--random {random} --seeds {seeds} --within {within:g}: give a number of networks, "
            "at least one seed, and a share between 0 and 1"
        )
    search = open_search(run)
    folder = run / "baselines"
    asked = {
        "random": random,
        "seeds": seeds,
        "within": within,
        "share_pretraining": share_pretraining,
    }
    plan = _settle_plan(search, folder, asked)
    trainings = _trainings(search, folder, plan)
    everything = [one for several in trainings for one in several]
    require_same_budget(plan, budget_of(everything[0]), folder / "plan.json")
    watch({"event": "note", "text": expectation(everything, run)})
    with Interrupt() as interrupt:
        jobs = training_jobs(everything, lambda: interrupt.set, watch)
        if not share(jobs, stop=lambda: interrupt.set, watch=watch):
            return None
    found = _summary(plan, trainings)
    write_json(folder / "baselines.json", found)
    write_text(folder / "baselines.md", baselines_markdown(found))
    return found


def _settle_plan(search: Search, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Chooses the networks, once."""
    place = folder / "plan.json"
    winner = _winner(search)
    with in_turn(folder):
        if place.exists():
            plan: dict[str, Any] = read_json(place)
            _require_as_planned(plan, asked, search.space.format_path(winner), place)
            return plan
        plan = {"seed": search.config.seed, **asked, "networks": _choose(search, winner, asked)}
        plan["budget"] = budget_of(_trainings(search, folder, plan)[0][0])
        write_json(place, plan)
        return plan


def _winner(search: Search) -> tuple[int, ...]:
    place = search.folder / "winner.json"
    if not place.exists():
        raise InputError(
            f"{place}: no such file: the search has no winner yet; go on with it by "
            f"`detnet search --resume {search.folder}`"
        )
    return search.read_path(read_json(place).get("path"), place)


def _require_as_planned(
    plan: dict[str, Any], asked: dict[str, Any], winner: str, place: Path
) -> None:
    for name, value in asked.items():
        if plan[name] != value:
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"{place}: planned with {option} {plan[name]}, not {value}; give the same, or "
                f"delete {place.parent} to begin anew"
            )
    if plan["networks"][0]["path"] != winner:
        raise InputError(
            f"{place}: planned for the winner {plan['networks'][0]['path']}, but it is {winner} by "
            f"now; delete {place.parent} to begin anew"
        )


def _choose(search: Search, winner: tuple[int, ...], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The networks, each once; what is the same as one before is noted there."""
    first = search.config.seed
    seeds = [first + number for number in range(asked["seeds"])]
    chosen = [("winner", "the winner", winner, ""), _first_choices(search), _largest(search)]
    found: dict[tuple[int, ...], dict[str, Any]] = {}
    for kind, name, path, note in chosen:
        if path in found:
            found[path]["notes"].append(f"is {name}, too")
            continue
        entry = {"kind": kind, "name": name, **search.about(path), "seeds": seeds, "notes": []}
        entry["notes"] += [note] if note else []
        if not search.constraints.allows(path):
            entry["notes"].append("is over the search's limits")
        found[path] = entry
    macs, reach = search.costs.macs, asked["within"] * search.costs.macs(winner)
    drawn = draw_paths(
        search.space,
        lambda path: path not in found and abs(macs(path) - macs(winner)) <= reach,
        asked["random"],
        seed=first,
        purpose=_PURPOSE,
    )
    networks = list(found.values())
    for number, path in enumerate(drawn, 1):
        about = {"kind": "random", "name": f"random {number}", **search.about(path)}
        networks.append({**about, "seeds": [first], "notes": []})
    return networks


def _first_choices(search: Search) -> tuple[str, str, tuple[int, ...], str]:
    if isinstance(search.space, ShuffleSpace):
        name = f"all {search.space.genes[0].choices[0]}"
        return "first", name, search.space.check((0,) * len(search.space.genes)), ""
    return "smallest", "the smallest", search.costs.smallest(), ""


def _largest(search: Search) -> tuple[str, str, tuple[int, ...], str]:
    limit = search.config.max_macs
    allows, costs = search.constraints.allows, search.costs
    if limit is None:
        limit = costs.macs(costs.largest())
    path, exact = largest_within(search.space, costs.macs, limit, allows, seed=search.config.seed)
    note = "" if exact else "found by enlarging random networks; there may be a larger one"
    return "largest", "the largest", path, note


def _trainings(search: Search, folder: Path, plan: dict[str, Any]) -> list[list[Alone]]:
    """The trainings of each network, by its seeds."""
    found = []
    for entry in plan["networks"]:
        place = folder / str(entry["name"]).removeprefix("the ").replace(" ", "_")
        path = search.read_path(entry["path"], folder / "plan.json")
        several = []
        for number, seed in enumerate(entry["seeds"]):
            own = place / f"seed{seed}"
            done_by_search = entry["kind"] == "winner" and number == 0
            training = search.folder / "winner" if done_by_search else own
            shared = search.folder / "winner" if entry["kind"] == "winner" else place
            several.append(
                search.alone(
                    str(entry["name"]),
                    path,
                    seed,
                    folder=training,
                    result=own / "result.json",
                    pretrain_folder=shared / "pretrain" if plan["share_pretraining"] else None,
                    pretrain_seed=entry["seeds"][0] if plan["share_pretraining"] else seed,
                )
            )
        found.append(several)
    return found


def _summary(plan: dict[str, Any], trainings: Sequence[Sequence[Alone]]) -> dict[str, Any]:
    rows = []
    for entry, several in zip(plan["networks"], trainings, strict=True):
        results = [read_json(one.result) for one in several]
        rows.append({**entry, **_scores(results), "trainings": results})
    winner = rows[0]
    alone = [row for row in rows if row["kind"] == "random"]
    values = [value for row in alone for value in row["values"]]
    random = {"kind": "random", "name": "the random ones", "values": values}
    others = [row for row in rows[1:] if row["kind"] != "random"]
    return {
        **{name: plan[name] for name in ("seed", "seeds", "within", "share_pretraining")},
        "confidence": CONFIDENCE,
        "winner_mean": winner["AP"],
        "networks": rows,
        "random": {**random, "mean": _mean(values), "interval": _interval(values)},
        "differences": [
            found for other in (random, *others) if (found := _difference(winner, other))
        ],
    }


def _scores(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    values = [result["AP"] for result in results if result["AP"] is not None]
    means = {
        name: _mean([result[name] for result in results if result[name] is not None])
        for name in SCORES
    }
    errors = [result["error"] for result in results if "error" in result]
    found = {"values": values, "interval": _interval(values), **means}
    return {**found, "error": "; ".join(errors)} if errors else found


def _difference(winner: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    first, second = winner["values"], other["values"]
    if not first or not second:
        return None
    interval = difference_interval(first, second, confidence=CONFIDENCE)
    return {
        "name": other["name"],
        "kind": other["kind"],
        "difference": statistics.fmean(first) - statistics.fmean(second),
        "interval": list(interval) if interval else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _interval(values: Sequence[float]) -> list[float] | None:
    found = mean_interval(values, confidence=CONFIDENCE)
    return list(found) if found else None
