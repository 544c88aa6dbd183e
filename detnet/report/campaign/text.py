"""A campaign as text: for a terminal, as JSON, and as a section of RESULTS.md."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detnet.campaign.answers import Answer
from detnet.campaign.statistics import MOST_SEEDS, CrossedDifference
from detnet.evaluation.metrics import prefix
from detnet.report.campaign.state import CampaignState
from detnet.report.results import hardware, put_section
from detnet.text import (
    NOTHING,
    count,
    duration,
    lay_out,
    markdown_row,
    percent,
    points,
    points_between,
)

COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_KINDS = {"bbox": "", "segm": ", masks", "keypoints": ", keypoints"}


def format_campaign(state: CampaignState) -> str:
    """Answers and scores for a terminal."""
    parts = [progress_line(state)]
    for answer in state.answers:
        parts.append("\n".join([title_of(answer), *(f"  {line}" for line in lines_of(answer))]))
    for heads, rows in score_tables(state):
        parts.append(lay_out([heads, *rows], left=(0,)))
    return "\n\n".join(parts)


def progress_line(state: CampaignState) -> str:
    """How many runs are done, and how long the others take."""
    text = f"{state.name}: {state.done} of {count(len(state.runs), 'run')} done"
    if state.done < len(state.runs) and state.seconds_left is not None:
        text += f", about {duration(state.seconds_left)} left for one worker"
    return text


def title_of(answer: Answer) -> str:
    """The question with its data."""
    return f"{answer.question.text}, on {answer.data}"


def lines_of(answer: Answer) -> list[str]:
    """The answer, in lines: the difference, where it comes from, what it takes to see an effect."""
    found = answer.found
    if found is None:
        return list(answer.notes) or ["no seed of both variants is done yet"]
    value = _difference(found)
    if found.interval is None:
        return [f"{value} points: cannot tell", *answer.notes]
    between = points_between(found.interval)
    lines = [f"{value} points ({between}): {found.verdict}", sources(answer)]
    return [*lines, effect_line(answer), *answer.notes]


def _difference(found: CrossedDifference) -> str:
    """In points; what the runs tell apart is on one side of 0."""
    return points(found.value, side=found.verdict != "cannot tell")


def sources(answer: Answer) -> str:
    """Seeds and images, and what each of them leaves open."""
    found = answer.found
    assert found is not None
    first, other = found.seeds
    seeds = f"{first} pairs of seeds" if found.paired else f"{first} against {other} seeds"
    text = f"{seeds}, {count(found.images, 'image')}"
    if found.seed_error is None or found.image_error is None:
        return text
    error = math.hypot(found.seed_error, found.image_error)
    return (
        f"{text}; standard error {percent(error)}: {percent(found.seed_error)} by the seeds, "
        f"{percent(found.image_error)} by the images"
    )


def effect_line(answer: Answer) -> str:
    """How many seeds a stated effect needs, or what effect the planned seeds would show."""
    effect = answer.question.effect
    if effect is not None:
        if answer.needed is not None:
            return f"an effect of {percent(effect)} points needs {answer.needed} seeds of each"
        return (
            f"an effect of {percent(effect)} points would not show with {MOST_SEEDS} seeds either: "
            "it needs more images"
        )
    return f"the planned seeds would show {percent(answer.shows)} points or more"


def score_tables(state: CampaignState) -> list[tuple[list[str], list[list[str]]]]:
    """Heads and rows for each data set: mean and deviation over the seeds of each variant."""
    tables = []
    for data in state.campaign.config.data:
        rows = []
        for variant in state.campaign.config.variants:
            found = [one for one in state.outcomes(data, variant).values() if one.error is None]
            for kind, words in _KINDS.items():
                names = [f"{prefix(kind)}{name}" for name in COLUMNS]
                if any(names[0] in one.scores for one in found):
                    cells = [_spread([one.scores.get(name) for one in found]) for name in names]
                    rows.append([f"{variant}{words}", str(len(found)), *cells])
        if rows:
            tables.append(([data, "seeds", *COLUMNS], rows))
    return tables


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    text = percent(statistics.fmean(known))
    return f"{text} ± {percent(statistics.stdev(known))}" if len(known) > 1 else text


def to_json(state: CampaignState) -> dict[str, Any]:
    """Everything that is shown, as JSON has it."""
    return {
        "campaign": str(state.campaign.folder),
        "command": state.command,
        "runs": len(state.runs),
        "done": state.done,
        "seconds_left": state.seconds_left,
        "answers": [_answer_json(answer) for answer in state.answers],
        "scores": [
            {
                "data": one.run.data,
                "variant": one.run.variant,
                "seed": one.run.seed,
                **asdict(one.outcome),
            }
            for one in state.runs
            if one.run.kind == "train" and one.outcome is not None
        ],
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    found = answer.found
    return {
        "question": answer.question.text,
        "data": answer.data,
        "first": dict(zip(map(str, answer.seeds[0]), answer.values[0], strict=True)),
        "other": dict(zip(map(str, answer.seeds[1]), answer.values[1], strict=True)),
        "difference": found.value if found else None,
        "interval": list(found.interval) if found and found.interval else None,
        "verdict": found.verdict if found else "cannot tell",
        "paired": found.paired if found else None,
        "images": found.images if found else None,
        "seed_error": found.seed_error if found else None,
        "image_error": found.image_error if found else None,
        "effect": answer.question.effect,
        "seeds_needed": answer.needed,
        "smallest_effect": answer.shows,
        "notes": list(answer.notes),
    }


def write_results_section(page: Path, state: CampaignState) -> None:
    """Puts the campaign's section into a Markdown page, in the place of the one before.

    Raises:
        InputError: as `put_section`.
    """
    put_section(page, f"campaign: {state.name}", results_section(state))


def results_section(state: CampaignState) -> str:
    """The campaign as Markdown: scores, answers, and the command that runs it again."""
    config = state.campaign.config
    lines = [f"## {state.name}", "", f"`{state.command}`", "", _origin(state), ""]
    for heads, rows in score_tables(state):
        lines += [*_table([heads, *rows]), ""]
    rows = [["question", "data", "difference", "interval", "verdict", "seeds", "images"]]
    for answer in state.answers:
        found = answer.found
        cells = [NOTHING, NOTHING, "cannot tell", NOTHING, NOTHING]
        if found is not None:
            seeds = " × ".join(map(str, dict.fromkeys(found.seeds)))
            between = points_between(found.interval)
            cells = [_difference(found), between, found.verdict, seeds, str(found.images)]
        rows.append([answer.question.text, answer.data, *cells])
    lines += [*_table(rows), ""]
    lines += [
        f"Points, the last model of each run on its `val` split, mean ± deviation over seeds; "
        f"{100 * config.confidence:g} % intervals for other seeds and other images.",
    ]
    notes = [f"- {title_of(answer)}: {note}" for answer in state.answers for note in answer.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _origin(state: CampaignState) -> str:
    seeds = count(len(state.campaign.config.seed_numbers), "seed")
    text = f"{seeds}, {state.done} of {count(len(state.runs), 'run')} done"
    for one in state.environments:
        text += f"; commit {one.get('commit') or '?'}, {hardware(one)}"
    return text + "."


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    heads, *others = rows
    return [markdown_row(heads), "|" + "---|" * len(heads), *map(markdown_row, others)]
