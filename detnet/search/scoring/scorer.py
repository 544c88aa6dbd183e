"""Scores a candidate of a search: its batch norms recalibrated, then measured on the search split.

Nothing but the path, the seed and the precision, which is the first worker's, decides a score: not
what was scored before, nor by which worker. Kinds of devices still round a little differently.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from detnet.backbones.files import load_classifier
from detnet.coco.annotations import require_images
from detnet.coco.categories import Categories
from detnet.data.classification.shards import index_images
from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.detectors.base import info_of
from detnet.detectors.files import load_model
from detnet.engine.distributed import Process
from detnet.engine.machine import choose_precision
from detnet.engine.processor import keep_freed_memory
from detnet.errors import InputError
from detnet.search.config import BudgetName, SearchConfig
from detnet.search.scoring.cache import ImageMemory
from detnet.search.scoring.classification import ClassificationEvaluator
from detnet.search.scoring.detection import DetectionEvaluator
from detnet.search.scoring.evaluator import (
    Evaluator,
    NonFinite,
    ScoringBudget,
    own_randomness,
    part_order,
    recalibration_batches,
)
from detnet.search.split import find_own, kept_apart
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import split_folder
from detnet.training.detection.config import TrainConfig, find_train

_PARTS = (4, 2)  # a score can be stopped after a quarter and a half of the images


@dataclass
class Scorer:
    """Scores paths of one supernet.

    Args:
        evaluator: the supernet and its data.
        config: of the search; its seed decides every score.
        flip: probability that an image is mirrored in recalibration.
    """

    evaluator: Evaluator
    config: SearchConfig
    device: torch.device
    flip: float = 0.5
    _parts: dict[int, list[list[int]]] = field(default_factory=dict, repr=False)

    def score(
        self,
        path: Sequence[int],
        name: BudgetName | None = None,
        *,
        seed: int | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> float:
        """Scores a path; NaN where the network gives any.

        Args:
            name: of the scoring budget, the search's own by default. "full" is DetNAS's.
            seed: of the recalibration; the search's by default.
            check_stop: called after each batch and part; what it raises ends the score.
        """
        budget = self.budget(name)
        seed = self.config.seed if seed is None else seed
        images = self.evaluator.train_images
        batches = recalibration_batches(images, budget, seed=seed, flip=self.flip)
        parts = self.parts_of(budget)
        candidate = self.evaluator.candidate(path, budget)
        try:
            with own_randomness(seed, self.device):
                self.evaluator.recalibrate(candidate, batches, budget, check_stop)
                return self.evaluator.score(candidate, parts, check_stop)
        except NonFinite:
            return float("nan")

    def budget(self, name: BudgetName | None = None) -> ScoringBudget:
        """A scoring budget by its name, the search's own by default."""
        return ScoringBudget.of(self.config, name or self.config.scoring)

    def images(self, name: BudgetName | None = None) -> int:
        """Images to recalibrate on and to score on together, for one candidate."""
        budget = self.budget(name)
        batches = max(1, budget.recalibration_images // budget.batch)
        recalibration = min(budget.recalibration_images, batches * budget.batch)
        return recalibration + min(budget.score_images or 10**9, self.evaluator.search_images)

    def parts_of(self, budget: ScoringBudget) -> list[list[int]]:
        """The images of the search split that a budget scores on, the same for all candidates.

        Returns:
            indices in parts, each as large as those before it together.
        """
        there = self.evaluator.search_images
        count = min(budget.score_images or there, there)
        if count not in self._parts:
            chosen = self.evaluator.subset(count, self.config.seed)
            mixed = [chosen[at] for at in part_order(count, self.config.seed)]
            edges = [0, *(count // parts for parts in _PARTS if count // parts), count]
            self._parts[count] = [
                sorted(mixed[low:high]) for low, high in zip(edges, edges[1:], strict=False)
            ]
        return self._parts[count]


def make_scorer(config: SearchConfig, run: Path, process: Process) -> Scorer:
    """Loads the supernet of a search's run folder and the data it is scored on.

    Args:
        run: with data/ and finetune/, or pretrain/ where classification is the guide.

    Raises:
        InputError: there is no trained supernet, or the data cannot be used.
    """
    keep_freed_memory()
    make = _classification if config.by_classes else _detection
    evaluator, flip = make(config, run, process.device)
    return Scorer(evaluator, config, process.device, flip)


def _detection(config: SearchConfig, run: Path, device: torch.device) -> tuple[Evaluator, float]:
    model = load_model(_model_of(run / "finetune"))
    settings = TrainConfig.read(run / "finetune" / "config.yaml")
    categories = Categories.from_json(info_of(model).categories)
    folder = find_train(settings).images
    own = find_own(config)
    parts = {
        "train": Split("train", run / "data" / "train.json", folder),
        "search": Split("search", run / "data" / "search.json", own.images if own else folder),
    }
    found = {}
    for name, split in parts.items():
        found[name], _ = load_annotations(
            split, categories=categories, categories_of=str(run / "finetune")
        )
        require_images(found[name])
    evaluator = DetectionEvaluator(
        model,
        found["train"],
        found["search"],
        device=device,
        autocast=choose_precision(config.precision, device),
        memory=ImageMemory(config.image_memory_bytes),
        threads=config.workers,
    )
    return evaluator, settings.flip


def _classification(
    config: SearchConfig, run: Path, device: torch.device
) -> tuple[Evaluator, float]:
    model, info = load_classifier(_model_of(run / "pretrain"))
    settings = PretrainConfig.read(run / "pretrain" / "config.yaml")
    images = index_images(split_folder(Path(settings.data), settings.train_split))
    search = kept_apart(run, len(images))
    train = sorted({*range(len(images))} - {*search})
    evaluator = ClassificationEvaluator(
        model,
        info,
        images,
        train=train,
        search=search,
        device=device,
        autocast=choose_precision(config.precision, device),
        memory=ImageMemory(config.image_memory_bytes),
        threads=config.workers,
    )
    return evaluator, settings.flip


def _model_of(run: Path) -> Path:
    path = run / "model.safetensors"
    if not path.is_file():
        raise InputError(f"{path}: no trained supernet; let the phases before the search run first")
    return path
