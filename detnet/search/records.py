"""What a search writes down of its networks: the winner, plans, and what standalone training gave.

Each record stands in one JSON file of the run folder, which `SearchRun` writes and reads.
"""

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from detnet import kinds
from detnet.files import read_json, write_json
from detnet.search.costs import COSTS
from detnet.search.standalone.statistics import Interval, mean_interval
from detnet.text import count

Record = TypeVar("Record")
TrainingBudget = dict[
    str, dict[str, Any]
]  # kind of training -> setting -> value, as config.yaml has it

CONFIDENCE = 0.95
_SHOWN = 12  # digits of a hash in a line


@dataclass(frozen=True, kw_only=True)
class SpaceNetwork:
    """A network of a space.

    Args:
        path: as it is written, a digit for each gene.
        macs: multiply-adds of the body, at the search's width and cost_image_size.
        params: of the body.
        latency_ms: of the body; None where the search does not measure it.
    """

    path: str
    macs: float
    params: float
    latency_ms: float | None = None

    @property
    def costs(self) -> dict[str, float]:
        """What is known, by name."""
        found = {name: getattr(self, name) for name in COSTS}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TakenSupernet:
    """The supernet of another search, taken over instead of training one.

    Args:
        source: run folder of the training that made it.
        phase: which that is, "pretrain" or "finetune".
        sha256: of its model file.
        iterations: that it was trained.
        notes: how that training differs from the one that this search's settings ask for.
    """

    source: str
    phase: str
    sha256: str
    iterations: int
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """In a line."""
        trained = {"pretrain": "pre-trained", "finetune": "fine-tuned"}[self.phase]
        length = count(self.iterations, "iteration")
        return (
            f"the supernet is that of {self.source}, {trained} in {length} "
            f"(sha256 {self.sha256[:_SHOWN]}…)"
        )


@dataclass(frozen=True, kw_only=True)
class Winner(SpaceNetwork):
    """The best candidate of `generations`, if that is on record; its score is by shared weights."""

    score: float
    generation: int
    slot: int
    generations: int | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedNetwork(SpaceNetwork):
    """A network to be trained standalone.

    Args:
        name: by which people know it, unique in its plan.
        kind: why it is trained: "random", "winner", "other", "known", "widened" or "largest".
        seeds: one for each of its trainings.
        width: of its own, to which its costs belong; None where it has the search's.
        notes: what a person should know of it.
    """

    name: str
    kind: str = "random"
    seeds: tuple[int, ...]
    width: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StandalonePlan:
    """Networks to be trained standalone, chosen before any is trained.

    Args:
        budget: the settings that all trainings have in common.
    """

    networks: tuple[PlannedNetwork, ...] = ()
    budget: TrainingBudget = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ValidationPlan(StandalonePlan):
    """The networks whose ranking tells how well the supernet ranks, drawn before any score.

    Args:
        seed: of the draw.
        taken: folder of the search for whose supernet they were drawn and trained; None where that
            is this one.
    """

    seed: int
    taken: str | None = None


@dataclass(frozen=True, kw_only=True)
class BaselinesPlan(StandalonePlan):
    """The winner first, then what it must beat.

    Args:
        against: names of other searches whose winners are among these, and the winners' paths.
    """

    random: int
    seeds: int
    within: float
    share_pretraining: bool
    against: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StandaloneScores:
    """COCO's scores of a network trained standalone; None where it has none."""

    AP: float | None = None
    AP50: float | None = None
    AP75: float | None = None
    APs: float | None = None
    APm: float | None = None
    APl: float | None = None


