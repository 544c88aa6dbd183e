"""Scores a candidate of a search: its batch norms recalibrated, then measured on the search split.

Nothing but the path and the seed decides a score: not what was scored before, nor by which worker.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from detnet.backbones.files import load_classifier
from detnet.coco.categories import Categories
from detnet.data.classification.shards import index_images
from detnet.data.folders import Split
from detnet.data.reading import load_annotations, require_images
from detnet.detectors.build import info_of
from detnet.detectors.files import load_model
from detnet.engine.distributed import Process
from detnet.engine.memory import keep_freed_memory
from detnet.engine.precision import choose_precision
from detnet.errors import InputError
from detnet.search.scoring.classification import ClassificationGuide
from detnet.search.scoring.detection import DetectionGuide
from detnet.search.scoring.guides import (
    Guide,
    NonFinite,
    Way,
    own_randomness,
    part_order,
    recalibration_batches,
)
from detnet.training.classification.config import read_config as read_pretrain_config
from detnet.training.classification.evaluate import split_folder
from detnet.training.detection.config import read_config as read_train_config
from detnet.training.detection.splits import find_train

CARVED_CLASSES = "classes.json"  # in RUN/data, where classification is the guide

_PARTS = (4, 2)  # a score can be stopped after a quarter and a half of the images


@dataclass(frozen=True)
class ScoringOptions:
    """How candidates are scored; `SearchConfig` has fields of the same names.

    Args:
        scoring: full (the paper's) or cheap.
        recalibration_images: of the full way. Its moving average forgets the variance of 1 that it
            begins with by a tenth per batch; below about 100 batches what is left of that spoils
            every score.
        recalibration_batch: images of a batch, of both ways.
        cheap_recalibration_images: of the cheap way, which takes the plain mean over its batches.
        cheap_score_images: of the search split, in the cheap way.
        cheap_proposals: regions per image that a two-stage detector looks at in the cheap way.
    """

    scoring: Literal["full", "cheap"] = "full"
    recalibration_images: int = 4000
    recalibration_batch: int = 8
    cheap_recalibration_images: int = 200
    cheap_score_images: int = 1500
    cheap_proposals: int = 1000

    def full_way(self) -> Way:
        return Way(self.recalibration_images, self.recalibration_batch)

    def cheap_way(self) -> Way:
        return Way(
            self.cheap_recalibration_images,
            self.recalibration_batch,
            None,
            self.cheap_score_images,
            self.cheap_proposals,
        )


@dataclass
class Scorer:
    """Scores paths of one supernet, by either way.

    Args:
        guide: the supernet and its data.
        options: see `ScoringOptions`.
        seed: of the search.
        flip: probability that an image is mirrored in recalibration.
    """

    guide: Guide
    options: ScoringOptions
    device: torch.device
    seed: int = 0
    flip: float = 0.5
    _parts: dict[int, list[list[int]]] = field(default_factory=dict, repr=False)

    def full(self, path: Sequence[int], seed: int | None = None) -> float:
        """Scores as DetNAS does, on the whole search split; NaN where the network gives any.

        Args:
            seed: of the recalibration; the search's by default.
        """
        return self.score(path, self.options.full_way(), seed=seed)

    def cheap(self, path: Sequence[int], seed: int | None = None) -> float:
        """Scores with few images; NaN where the network gives any."""
        return self.score(path, self.options.cheap_way(), seed=seed)

    def score(
        self,
        path: Sequence[int],
        way: Way,
        *,
        seed: int | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> float:
        """Scores by any way, see `full`.

        Args:
            check_stop: called now and then; what it raises ends the score.
        """
        seed = self.seed if seed is None else seed
        batches = recalibration_batches(self.guide.train_images, way, seed=seed, flip=self.flip)
        parts = self.parts_of(way)
        candidate = self.guide.candidate(path, way)
        try:
            with own_randomness(seed, self.device):
                self.guide.recalibrate(candidate, batches, way)
                return self.guide.score(candidate, parts, check_stop)
        except NonFinite:
            return float("nan")

    def __call__(self, path: Sequence[int], check_stop: Callable[[], None]) -> float:
        """Scores a candidate of a search the way its settings ask for."""
        return self.score(path, self.way, check_stop=check_stop)

    @property
    def way(self) -> Way:
        """The way that the settings ask for."""
        cheap = self.options.scoring == "cheap"
        return self.options.cheap_way() if cheap else self.options.full_way()

    @property
    def images_per_candidate(self) -> int:
        """Images to recalibrate on and to score on together, by the way of the settings."""
        return self.images_by(self.way)

    def images_by(self, way: Way) -> int:
        """Images to recalibrate on and to score on together."""
        batches = max(1, way.recalibration_images // way.batch)
        recalibration = min(way.recalibration_images, batches * way.batch)
        return recalibration + min(way.score_images or 10**9, self.guide.search_images)

    def parts_of(self, way: Way) -> list[list[int]]:
        """The images of the search split that a way scores on, the same for all candidates.

        Returns:
            indices in parts, each as large as those before it together.
        """
        count = min(way.score_images or self.guide.search_images, self.guide.search_images)
        if count not in self._parts:
            chosen = self.guide.subset(count, self.seed)
            mixed = [chosen[at] for at in part_order(count, self.seed)]
            edges = [0, *(count // parts for parts in _PARTS if count // parts), count]
            self._parts[count] = [
                sorted(mixed[low:high]) for low, high in zip(edges, edges[1:], strict=False)
            ]
        return self._parts[count]


def make_scorer(config: Any, run: Path, process: Process) -> Scorer:
    """Loads the supernet of a search's run folder and the data it is scored on.

    Args:
        config: a `SearchConfig`.
        run: with data/ and finetune/, or pretrain/ where classification is the guide.

    Raises:
        InputError: there is no trained supernet, or the data cannot be used.
    """
    keep_freed_memory()
    names = ScoringOptions.__dataclass_fields__
    options = ScoringOptions(**{n: getattr(config, n) for n in names if hasattr(config, n)})
    make = _classification if config.guide == "classification" else _detection
    guide, flip = make(config, run, process.device)
    return Scorer(guide, options, process.device, config.seed, flip)


def _detection(config: Any, run: Path, device: torch.device) -> tuple[Guide, float]:
    model = load_model(_model_of(run / "finetune"))
    settings = read_train_config(run / "finetune" / "config.yaml")
    categories = Categories.from_json(info_of(model).categories)
    folder = find_train(settings).images
    apart = config.search_images_folder if config.search_annotations else None
    parts = {
        "train": Split("train", run / "data" / "train.json", folder),
        "search": Split("search", run / "data" / "search.json", Path(apart) if apart else folder),
    }
    found = {}
    for name, split in parts.items():
        found[name], _ = load_annotations(
            split, categories=categories, categories_of=str(run / "finetune")
        )
        require_images(found[name])
    guide = DetectionGuide(
        model,
        found["train"],
        found["search"],
        device=device,
        autocast=choose_precision(config.precision, device),
        threads=config.workers,
    )
    return guide, settings.flip


def _classification(config: Any, run: Path, device: torch.device) -> tuple[Guide, float]:
    model, info = load_classifier(_model_of(run / "pretrain"))
    settings = read_pretrain_config(run / "pretrain" / "config.yaml")
    images = index_images(split_folder(Path(settings.data), settings.train_split))
    train, search = carved_classes(run / "data" / CARVED_CLASSES, len(images))
    guide = ClassificationGuide(
        model,
        info,
        images,
        train=train,
        search=search,
        device=device,
        autocast=choose_precision(config.precision, device),
        threads=config.workers,
    )
    return guide, settings.flip


def carved_classes(path: Path, images: int) -> tuple[list[int], list[int]]:
    """Reads which images of a classification folder are kept apart to score candidates by.

    Args:
        path: a JSON file {"search": [index, …]} of positions in the folder's listing.
        images: that the folder has.

    Returns:
        indices of those to train and recalibrate on, and of those to score on.

    Raises:
        InputError: the file is not there, or is one of another folder.
    """
    try:
        search = sorted(int(index) for index in json.loads(path.read_text())["search"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no list of images to search by: {reason}") from None
    if search and not 0 <= search[0] <= search[-1] < images:
        raise InputError(f"{path}: names image {search[-1]}, but the folder has {images}")
    kept_apart = set(search)
    return [index for index in range(images) if index not in kept_apart], search


def _model_of(run: Path) -> Path:
    path = run / "model.safetensors"
    if not path.is_file():
        raise InputError(f"{path}: no trained supernet; let the phases before the search run first")
    return path
