"""Detection as the guide of a search: a candidate's AP on the search split."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detnet.backbones.spaces.space import take_path
from detnet.coco.annotations import Annotations
from detnet.coco.ground_truth import GroundTruth, read_ground_truth
from detnet.coco.writing import to_coco_dict
from detnet.data.dataset import DetectionDataset
from detnet.data.transforms import eval_transform, flip_horizontal
from detnet.detectors.base import info_of
from detnet.engine.machine import autocast_to
from detnet.errors import InputError
from detnet.evaluation.coco import evaluate
from detnet.evaluation.results import Results, join_results, to_results
from detnet.inference.fuse import fuse
from detnet.search.scoring.cache import CachedImages, ImageMemory, Sample
from detnet.search.scoring.evaluator import (
    Evaluator,
    NonFinite,
    ScoringBudget,
    extract_network,
    refuse_non_finite,
    subset_generator,
)

_SCORE_BATCH = 4


class DetectionEvaluator(Evaluator):
    """A detector with a supernet, and the two parts of its training data.

    Args:
        model: made by `detnet.create`; its weights are never changed.
        train: what its networks are recalibrated on.
        search: what they are scored on.
        autocast: see `choose_precision`.
        memory: of images that are kept.
        threads: that read images which are not kept.

    Raises:
        InputError: the search split has no image or no object.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Annotations,
        search: Annotations,
        *,
        device: torch.device,
        autocast: torch.dtype | None = None,
        memory: ImageMemory | None = None,
        threads: int = 0,
    ) -> None:
        if not len(train) or not len(search.boxes):
            empty = search if len(train) else train
            raise InputError(f"{empty.path}: has no images with objects to score candidates by")
        super().__init__(model, len(train), len(search), device, autocast, memory)
        self.annotations = search
        self._train = CachedImages(self._reader(train), self.memory, threads=threads)
        self._search = CachedImages(self._reader(search), self.memory, threads=threads)
        self._truths: dict[tuple[int, ...], GroundTruth] = {}

    def candidate(self, path: Sequence[int], budget: ScoringBudget) -> nn.Module:
        take_path(self.model, path)  # the strides of what is around the supernet may go by it
        options = info_of(self.model).options
        built = {name: options[name] for name in ("width", "stride_in", "norm")}
        found: Any = extract_network(self.model, path, **built)
        refuse_non_finite(found.backbone)
        if budget.proposals is not None:
            found.limit_regions(budget.proposals)
        return found

    def read_training(self, rows: Sequence[Sequence[int]]) -> Iterator[list[Sample]]:
        return self._train.batches(rows)

    def mirrored(self, image: Tensor, target: dict[str, Any]) -> Sample:
        return flip_horizontal(image, target)

    def step(self, candidate: nn.Module, batch: Sequence[Sample]) -> None:
        images = [image.to(self.device) for image, _ in batch]
        targets = [_to(target, self.device) for _, target in batch]
        with autocast_to(self.device, self.autocast):
            candidate(images, targets)

    def score(
        self, candidate: nn.Module, parts: Sequence[Sequence[int]], check_stop: Callable[[], None]
    ) -> float:
        """AP, the mean over IoU thresholds, as `detnet evaluate` tells it.

        Raises:
            NonFinite: its detections are no numbers.
        """
        fused: Any = fuse(candidate, dtype=self.autocast)
        fused.transform.train()  # the images come resized, and the boxes are scaled back here
        seen: list[int] = []
        found: list[Results] = []
        for part in parts:
            found.append(self._detect(fused, part))
            seen += part
            check_stop()
        scores = evaluate(self._truth(tuple(sorted(seen))), join_results(found)).scores()
        value = scores.headline["AP"]
        return 0.0 if value is None else float(value)  # None where no image has an object

    @torch.no_grad()
    def _detect(self, fused: Any, indices: Sequence[int]) -> Results:
        """Detects on images of the search split."""
        notes = self.annotations
        pieces: list[Results] = []
        rows = [indices[at : at + _SCORE_BATCH] for at in range(0, len(indices), _SCORE_BATCH)]
        for row, batch in zip(rows, self._search.batches(rows), strict=True):
            with autocast_to(self.device, self.autocast):
                found = fused([image.to(self.device) for image, _ in batch])
            for prediction, (image, target) in zip(found, batch, strict=True):
                prediction["boxes"] = prediction["boxes"].cpu() * _scale(
                    fused.transform.size_in_training(image), target
                )
            own = [{name: each[name] for name in ("boxes", "labels", "scores")} for each in found]
            pieces.append(to_results(own, notes.image_ids[list(row)], notes.categories.ids))
        results = join_results(pieces)
        assert results.boxes is not None
        if not (np.isfinite(results.boxes).all() and np.isfinite(results.scores).all()):
            raise NonFinite("its detections are no numbers")
        return results

    def subset(self, count: int, seed: int) -> list[int]:
        return stratified(self.annotations, count, subset_generator(seed))

    def _truth(self, indices: tuple[int, ...]) -> GroundTruth:
        if indices not in self._truths:
            self._truths[indices] = read_ground_truth(to_coco_dict(self.annotations, indices))
        return self._truths[indices]

    def _reader(self, annotations: Annotations) -> Any:
        detector: Any = self.model
        options = detector.transform.options
        transform = eval_transform(min_size=options.min_size, max_size=options.max_size)
        dataset = DetectionDataset(annotations, transform, seed=0)
        return dataset.__getitem__


def stratified(annotations: Annotations, count: int, draws: np.random.Generator) -> list[int]:
    """Chooses images that have, together, few and many objects and all categories as all have.

    The images are put in order by their rarest category and number of objects, and one is drawn
    from each of `count` equal parts of that order.

    Returns:
        ascending indices.
    """
    images = len(annotations)
    if count >= images:
        return list(range(images))
    categories = len(annotations.categories) + 1
    frequency = np.bincount(annotations.labels, minlength=categories)
    numbers = np.diff(annotations.offsets)
    rarest = np.full(images, categories, dtype=np.int64)
    place = np.argsort(np.argsort(frequency, kind="stable"), kind="stable")
    owner = np.repeat(np.arange(images), numbers)
    np.minimum.at(rarest, owner, place[annotations.labels])
    order = np.lexsort((draws.random(images), numbers, rarest))
    edges = np.linspace(0, images, count + 1)
    at = np.floor(edges[:-1] + draws.random(count) * np.diff(edges)).astype(int)
    return sorted(order[_distinct(at, images)].tolist())


def _distinct(places: np.ndarray, limit: int) -> np.ndarray:
    """Moves places of an ascending row apart where two draws met at an edge between parts."""
    apart = np.maximum.accumulate(places - np.arange(len(places))) + np.arange(len(places))
    top = limit - len(places) + np.arange(len(places))
    return np.minimum(apart, top)


def _scale(size: tuple[int, int], target: dict[str, Any]) -> Tensor:
    """What boxes in pixels of the network's input are multiplied with, as torchvision does it."""
    height, width = (
        torch.tensor(float(whole)) / torch.tensor(float(resized))
        for whole, resized in zip(target["original_size"], size, strict=True)
    )
    return torch.stack([width, height, width, height])


def _to(target: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in target.items()}
