"""What a search takes on so many devices, by arithmetic, before any of them is asked."""

from dataclasses import dataclass
from pathlib import Path

from detnet.backbones.spaces.space import read_space
from detnet.search.config import SearchConfig
from detnet.search.scoring.evaluator import ScoringBudget
from detnet.search.trainings import trainings_of_phases
from detnet.training.plan import DevicePlan, plan_training

FORWARD = 1 / 3  # of a training step's time
_NOWHERE = Path()  # settings name folders that need not be there


@dataclass(frozen=True)
class SearchPlan:
    """What a search takes, estimated.

    Args:
        trainings: by name, in their order.
        candidates: how many are scored.
        images: that each is recalibrated and scored on.
        scoring_s: seconds of all candidates, by one worker on each device.
    """

    trainings: dict[str, DevicePlan]
    candidates: int
    images: int
    scoring_s: float

    @property
    def seconds(self) -> float:
        """Of all phases."""
        return self.scoring_s + sum(one.seconds for one in self.trainings.values())


def plan_search(config: SearchConfig, *, devices: int, limit: float | None = None) -> SearchPlan:
    """Says what each of several devices gets of every training of a search.

    A supernet is taken along its first path, the winner is taken to be that network.

    Args:
        limit: bytes of each device's memory.

    Raises:
        InputError: a batch cannot be divided among the devices.
    """
    path = [0] * len(read_space(config.space).genes)
    trainings = {
        name: plan_training(each, devices=devices, limit=limit)
        for name, each in trainings_of_phases(config, _NOWHERE, path).items()
    }
    budget = ScoringBudget.of(config, config.scoring)
    images = budget.recalibration_images + (budget.score_images or config.search_images)
    guide = trainings["pretrain" if config.by_classes else "finetune"]
    candidates = config.population * config.generations
    return SearchPlan(
        trainings, candidates, images, FORWARD * guide.image_s * images * candidates / devices
    )
