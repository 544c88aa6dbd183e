"""What a campaign's finished runs say: every question with its interval, and how far it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detnet.campaign.carry_out import LAST, RunOutcome, read_outcome
from detnet.campaign.plan import Campaign
from detnet.campaign.questions import AskedMeasure, Question
from detnet.campaign.runs import CampaignRun
from detnet.campaign.statistics import (
    CrossedDifference,
    SeedScores,
    crossed_difference,
    seeds_needed,
    smallest_effect,
)
from detnet.coco.ground_truth import GroundTruth, fingerprint
from detnet.data.folders import Split
from detnet.errors import InputError
from detnet.evaluation.comparison.accumulation import weighted_scores
from detnet.evaluation.comparison.bootstrap import bootstrap, least_images
from detnet.evaluation.comparison.compare import images_with_objects
from detnet.evaluation.comparison.sources import read_compared_split, results_of_run
from detnet.evaluation.detections import read_detections
from detnet.evaluation.files import read_scores
from detnet.evaluation.grid import Measure, make_grid
from detnet.evaluation.matching import Matches, class_rankings, match
from detnet.plugins import explaining_plugins
from detnet.text import count
from detnet.training.detection.config import TrainConfig, find_val

OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Answer:
    """What is known of a question on one data set.

    Args:
        seeds: that are used, of the first and of the other variant.
        values: what is asked about of each of these seeds, fractions.
        found: None before each variant has a run that is done, and where there is nothing to
            measure on; seeds and values are empty then.
        needed: seeds of each variant that the question's effect needs; None where no effect is
            stated, or seeds alone cannot show it.
        shows: the smallest effect that so many seeds as are planned would show, four times of
            five; None where that is not known yet.
        notes: what a person should know.
    """

    question: Question
    data: str
    seeds: tuple[tuple[int, ...], tuple[int, ...]]
    values: tuple[tuple[float, ...], tuple[float, ...]]
    found: CrossedDifference | None
    needed: int | None = None
    shows: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def means(self) -> tuple[float | None, float | None]:
        """Of each variant's seeds."""
        first, other = (sum(side) / len(side) if side else None for side in self.values)
        return first, other


@dataclass(frozen=True)
class _SeedsMeasured:
    """Scores of all runs on one data set by one kind of scores, and of resamples of its images.

    Args:
        runs: position by variant and seed.
        measures: position by measure.
        values: (runs, measures).
        drawn: (runs, measures, R).
        images: by size of objects, on how many images there are some.
    """

    runs: dict[tuple[str, int], int]
    measures: dict[Measure, int]
    values: np.ndarray
    drawn: np.ndarray
    images: list[int]

    def scores(self, variant: str, seeds: Sequence[int], question: Question) -> SeedScores:
        """Of these seeds: the measure, or the measure less the other one."""
        rows = [self.runs[variant, seed] for seed in seeds]
        columns = [self.measures[one.measure] for one in question.measures]
        values = self.values[rows][:, columns]
        drawn = self.drawn[rows][:, columns]
        if question.less is None:
            return SeedScores(values[:, 0], drawn[:, 0])
        return SeedScores(values[:, 0] - values[:, 1], drawn[:, 0] - drawn[:, 1])


def answer_questions(campaign: Campaign, *, progress: OnProgress | None = None) -> list[Answer]:
    """Answers what the finished runs allow, in the order of the questions and of their data.

    Seeds are used that both variants are done with, so that all were given the same chances. All
    are measured by their last model.

    Args:
        progress: called with the number of detectors matched or resampled, and their total.

    Raises:
        InputError: a run's scores are damaged, or of other ground truth than another's.
    """
    outcomes = {run.folder: read_outcome(campaign, run) for run in campaign.runs}
    measured: dict[tuple[str, str], _SeedsMeasured | None] = {}
    answers = []
    for question in campaign.questions:
        for data in question.data:
            key = (data, question.measure.kind)
            if key not in measured:
                measured[key] = _measure(campaign, outcomes, *key, progress)
            answers.append(_answer(campaign, question, data, outcomes, measured[key]))
    return answers


