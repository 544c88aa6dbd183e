"""Classification as the guide of a search, the paper's comparison: top-1 on images kept apart."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo
from detnet.backbones.spaces.space import find_supernet
from detnet.data.classification.image_folder import ClassifiedImages
from detnet.data.classification.transforms import TestView
from detnet.engine.machine import autocast_to
from detnet.errors import InputError
from detnet.evaluation.classification import ranks
from detnet.inference.fuse import fuse
from detnet.search.scoring.cache import CachedImages, ImageMemory, Sample
from detnet.search.scoring.evaluator import (
    Evaluator,
    ScoringBudget,
    extract_network,
    refuse_non_finite,
    subset_generator,
)
from detnet.training.classification.evaluate import network_input

_SCORE_BATCH = 64


class ClassificationEvaluator(Evaluator):
    """A classifier with a supernet, and the two parts of its training images.

    Images are seen as in evaluation, whole and unchanged in colour, to be kept in memory.

    Args:
        model: its weights are never changed.
        info: how images become its input.
        images: those of both parts.
        train: indices of those to recalibrate on.
        search: indices of those to score on.
        autocast: see `choose_precision`.
        memory: of images that are kept.
        threads: that read images which are not kept.

    Raises:
        InputError: one of the parts is empty.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 5.3 (ClsNAS).
    """

    whole = False  # dropout and the like would only disturb

    def __init__(
        self,
        model: Classifier,
        info: ClassifierInfo,
        images: ClassifiedImages,
        *,
        train: Sequence[int],
        search: Sequence[int],
        device: torch.device,
        autocast: torch.dtype | None = None,
        memory: ImageMemory | None = None,
        threads: int = 0,
    ) -> None:
        if not train or not search:
            raise InputError("a search needs images to recalibrate on and others to score by")
        super().__init__(model, len(train), len(search), device, autocast, memory)
        self.info, self.images = info, images
        self._train, self._search = list(train), list(search)
        self._view = TestView(info.input_size, info.short_side)
        self._cache = CachedImages(self._read, self.memory, threads=threads)

    def candidate(self, path: Sequence[int], budget: ScoringBudget) -> nn.Module:
        options = self.info.options
        built = {name: options[name] for name in ("width", "stride_in", "norm") if name in options}
        supernet = find_supernet(self.model)
        assert supernet is not None
        supernet.take(path)
        found = extract_network(self.model, path, **built)
        refuse_non_finite(found)
        return found

    def read_training(self, rows: Sequence[Sequence[int]]) -> Iterator[list[Sample]]:
        return self._cache.batches([[self._train[index] for index in row] for row in rows])

    def mirrored(self, image: torch.Tensor, target: dict[str, Any]) -> Sample:
        return image.flip(2), target

    def step(self, candidate: nn.Module, batch: Sequence[Sample]) -> None:
        self._run(candidate, [image for image, _ in batch])

    def score(
        self, candidate: nn.Module, parts: Sequence[Sequence[int]], check_stop: Callable[[], None]
    ) -> float:
        """The share of the images whose class came first."""
        fused = fuse(candidate, dtype=self.autocast)
        right = seen = 0
        for part in parts:
            right += self._right(fused, [self._search[index] for index in part])
            seen += len(part)
            check_stop()
        return right / seen

    @torch.no_grad()
    def _right(self, fused: nn.Module, chosen: list[int]) -> int:
        rows = [chosen[at : at + _SCORE_BATCH] for at in range(0, len(chosen), _SCORE_BATCH)]
        right = 0
        for batch in self._cache.batches(rows):
            logits = self._run(fused, [image for image, _ in batch]).float().cpu()
            labels = torch.tensor([target["label"] for _, target in batch])
            right += int((ranks(logits, labels) == 0).sum())
        return right

    def subset(self, count: int, seed: int) -> list[int]:
        """As many of each class, as far as that goes."""
        if count >= self.search_images:
            return list(range(self.search_images))
        draws = subset_generator(seed)
        labels = np.asarray(self.images.labels)[self._search]
        order = draws.permutation(self.search_images)
        turn = np.zeros(self.search_images, dtype=np.int64)  # the how-manieth of its class
        seen: dict[int, int] = {}
        for image in order.tolist():
            label = int(labels[image])
            turn[image] = seen[label] = seen.get(label, -1) + 1
        by_turn = order[np.argsort(turn[order], kind="stable")]
        return sorted(by_turn[:count].tolist())

    def _run(self, model: nn.Module, pixels: list[torch.Tensor]) -> torch.Tensor:
        inputs = network_input(torch.stack(pixels).to(self.device), self.info)
        with autocast_to(self.device, self.autocast):
            logits: torch.Tensor = model(inputs)
        return logits

    def _read(self, index: int) -> Sample:
        pixels, _ = self._view(self.images.image_path(index), None, self.images.content(index))
        target: dict[str, Any] = {"label": int(self.images.labels[index])}
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1), target
