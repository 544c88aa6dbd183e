"""Trains a search's winner and what it must beat, with one budget, and tells the difference."""

import statistics
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from detnet.errors import InputError
from detnet.files import write_text
from detnet.search.costs.counting import SpacePath
from detnet.search.records import (
    CONFIDENCE,
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
from detnet.search.standalone.plan import carry_out_plan, read_plan, resolve_plan
from detnet.search.standalone.rivals import add_winners, choose_rivals
from detnet.search.standalone.sharing import require_processes
from detnet.search.standalone.statistics import difference_interval, mean_interval
from detnet.search.standalone.training import StandaloneTraining, mean_scores
from detnet.text import amount, interval, lay_out, markdown_row, percent, points, points_between
from detnet.training.run_state import OnEvent


def baselines(
    folder: Path,
    *,
    random: int = 5,
    seeds: int = 3,
    within: float = 0.05,
    share_pretraining: bool = False,
    against: Sequence[Path] = (),
    workers: int = 1,
    on_event: OnEvent,
) -> Baselines | None:
    """Trains the winner of a search, and networks to hold it against, each by the same settings.

    Which ones (`choose_rivals`) is written to RUN/baselines/plan.json before any is trained.
    Several processes may be at it, each started by itself. Writes baselines.json and baselines.md
    into RUN/baselines.

    The winner's first training is that of RUN/winner, the search's last phase.

    Args:
        folder: of a search that has a winner.
        random: how many random networks, of one seed each.
        seeds: trainings of each other network, by different seeds.
        within: how far from the winner's multiply-adds random networks may be, as a share.
        share_pretraining: whether all seeds of a network begin with the first one's pre-training;
            then they differ by their fine-tuning alone.
        against: folders of other searches of the space, whose winners are trained alike; they may
            be added to a plan that there is.
        workers: processes of this machine that train at once, a GPU each where there are several,
            else a share of the processor's threads; further ones may be started elsewhere.
        on_event: called with the events of the trainings, and "note"; when it is interrupted, with
            what was found so far.

    Returns:
        What it found; None when it was interrupted and can be gone on with.

    Raises:
        InputError: no winner, no worker, or other arguments or settings than planned.
    """
    require_processes("baselines", workers)
    if random < 0 or seeds < 1 or not 0 < within < 1:
        raise InputError(
            f"--random {random} --seeds {seeds} --within {within:g}: give a number of networks, "
            "at least one seed, and a share between 0 and 1"
        )
    run = SearchRun.open(folder)
    asked = BaselinesPlan(
        random=random, seeds=seeds, within=within, share_pretraining=share_pretraining
    )
    plan = resolve_plan(
        _plan_file(run),
        BaselinesPlan,
        lambda before: add_winners(run, _plan(run, before, asked), against),
        lambda plan: _trainings(run, plan, plan.networks[0])[0],
    )
    trainings = [_trainings(run, plan, network) for network in plan.networks]
    command = ["search", "baselines", str(folder), "--random", str(random), "--seeds", str(seeds)]
    command += ["--within", repr(within), *(["--share-pretraining"] if share_pretraining else [])]
    if not carry_out_plan(
        [one for several in trainings for one in several],
        on_event,
        workers=workers,
        command=command,
        logs=_plan_file(run).parent,
    ):
        so_far = baselines_so_far(run)
        for line in comparison_lines(so_far) if so_far else []:
            on_event({"event": "note", "text": line})
        return None
    found = _summary(plan, trainings)
    write_record(folder / "baselines" / "baselines.json", found)
    write_text(folder / "baselines" / "baselines.md", baselines_markdown(found))
    return found


def baselines_so_far(run: SearchRun) -> Baselines | None:
    """What the trainings have found by now, be they complete, interrupted or going on.

    Returns:
        None before the first is complete.

    Raises:
        InputError: one of their files is damaged.
    """
    if (plan := read_plan(_plan_file(run), BaselinesPlan)) is None:
        return None
    found = _summary(plan, [_trainings(run, plan, network) for network in plan.networks])
    return found if any(one.trainings for one in found.networks) else None


def _plan_file(run: SearchRun) -> Path:
    return run.folder / "baselines" / "plan.json"


def _plan(run: SearchRun, plan: BaselinesPlan | None, asked: BaselinesPlan) -> BaselinesPlan:
    """Chooses the networks, or refuses another choice than that of before."""
    winner = _winner(run)
    if plan is None:
        return replace(asked, networks=choose_rivals(run, winner, asked))
    _require_as_planned(plan, asked, run.space.format_path(winner), _plan_file(run))
    return plan


def _winner(run: SearchRun) -> SpacePath:
    place, winner = run.folder / "winner.json", run.winner
    if winner is None:
        raise InputError(
            f"{run.folder}: the search has no winner yet; go on with it by "
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
                changes=_widths(network),
            )
        )
    return found


