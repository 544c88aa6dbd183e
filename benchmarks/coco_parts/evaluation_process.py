"""One process of an evaluation, whose detector makes up what it finds.

Started by `processes.crowd`; it tells what it found in a JSON line, and waits for one to end.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detnet.data.folders import Split
from detnet.data.reading import load_scored
from detnet.detectors.base import ModelInfo, SimpleDetector
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.engine import distributed
from detnet.engine.processor import keep_freed_memory
from detnet.evaluation.files import write_scores
from detnet.training.detection.evaluate import evaluate_model

_SIDE = 64  # pixels of the short side: no network is asked, but images are made its input
_MASK = 28


class MadeUpDetector(SimpleDetector):
    """Finds so many objects in each image, of all sizes and classes, each with a mask."""

    def __init__(self, classes: int, objects: int) -> None:
        super().__init__()
        self.transform = ImageTransform(ImageOptions(min_size=_SIDE, max_size=2 * _SIDE))
        self.info = ModelInfo("", "", classes + 1)
        self.classes, self.objects = classes, objects
        across = torch.linspace(-1, 1, _MASK)
        self.round = (1.2 - across[:, None] ** 2 - across[None] ** 2).clamp(0, 1)

    def detect(self, batch: Any) -> list[dict[str, Tensor]]:
        found = []
        for image, (height, width) in zip(batch.tensors, batch.image_sizes, strict=True):
            # What is found depends on the image alone, whoever looks at it.
            seen = image[:, :height, :width].double().abs().sum()
            draws = torch.Generator().manual_seed(int(1e3 * seen))
            size = torch.tensor([width, height])
            sides = torch.exp(torch.randn(self.objects, 2, generator=draws) * 0.9 - 2)
            sides = sides.clamp(0.01, 0.95) * size
            corners = torch.rand(self.objects, 2, generator=draws) * (size - sides)
            noise = torch.rand(self.objects, 1, _MASK, _MASK, generator=draws) * 0.2
            found.append(
                {
                    "boxes": torch.cat([corners, corners + sides], 1),
                    "labels": torch.randint(1, self.classes + 1, (self.objects,), generator=draws),
                    "scores": torch.rand(self.objects, generator=draws),
                    "masks": self.round - noise,
                }
            )
        return found


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(told: dict[str, Any]) -> dict[str, Any]:
    keep_freed_memory()
    process = distributed.setup("cpu")
    split = Split("val", Path(told["val"]), Path(told["images"]))
    annotations, _, truths = load_scored(split, masks=True)
    began, before_mb = time.perf_counter(), peak_mb()
    loaded: list[float] = []

    def track(batches: Any, total: int) -> Any:
        yield from batches
        loaded.append(time.perf_counter() - began)

    scores = evaluate_model(
        MadeUpDetector(len(annotations.categories), told["detections"]),
        annotations,
        truths=truths,
        process=process,
        autocast=None,
        workers=told["workers"],
        track=track,
    )
    seconds, evaluated_mb = time.perf_counter() - began, peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        if process.main:
            write_scores(scores, Path(folder))
        written = sum(path.stat().st_size for path in Path(folder).iterdir())
    distributed.cleanup()
    return {
        "detect_s": round(loaded[0], 1),
        "score_s": round(seconds - loaded[0], 1),
        "write_s": round(time.perf_counter() - began - seconds, 1),
        "before_mb": round(before_mb),
        "evaluated_mb": round(evaluated_mb),
        "peak_mb": round(peak_mb()),
        "written_mb": round(written / 1e6, 1),
        "AP": scores.headline["AP"],
        "segm_AP": scores.headline["segm_AP"],
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))), flush=True)
    sys.stdin.readline()
    os._exit(0)
