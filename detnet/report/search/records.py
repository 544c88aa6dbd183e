"""What a search's page is made of: the genes, every candidate, the phases and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detnet.engine.runs import RunRecord

STATES = ("done", "failed", "running", "waiting")


@dataclass(frozen=True)
class GeneRow:
    """One thing that the space leaves open.

    Args:
        stage: the level it belongs to.
        name: what it is, unique within the stage.
        choices: what it may be, by name.
        labels: the same in two or three letters, for the drawing.
        note: what a drawing says under it, as channels and stride.
    """

    stage: str
    name: str
    choices: tuple[str, ...]
    labels: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class CandidateRow:
    """One candidate of the study.

    Args:
        generation: counted from 0.
        slot: its place in the generation.
        path: one index per gene.
        text: the path as it is written.
        state: of `STATES`.
        score: higher is better; None until it is scored, and where that failed.
        costs: "macs", "params", "latency_ms", as far as they are known.
        seconds: that scoring it took.
        worker: who scored it.
        error: why it failed.
        attempts: how often it was begun.
    """

    generation: int
    slot: int
    path: tuple[int, ...]
    text: str
    state: str
    score: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    worker: str | None = None
    error: str | None = None
    attempts: int = 1


@dataclass(frozen=True)
class KnownNetwork:
    """A published network of the same space."""

    name: str
    path: tuple[int, ...]
    text: str
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseRow:
    """One training that belongs to the search, its run folder as far as there is one."""

    title: str
    folder: str
    record: RunRecord | None


@dataclass(frozen=True)
class SearchRecord:
    """All that a search's folder tells; what is missing is empty.

    Args:
        name: of the run folder.
        config: its config.yaml.
        environment: its environment.json.
        genes: input to output, a stage's genes together.
        stage_notes: what to say of a stage, by its name.
        fixed: what else there is to a stage and is not open: stage -> question -> answer.
        candidates: ordered by generation and slot.
        winner: winner.json, once the search has ended.
        winner_path: its path, as indices.
        known: published networks of the space, the nearest to this search first.
        phases: the trainings before and after the search.
        validation: validate/validation.json.
        baselines: baselines/baselines.json.
        notes: one line each, of what could not be read.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    genes: Sequence[GeneRow] = ()
    stage_notes: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    candidates: Sequence[CandidateRow] = ()
    winner: Mapping[str, Any] = field(default_factory=dict)
    winner_path: tuple[int, ...] = ()
    known: Sequence[KnownNetwork] = ()
    phases: Sequence[PhaseRow] = ()
    validation: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def scored(self) -> list[CandidateRow]:
        """The candidates that have a score."""
        return [one for one in self.candidates if one.score is not None]

    @property
    def planned(self) -> int | None:
        """How many candidates the settings ask for."""
        sizes = [self.config.get(name) for name in ("population", "generations")]
        population, generations = sizes
        if isinstance(population, int) and isinstance(generations, int):
            return population * generations
        return None

    @property
    def cost_names(self) -> list[str]:
        """The costs that candidates have, multiply-adds first."""
        names = {name for one in self.candidates for name in one.costs}
        order = [name for name in ("macs", "params", "latency_ms") if name in names]
        return order + sorted(names - set(order))

    @property
    def objectives(self) -> list[str]:
        """The costs that the search weighs against the score; empty where it only limits them."""
        if self.config.get("method") != "nsga2":
            return []
        return [str(name) for name in self.config.get("objectives") or []]

    @property
    def limits(self) -> dict[str, float]:
        """The largest cost allowed, by its name."""
        found = {name: self.config.get(f"max_{name}") for name in ("macs", "params", "latency_ms")}
        return {name: float(value) for name, value in found.items() if value is not None}

    @property
    def score_name(self) -> str:
        """What the score is."""
        return "top-1 accuracy" if self.config.get("guide") == "classification" else "AP"

    @property
    def alike(self) -> bool:
        """Whether all genes have the same choices, as the blocks of DetNAS's spaces."""
        return len({gene.choices for gene in self.genes}) == 1