def _widths(network: PlannedNetwork) -> dict[str, dict[str, float]]:
    """The changes of settings that give a network a width of its own."""
    if network.width is None:
        return {}
    return {part: {"width": network.width} for part in ("pretrain", "train")}


def _summary(plan: BaselinesPlan, trainings: Sequence[Sequence[StandaloneTraining]]) -> Baselines:
    networks = tuple(
        _compared(
            network, [read_record(StandaloneResult, o.result) for o in several if o.result.exists()]
        )
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
    values = tuple(one.AP for one in results if one.AP is not None)
    planned = {entry.name: getattr(network, entry.name) for entry in fields(network)}
    return ComparedNetwork(
        **planned,
        **mean_scores(results),
        values=values,
        interval=mean_interval(values, confidence=CONFIDENCE),
        trainings=tuple(results),
    )


def format_baselines(found: Baselines) -> str:
    """The winner beside what it must beat, for a terminal."""
    heads, *rows = _baseline_rows(found)
    table = lay_out([heads, *rows], left=(0, len(heads) - 1))
    return "\n".join([table, "", *comparison_lines(found)])


def baselines_markdown(found: Baselines) -> str:
    """The winner beside what it must beat, as a section of RESULTS.md."""
    heads, *rows = _baseline_rows(found)
    lines = [markdown_row(heads), "|" + "---|" * len(heads)]
    for row in rows:
        lines.append(markdown_row([*row[:-1], f"`{row[-1]}`" if row[-1] else ""]))
    said = [f"- {line}" for line in comparison_lines(found)]
    return "\n".join([*lines, "", *said]) + "\n"


def comparison_lines(found: Baselines) -> list[str]:
    """What the winner has over each baseline, a sentence each."""
    lines = []
    done = sum(len(one.trainings) for one in found.networks)
    if done < (planned := sum(len(one.seeds) for one in found.networks)):
        lines.append(f"so far {done} of {planned} trainings are done")
    for one in found.differences:
        text = f"the winner less {one.name}: {points(one.difference)} points of AP"
        if one.interval is not None:
            ends = points_between(one.interval)
            text += f" ({ends}, {100 * found.confidence:g} % interval, Welch's)"
        lines.append(text)
    mean, random = found.networks[0].AP, found.random_values
    if random and mean is not None:
        below = sum(value < mean for value in random)
        lines.append(f"{below} of {len(random)} random networks lie below its mean")
    return lines + [f"{one.name}: {text}" for one in found.networks for text in one.notes]


def _baseline_rows(found: Baselines) -> list[list[str]]:
    """The table's cells, its head first."""
    rows = [["network", "multiply-adds", "params", "AP of each seed", "AP", "interval", "path"]]
    for one in found.networks:
        costs = [amount(one.macs), amount(one.params, 2)]
        values = " ".join(map(percent, one.values)) or "–"
        rows.append([one.name, *costs, values, percent(one.AP), interval(one.interval), one.path])
    random = found.random_values
    if len(random) > 1:
        spread = interval((min(random), max(random)))
        mean = percent(found.random_mean)
        together = interval(found.random_interval)
        rows.append(["the random ones together", "", "", spread, mean, together, ""])
    return rows