def questions_on_too_little(campaign: Campaign) -> list[str]:
    """Names the questions that no training can answer, since too few images hold what they ask for.

    Raises:
        InputError: what runs are compared on cannot be read.
    """
    images: dict[tuple[str, str], list[int]] = {}
    found = []
    for question in campaign.questions:
        for data in question.data:
            kind = question.measure.kind
            if (data, kind) not in images:
                run = next(one for one in campaign.runs if one.data == data)
                truth = read_compared_split(_find_split(campaign, run), kind, of_runs=True).truth
                nothing = match(truth, read_detections([], truth, iou_type=kind), make_grid(kind))
                images[data, kind] = images_with_objects(truth, nothing.truth_ignored)[0]
            counts = {one.text: images[data, kind][one.measure.size] for one in question.measures}
            lacking = [text for text, number in counts.items() if not number]
            notes = [_on_nothing(data, lacking)] if lacking else []
            notes = notes or _too_few(min(counts.values()), campaign.config.confidence)
            found += [f"{question.text}, on {data}: {note}" for note in notes]
    return found


def _answer(
    campaign: Campaign,
    question: Question,
    data: str,
    outcomes: dict[str, RunOutcome | None],
    measured: _SeedsMeasured | None,
) -> Answer:
    names = (question.first, question.other)
    paired = campaign.seeds_paired(*names)
    seeds, notes = _comparable_seeds(campaign, names, data, outcomes, paired=paired)
    nothing = Answer(question, data, ((), ()), ((), ()), None, notes=notes)
    if measured is None or not all(seeds):
        return nothing
    first, other = (
        measured.scores(name, side, question) for name, side in zip(names, seeds, strict=True)
    )
    values = (tuple(first.values.tolist()), tuple(other.values.tolist()))
    if any(math.isnan(value) for side in values for value in side):
        lacking = [
            one.text
            for one in question.measures
            if np.isnan(measured.values[:, measured.measures[one.measure]]).any()
        ]
        return replace(nothing, notes=(_on_nothing(data, lacking),))
    images = min(measured.images[one.measure.size] for one in question.measures)
    level = campaign.config.confidence
    found = crossed_difference(first, other, images=images, paired=paired, confidence=level)
    answer = replace(nothing, seeds=seeds, values=values, found=found)
    if found.seed_variance is None:
        return replace(answer, notes=(*notes, *_why_no_interval(seeds, images, level)))
    effect, rounds = question.effect, max(2, campaign.rounds)
    return replace(
        answer,
        needed=None if effect is None else seeds_needed(found, effect, confidence=level),
        shows=smallest_effect(found, rounds, confidence=level),
    )


def _comparable_seeds(
    campaign: Campaign,
    names: tuple[str, str],
    data: str,
    outcomes: dict[str, RunOutcome | None],
    *,
    paired: bool,
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[str, ...]]:
    """Of each of two variants the seeds with scores, among those that both are done with.

    Args:
        paired: a seed without scores leaves the other variant's out, too.

    Returns:
        the seeds of both, and notes on those that are left out.
    """
    scored: list[dict[int, bool]] = [{}, {}]  # of the seeds that are done, whether they have scores
    for run in campaign.runs:
        found = outcomes[run.folder]
        if run.data == data and run.variant in names and found is not None:
            scored[names.index(run.variant)][run.seed] = found.error is None
    both = [seed for seed in campaign.config.seed_numbers if all(seed in side for side in scored)]
    notes = []
    for name, side in zip(names, scored, strict=True):
        if lost := [seed for seed in both if not side[seed]]:
            notes.append(f"{name}: the loss of seed {_listed(lost)} was not finite; left out")
        if more := [seed for seed in side if seed not in both]:
            notes.append(f"{name}: seed {_listed(more)} waits for the other variant")
    if paired:
        both = [seed for seed in both if all(side[seed] for side in scored)]
    first, other = (tuple(seed for seed in both if side[seed]) for side in scored)
    return (first, other), tuple(notes)


