"""Times `detnet score` with all its tables against pycocotools' standard summary, whole processes.

    python benchmarks/score.py
    python benchmarks/score.py --repeats 5 --theirs 0

Files of COCO val2017's size: 5,000 images, 36,000 boxes, 80 classes, 100 detections per image. The
promise is 30 times the speed and under 1.5 GB. pycocotools takes a minute; `--theirs 0` leaves it
out, and nothing is kept then.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import keep, parse

WIDTH, HEIGHT = 640, 480

PYCOCOTOOLS = """
import sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
truth = COCO(sys.argv[1])
evaluator = COCOeval(truth, truth.loadRes(sys.argv[2]), "bbox")
evaluator.evaluate()
evaluator.accumulate()
evaluator.summarize()
print("AP", evaluator.stats[0])
"""

STARTER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def write_files(folder: Path, images: int, boxes: int, detections: int, classes: int) -> None:
    """Boxes of all sizes; one detection in eight lies near a box and mostly scores higher."""
    random = np.random.default_rng(0)
    places = random.uniform(0, 1, (boxes, 2)) * [WIDTH * 0.8, HEIGHT * 0.8]
    sides = np.exp(random.uniform(np.log(6), np.log(300), (boxes, 2)))
    truth = np.concatenate([places, sides], 1).round(2)
    owners, kinds = random.integers(0, images, boxes), random.integers(1, classes + 1, boxes)
    annotations = [
        {
            "id": i + 1,
            "image_id": owner + 1,
            "category_id": kind,
            "bbox": box,
            "area": round(box[2] * box[3] * 0.6, 2),
            "iscrowd": int(i % 90 == 0),
        }
        for i, (owner, kind, box) in enumerate(
            zip(owners.tolist(), kinds.tolist(), truth.tolist(), strict=True)
        )
    ]
    content = {
        "images": [
            {"id": i, "file_name": f"{i:012}.jpg", "width": WIDTH, "height": HEIGHT}
            for i in range(1, images + 1)
        ],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, classes + 1)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(content))

    near = random.integers(0, boxes, detections)
    wild = random.random(detections) > 0.125
    found = truth[near] + random.normal(0, 0.08, (detections, 4)) * truth[near][:, [2, 3, 2, 3]]
    found[:, 2:] = np.maximum(found[:, 2:], 1)
    found[wild] = found[wild][:, [1, 0, 3, 2]]
    image = np.where(wild, random.integers(0, images, detections), owners[near]) + 1
    kind = np.where(wild, random.integers(1, classes + 1, detections), kinds[near])
    scores = np.where(wild, random.beta(1, 6, detections), random.beta(4, 3, detections))
    columns = (image.tolist(), kind.tolist(), found.round(2).tolist(), scores.round(4).tolist())
    names = ("image_id", "category_id", "bbox", "score")
    results = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    (folder / "results.json").write_text(json.dumps(results))


@dataclass(frozen=True)
class Run:
    """A process that has ended: seconds by the clock and of the processor, peak memory, output."""

    seconds: float
    cpu_s: float
    megabytes: float
    output: str


def measure(command: list[str]) -> Run:
    """Runs a process to its end.

    A small process starts it, since Linux counts the memory of whoever starts one as its own.
    """
    started = subprocess.run(
        [sys.executable, "-c", STARTER, *command], check=True, capture_output=True, text=True
    )
    output, _, numbers = started.stdout.rstrip().rpartition("\n")
    return Run(*json.loads(numbers), output)


def summary(name: str, runs: list[Run], ap: float) -> dict[str, float]:
    """Medians and peak memory, printed and as facts."""
    facts = {
        f"{name}_s": round(statistics.median(run.seconds for run in runs), 3),
        f"{name}_cpu_s": round(statistics.median(run.cpu_s for run in runs), 3),
        f"{name}_mb": round(max(run.megabytes for run in runs)),
    }
    print(f"AP {ap}", *(f"{key} {value}" for key, value in facts.items()), sep=", ")
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = {"images": 5000, "boxes": 36_000, "detections": 500_000, "classes": 80}
    for name, value in {**sizes, "repeats": 3, "theirs": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="%(default)s")
    options = parse(parser)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_files(folder, *(getattr(options, name) for name in sizes))
        files = [str(folder / "truth.json"), str(folder / "results.json")]
        words = ["-m", "detnet", "score", "--annotations", files[0], "--results", files[1]]
        for turn in range(max(options.repeats, options.theirs)):
            if turn < options.repeats:
                ours.append(measure([sys.executable, *words, "--json"]))
            if turn < options.theirs:
                theirs.append(measure([sys.executable, "-c", PYCOCOTOOLS, *files]))
    our_ap = json.loads(ours[0].output)["AP"]
    facts: dict[str, Any] = summary("ours", ours, our_ap)
    if not theirs:
        return
    their_ap = float(theirs[0].output.split()[-1])
    facts |= summary("theirs", theirs, their_ap)
    ratio = round(facts["theirs_s"] / facts["ours_s"], 1)
    print(f"{ratio} times as fast")
    keep(
        "score",
        ratio=ratio,
        **facts,
        difference_of_ap=abs(our_ap - their_ap),
        repeats=[options.repeats, options.theirs],
        **{name: getattr(options, name) for name in sizes},
    )


if __name__ == "__main__":
    main()
