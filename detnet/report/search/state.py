"""A search as it is now, read once: its run, candidates, trainings and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from detnet.engine.run_records import RunRecord, read_run
from detnet.report.search.networks import (
    DrawnSpace,
    PublishedNetwork,
    drawn_space,
    published_networks,
)
from detnet.search.costs import COSTS
from detnet.search.records import Baselines, TakenSupernet, Validation, Winner
from detnet.search.run import SearchRun
from detnet.search.standalone.baselines import baselines_so_far
from detnet.search.standalone.validate import validation_so_far
from detnet.search.study.study import CandidateRecord, StudyNotBegun

_PHASES = (
    ("Supernet: pre-training", "pretrain"),
    ("Supernet: fine-tuning", "finetune"),
    ("Winner: pre-training", "winner/pretrain"),
    ("Winner: training", "winner/train"),
)


@dataclass(frozen=True)
class Phase:
    """One training that belongs to a search, its run folder as far as there is one."""

    title: str
    folder: str
    record: RunRecord | None


@dataclass(frozen=True)
class SearchState:
    """A search as it is now, read once: others may be writing to it.

    Args:
        run: its folder.
        candidates: ordered by generation and slot.
        winner, validation, baselines: None as long as there are none.
        supernet: where it was taken from; None where the search trains its own.
        phases: the trainings before and after the search.
        published: networks of the space, the nearest to this search first.
        environment: its environment.json.
        notes: one line each, of what could not be read.
    """

    run: SearchRun
    candidates: Sequence[CandidateRecord] = ()
    winner: Winner | None = None
    validation: Validation | None = None
    baselines: Baselines | None = None
    supernet: TakenSupernet | None = None
    phases: Sequence[Phase] = ()
    published: Sequence[PublishedNetwork] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @cached_property
    def space(self) -> DrawnSpace:
        """How its networks are drawn."""
        return drawn_space(self.run.space, self.run.config.width)

    @cached_property
    def scored(self) -> list[CandidateRecord]:
        """The candidates that have a score."""
        return [one for one in self.candidates if one.score is not None]

    @property
    def planned(self) -> int:
        """How many candidates the settings ask for."""
        return self.run.config.population * self.run.config.generations

    @cached_property
    def cost_names(self) -> list[str]:
        """The costs that candidates have, multiply-adds first."""
        names = {name for one in self.candidates for name in one.costs}
        return [name for name in COSTS if name in names]

    @property
    def limits(self) -> dict[str, float]:
        """The largest cost allowed, by its name."""
        found = {name: getattr(self.run.config, f"max_{name}", None) for name in COSTS}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def front_costs(self) -> list[str]:
        """The costs that the front is of."""
        return [*self.run.objectives] or self.cost_names[:1]

    @property
    def score_name(self) -> str:
        """What the score is."""
        return "top-1 accuracy" if self.run.config.by_classes else "AP"

    @cached_property
    def best(self) -> CandidateRecord | None:
        """The winner of a search that has ended; before, the best so far, the first of equals."""
        for one in self.scored:
            if self.winner and self.text(one) == self.winner.path:
                return one
        return max(self.scored, key=lambda one: one.score or 0.0, default=None)

    @property
    def progress(self) -> str:
        """Of the search itself: "not begun", "going on" or "ended"."""
        if self.winner:
            return "ended"
        if not self.candidates:
            return "not begun"
        settled = sum(one.state in ("done", "failed") for one in self.candidates)
        return "ended" if settled >= self.planned else "going on"

    def text(self, one: CandidateRecord) -> str:
        """A candidate's path as it is written."""
        return self.run.space.format_path(one.path)


def read_search(folder: Path, *, storage: str | None = None) -> SearchState:
    """Reads all that a search's folder and its study tell.

    Args:
        folder: the run's.
        storage: where the study is, if not in the folder; then it must be there.

    Raises:
        InputError: there is no search, one of its files is damaged, or the storage does not answer.
    """
    run, notes = SearchRun.look(folder), []
    try:
        candidates = run.candidates(storage)
    except StudyNotBegun as error:
        if storage:
            raise
        candidates, notes = [], [str(error)]
    skipped = {"pretrain", "winner/pretrain"} if run.config.from_scratch else set()
    if run.config.by_classes:
        skipped.add("finetune")
    supernet = run.taken_supernet
    if supernet is not None and supernet.phase == "finetune":
        skipped.add("pretrain")
    begun = {place for _, place in _PHASES if (folder / place / "config.yaml").is_file()}
    phases = [
        Phase(title, place, read_run(folder / place) if place in begun else None)
        for title, place in _PHASES
        if place not in skipped
    ]
    return SearchState(
        run,
        candidates,
        run.winner,
        validation_so_far(run) or run.validation,
        baselines_so_far(run) or run.baselines,
        supernet,
        phases,
        published_networks(run),
        read_run(folder).environment,
        notes,
    )
