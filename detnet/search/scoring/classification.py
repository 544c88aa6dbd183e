"""Classification as the guide of a search, the paper's comparison: top-1 on images kept apart."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo
from detnet.backbones.spaces.space import find_supernet
from detnet.data.classification.image_folder import ClassifiedImages
from detnet.data.classification.transforms import TestView
from detnet.engine.precision import autocast_to
from detnet.errors import InputError
from detnet.evaluation.classification import ranks
from detnet.inference.fuse import fuse
from detnet.search.scoring.evaluator import (
    CachedImages,
    Evaluator,
    NonFinite,
    Sample,
    ScoringBudget,
    extract_network,
    finite_statistics,
    recalibrate,
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
        memory: bytes of images that are kept.
        threads: that read images which are not kept.

    Raises:
        InputError: one of the parts is empty.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 5.3 (ClsNAS).
    """

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
        memory: int = 4 * 2**30,
        threads: int = 0,
    ) -> None:
        if not train or not search:
            raise InputError("a search needs images to recalibrate on and others to score by")
        self.model: nn.Module = model.to(device).to(memory_format=torch.channels_last)
        self.info, self.images, self.device, self.autocast = info, images, device, autocast
        self._train, self._search = list(train), list(search)
        self.train_images, self.search_images = len(self._train), len(self._search)
        self._view = TestView(info.input_size, info.short_side)
        self._cache = CachedImages(self._read, limit=memory, threads=threads)

    def candidate(self, path: Sequence[int], budget: ScoringBudget) -> nn.Module:
        options = self.info.options
        built = {name: options[name] for name in ("width", "stride_in", "norm") if name in options}
        supernet = find_supernet(self.model)
        assert supernet is not None
        supernet.take(path)
        found = extract_network(self.model, path, **built)
        refuse_non_finite(found)
        return found

    def recalibrate(
        self,
        candidate: nn.Module,
        batches: Sequence[Sequence[tuple[int, bool]]],
        budget: ScoringBudget,
    ) -> None:
        """Recalibrates the batch norms of a candidate.

        Raises:
            NonFinite: its batch norms have no finite statistics.
        """
        mirrored = [[flip for _, flip in batch] for batch in batches]
        rows = [[self._train[index] for index, _ in batch] for batch in batches]
        pairs = zip(self._cache.batches(rows), mirrored, strict=True)

        def step(pair: tuple[list[Sample], list[bool]]) -> None:
            pixels = [i.flip(2) if flip else i for (i, _), flip in zip(*pair, strict=True)]
            self._run(candidate, pixels)

        # Dropout and the like would only disturb: the norms alone are in train mode.
        recalibrate(candidate, pairs, step, momentum=budget.momentum, whole=False)
        if not finite_statistics(candidate):
            raise NonFinite("its batch norms have no finite statistics")

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
