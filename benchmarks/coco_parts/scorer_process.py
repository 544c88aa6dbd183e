"""A search's scorer, its images and its memory, with a network that looks at nothing.

Started by `processes.crowd`; it tells what it found in a JSON line, and waits for one to end.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.engine.processor import keep_freed_memory
from detnet.search.config import SearchConfig
from detnet.search.scoring.cache import ImageMemory
from detnet.search.scoring.detection import DetectionEvaluator
from detnet.search.scoring.evaluator import ScoringBudget
from detnet.search.scoring.scorer import Scorer

_IMAGES = ImageOptions(min_size=160, max_size=267)
_CANDIDATES = 2


class BlindNetwork(nn.Module):
    """Finds nothing, at no cost: what is left of a score is reading."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = ImageTransform(_IMAGES)

    def forward(self, images: list[Tensor], targets: Any = None) -> list[dict[str, Tensor]]:
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)}
        return [nothing for _ in images]


class ImageReader(DetectionEvaluator):
    """Scores without a supernet."""

    def candidate(self, path: Sequence[int], budget: ScoringBudget) -> nn.Module:
        return BlindNetwork()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(told: dict[str, Any]) -> dict[str, Any]:
    keep_freed_memory()
    torch.set_num_threads(1)
    folder, device = Path(told["images"]), torch.device("cpu")
    train, search = (
        load_annotations(Split(name, Path(told[name]), folder))[0] for name in ("train", "val")
    )
    memory = ImageMemory(told["limit_gb"] * 1e9)
    evaluator = ImageReader(
        BlindNetwork(), train, search, device=device, memory=memory, threads=told["threads"]
    )
    config = SearchConfig(recalibration_images=told["recalibration_images"])
    scorer, before_mb = Scorer(evaluator, config, device), peak_mb()
    rates, times = [], []
    for _ in range(_CANDIDATES):
        began = time.perf_counter()
        scorer.score(())
        times.append(round(time.perf_counter() - began, 1))
        rates.append(round(memory.hit_rate() or 0.0, 3))
    return {
        "images": scorer.images(),
        "kept": memory.images,
        "kept_mb": round(memory.nbytes / 1e6),
        "before_mb": round(before_mb),
        "peak_mb": round(peak_mb()),
        "hit_rates": rates,
        "seconds": times,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))), flush=True)
    sys.stdin.readline()
    os._exit(0)