SCORES = tuple(StandaloneScores.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class StandaloneResult(SpaceNetwork, StandaloneScores):
    """What one standalone training reached.

    Args:
        seconds: of pre-training, training and evaluation, by name.
        error: why it has no scores.
    """

    name: str
    seed: int
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class SupernetScore:
    """What the supernet says of a network; None where it gave no number.

    Args:
        by: the settings of scoring, and "supernet", of which file; nothing in a file of an earlier
            version.
    """

    score: float | None
    seconds: float
    by: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ValidatedNetwork(StandaloneResult):
    """A network's supernet scores and what it reached; COCO's scores are means over its seeds.

    Args:
        scores: by scoring budget.
        values: AP of each of its trainings that has one.
    """

    scores: dict[str, float | None]
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How one scoring budget of the supernet ranks networks that were trained standalone.

    Args:
        tau: Kendall's; None where it is not defined, as `undefined` says.
        interval: of τ.
        compared: networks that have both scores.
    """

    tau: float | None
    interval: Interval | None
    compared: int
    undefined: str | None = None


@dataclass(frozen=True, kw_only=True)
class RankingDifference:
    """How much better one score ranks networks than another, both of the same networks.

    Args:
        name, other: of scoring budgets, or "macs" for multiply-adds alone.
        difference: of τ, that of `name` less that of `other`.
        interval: of the difference.
    """

    name: str
    other: str
    difference: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class NetworkSpread:
    """How far networks differ, beside how far trainings of one network by other seeds do.

    Args:
        networks: that were trained by all seeds.
        seeds: trainings of each.
        of_networks: standard deviation of what networks reach, seeds aside.
        of_seeds: standard deviation over the seeds of one network, beside what a seed gives all.
        reliability: share of the variance of the means over seeds that is the networks' own.
        interval: of the reliability.
    """

    networks: int
    seeds: int
    of_networks: float
    of_seeds: float
    reliability: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How well the supernet ranks.

    Args:
        rankings: by scoring budget; "cheap of NAME" is that of the search NAME, whose networks
            were taken.
        by_macs: how well multiply-adds alone rank, which cost nothing to know.
        differences: between each two of these rankings, and from the same budget of NAME.
        spread: None where each network has one training.
        taken: folder of the search for which the networks were drawn and trained, if another.
        done, planned: trainings; networks are ranked by the seeds that all of them are done with.
    """

    seed: int
    confidence: float
    resamples: int
    rankings: dict[str, Ranking]
    networks: tuple[ValidatedNetwork, ...]
    by_macs: Ranking | None = None
    differences: tuple[RankingDifference, ...] = ()
    spread: NetworkSpread | None = None
    taken: str | None = None
    done: int = 0
    planned: int = 0


@dataclass(frozen=True, kw_only=True)
class ComparedNetwork(PlannedNetwork, StandaloneScores):
    """Adds the means over its trainings.

    Args:
        values: AP of each training that has one.
        interval: of their mean.
    """

    values: tuple[float, ...]
    interval: Interval | None
    trainings: tuple[StandaloneResult, ...]

    @property
    def errors(self) -> list[str]:
        """Why trainings have no scores."""
        return [one.error for one in self.trainings if one.error]


@dataclass(frozen=True, kw_only=True)
class WelchDifference:
    """What the winner's mean AP has over another's, with Welch's interval."""

    name: str
    kind: str
    difference: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """The winner, first, and what it must beat, all trained standalone with one budget."""

    seeds: int
    within: float
    share_pretraining: bool
    confidence: float
    networks: tuple[ComparedNetwork, ...]
    differences: tuple[WelchDifference, ...]

    @property
    def random_values(self) -> list[float]:
        """AP of the random networks, one value each."""
        return [value for one in self.networks if one.kind == "random" for value in one.values]

    @property
    def random_mean(self) -> float | None:
        """Of the random networks."""
        return statistics.fmean(self.random_values) if self.random_values else None

    @property
    def random_interval(self) -> Interval | None:
        """Of the random networks' mean."""
        return mean_interval(self.random_values, confidence=self.confidence)


def write_record(path: Path, record: Any) -> None:
    """Writes a dataclass as JSON, whole or not at all; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(record), shared=True)


def read_record(kind: type[Record], path: Path) -> Record:
    """Reads what `write_record` wrote.

    Raises:
        InputError: it is not there, was cut, or was changed by hand.
    """
    return kinds.read_record(kind, read_json(path), str(path))
