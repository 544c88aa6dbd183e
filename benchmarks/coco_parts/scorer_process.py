"""A search's scorer and two candidates of a tiny supernet.

Started by `processes.crowd`; it tells what it found in a JSON line, and waits for one to end.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.detectors import create
from detnet.engine.processor import keep_freed_memory
from detnet.search.config import SearchConfig
from detnet.search.scoring.cache import ImageMemory
from detnet.search.scoring.detection import DetectionEvaluator
from detnet.search.scoring.scorer import Scorer

_SPACE = ShuffleSpace(8, tuple(ShuffleStage(f"c{n}", 1, 16 * (n - 1)) for n in range(2, 6)), 16)
_CANDIDATES = ((1, 2, 3, 0), (1, 2, 3, 0))  # twice the same: so must its score be


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(told: dict[str, Any]) -> dict[str, Any]:
    keep_freed_memory()
    torch.manual_seed(0)
    folder, device = Path(told["images"]), torch.device("cpu")
    train, search = (
        load_annotations(Split(name, Path(told[name]), folder))[0] for name in ("train", "val")
    )
    model = create(
        "retinanet",
        backbone="supernet",
        num_classes=len(search.categories) + 1,
        backbone_options={"space": _SPACE.to_json()},
        width=0.25,
        min_size=96,
        max_size=160,
    )
    memory = ImageMemory(told["limit_gb"] * 1e9)
    evaluator = DetectionEvaluator(
        model, train, search, device=device, memory=memory, threads=told["threads"]
    )
    config = SearchConfig(recalibration_images=told["recalibration_images"])
    scorer, before_mb = Scorer(evaluator, config, device), peak_mb()
    scores, rates, times = [], [], []
    for path in _CANDIDATES:
        began = time.perf_counter()
        scores.append(scorer.score(path))
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
        "scores": scores,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))), flush=True)
    sys.stdin.readline()
    os._exit(0)