def _why_no_interval(
    seeds: tuple[tuple[int, ...], tuple[int, ...]], images: int, confidence: float
) -> list[str]:
    if few := _too_few(images, confidence):
        return few
    if min(map(len, seeds)) < 2:
        return ["one seed tells nothing of what another would give"]
    return []


def _on_nothing(data: str, lacking: Sequence[str]) -> str:
    return f"{data} has nothing that {' and '.join(lacking)} is measured on"


def _too_few(images: int, confidence: float) -> list[str]:
    if images >= least_images(confidence):
        return []
    return [f"something to be found on {count(images, 'image')} only: too few for an interval"]


def _measure(
    campaign: Campaign,
    outcomes: dict[str, RunOutcome | None],
    data: str,
    kind: str,
    progress: OnProgress | None,
) -> _SeedsMeasured | None:
    """Scores all runs on the same resamples; None where none is done."""
    runs = [
        run
        for run in campaign.runs
        if run.data == data
        and (found := outcomes[run.folder]) is not None
        and found.error is None
        and _has(campaign, run, kind)
    ]
    asked: list[AskedMeasure] = [
        one
        for question in campaign.questions
        if data in question.data
        for one in question.measures
        if one.kind == kind
    ]
    if not runs:
        return None
    measures = list(dict.fromkeys(one.measure for one in asked))
    truth, models = _matches(campaign, runs, kind, progress)
    limits = sorted({(one.size, one.limit) for one in measures})
    ones = np.ones((len(truth.image_ids), 1))
    values = [
        weighted_scores(
            [class_rankings(model, k, limits) for k in range(len(truth.names))], ones, measures, []
        )[0][:, 0]
        for model in models
    ]
    drawn = bootstrap(
        models,
        measures,
        [],
        resamples=campaign.config.resamples,
        seed=0,
        progress=progress,
    )
    return _SeedsMeasured(
        {(run.variant, run.seed): position for position, run in enumerate(runs)},
        {measure: position for position, measure in enumerate(measures)},
        np.stack(values),
        drawn.means,
        images_with_objects(truth, models[0].truth_ignored)[0],
    )


def _has(campaign: Campaign, run: CampaignRun, kind: str) -> bool:
    scores = read_scores(campaign.place(run) / LAST)
    return kind in [one.iou_type for one in scores.kinds]


def _matches(
    campaign: Campaign, runs: Sequence[CampaignRun], kind: str, progress: OnProgress | None
) -> tuple[GroundTruth, list[Matches]]:
    split = _find_split(campaign, runs[0])
    truth = read_compared_split(split, kind, of_runs=True).truth
    wanted, grid = fingerprint(truth), make_grid(kind)
    found = []
    for number, run in enumerate(runs, 1):
        folder = campaign.place(run) / LAST
        scores = next(one for one in read_scores(folder).kinds if one.iou_type == kind)
        if scores.ground_truth != wanted:
            raise InputError(
                f"{folder / 'scores.json'}: scored against other ground truth than what is now in "
                f"{split.annotations}; put back what was there"
            )
        results = results_of_run(folder / "results.json", truth, kind)
        found.append(match(truth, read_detections(results, truth, iou_type=kind), grid))
        if progress is not None:
            progress(number, len(runs))
    return truth, found


def _find_split(campaign: Campaign, run: CampaignRun) -> Split:
    """What runs are compared on; where that lies by now, which may have moved since."""
    config, plugins = run.config(), campaign.config.plugins
    with explaining_plugins(plugins, campaign.folder / "campaign.yaml"):  # one may read the format
        split = find_val(config) if isinstance(config, TrainConfig) else None
    if split is None:
        raise InputError(f"{campaign.plan.file}: data: {run.data}: no split to compare on")
    return split


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
