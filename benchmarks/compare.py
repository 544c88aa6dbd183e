"""Times a comparison's two parts: the bootstrap of 2,000 resamples, and the matching before it.

    python benchmarks/compare.py
    python benchmarks/compare.py --images 1000 --detections 100000

The bootstrap is measured on `coco-boxes` val where it is there (DETNET_DATA), else on made-up data
of its size, with two made-up detectors of 50,000 boxes each. The reference writes every drawn image
as often as it was drawn and accumulates in plain numpy, without matching again; it is run for
ten resamples and extrapolated. Matching is measured against hotcoco's, read image by image from
`eval_imgs`, each in a process of its own: with the 5,000 images asked for by default that takes
a minute and several GB.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from harness import arguments, compare_apart, keep

from detnet.coco.ground_truth import GroundTruth, read_ground_truth
from detnet.evaluation.comparison.bootstrap import bootstrap, image_weights
from detnet.evaluation.detections import Detections
from detnet.evaluation.engines import hotcoco_evaluator
from detnet.evaluation.grid import Measure, make_grid
from detnet.evaluation.matching import Matches, match

DATA = Path(os.environ.get("DETNET_DATA", Path(__file__).parents[2] / "shared" / "data"))
VAL = DATA / "coco-boxes" / "annotations" / "instances_val.json"
TEN = tuple(range(10))
# All that `detnet compare` shows: every size at every threshold of Tables 3 and 4, and the rest.
TABLES = [
    Measure(recall, size, 2, thresholds)
    for recall in (False, True)
    for size in range(4)
    for thresholds in (TEN, (0,), (2,), (4,), (6,), (7,))
]
MEASURES = [*TABLES, Measure("AP", 0, 2, (5,)), Measure("AR", 0, 0, TEN), Measure("AR", 0, 1, TEN)]
CLASS_MEASURES = [Measure("AP", 0, 2, TEN), Measure("AP", 0, 2, (0,)), Measure("AR", 0, 2, TEN)]


def made_up_truth(images: int, objects: int, classes: int = 80) -> GroundTruth:
    """Objects of COCO's sizes, some classes far more frequent than others."""
    random = np.random.default_rng(0)
    frequency = 1 / np.arange(1, classes + 1)
    sides = np.exp(random.normal(4, 0.9, (objects, 2))).clip(4, 500)
    return GroundTruth(
        sizes=np.full((images, 2), 640),
        names=tuple(f"class {k}" for k in range(classes)),
        image_ids=np.arange(images),
        category_ids=np.arange(classes),
        images=random.integers(0, images, objects),
        categories=random.choice(classes, objects, p=frequency / frequency.sum()),
        boxes=np.concatenate([random.uniform(0, 400, (objects, 2)), sides], axis=1),
        areas=sides.prod(axis=1) * 0.7,
        crowd=random.random(objects) < 0.01,
        masks=None,
    )


def detector(truth: GroundTruth, count: int, *, noise: float, seed: int) -> Detections:
    """Finds most objects, many of them again and again, and as much that is not there."""
    random = np.random.default_rng(seed)
    objects = random.permutation(len(truth.images))[: int(0.85 * len(truth.images))]
    source = np.resize(objects, count)
    first = np.arange(count) < len(objects)
    shift = random.normal(0, noise, (count, 4)) * np.where(first, 1, 3)[:, None]
    boxes = truth.boxes[source]
    boxes = np.concatenate([boxes[:, :2] + shift[:, :2] * boxes[:, 2:], boxes[:, 2:]], axis=1)
    boxes[:, 2:] *= np.exp(shift[:, 2:])
    elsewhere = ~first & (random.random(count) < 0.7)
    images = np.where(elsewhere, random.integers(0, len(truth.image_ids), count), 0)
    return Detections(
        images=np.where(elsewhere, images, truth.images[source]),
        categories=truth.categories[source],
        boxes=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        scores=np.where(first, random.beta(5, 2, count), random.beta(1, 4, count)).round(5),
        masks=None,
    )


def plain_scores(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """(K, A, T) average precision at 100 results with each image written as often as drawn.

    Recall falls out of the same sums; the 1 and 10 best results that AR1 and AR10 need are left
    out here, in favour of this side.
    """
    recalls, spacing = np.linspace(0, 1, 101), np.spacing(1)
    shape = matches.matched.shape[:2]
    scores = np.full((len(matches.truth.names), *shape), np.nan)
    ends = np.searchsorted(matches.categories, np.arange(len(matches.truth.names) + 1))
    for k, (begin, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
        of_class = matches.truth.categories == k
        rows = np.repeat(np.arange(begin, end), weights[matches.images[begin:end]])
        for a in range(shape[0]):
            own = of_class & ~matches.truth_ignored[a]
            objects = weights[matches.truth.images[own]].sum()
            if not objects:
                continue
            found, counted = matches.matched[a][:, rows] >= 0, ~matches.ignored[a][:, rows]
            hits = np.cumsum(found & counted, axis=1)
            precision = hits / (np.cumsum(counted, axis=1) + spacing)
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            for t in range(shape[1]):
                at = np.searchsorted(hits[t] / objects, recalls)
                scores[k, a, t] = precision[t, at[at < len(rows)]].sum() / len(recalls)
    return scores


def time_bootstrap(truth: GroundTruth, data: str, resamples: int, plain_resamples: int) -> None:
    detectors = [detector(truth, 50_000, noise=noise, seed=1) for noise in (0.08, 0.09)]
    before_mb = memory_mb()
    began = time.perf_counter()
    models = [match(truth, found, make_grid()) for found in detectors]
    matched = time.perf_counter()
    drawn = bootstrap(models, MEASURES, CLASS_MEASURES, resamples=resamples, seed=0)
    done = time.perf_counter()
    added_mb = memory_mb("VmHWM") - before_mb
    weights = next(image_weights(len(truth.image_ids), plain_resamples, 0, plain_resamples)).astype(
        int
    )
    began_plain = time.perf_counter()
    plain = [[plain_scores(model, column) for column in weights.T] for model in models]
    plain_s = (time.perf_counter() - began_plain) * resamples / plain_resamples
    expected = np.nanmean(np.array(plain)[:, :, :, 0].mean(axis=3), axis=2)
    deviation = np.abs(drawn.means[:, 0, :plain_resamples] - expected).max()
    keep(
        "compare",
        data=data,
        resamples=resamples,
        models=len(models),
        images=len(truth.image_ids),
        detections=len(detectors[0].scores),
        ratio=round(plain_s / (done - matched), 1),
        matching_s=round(matched - began, 3),
        bootstrap_s=round(done - matched, 3),
        plain_s=round(plain_s, 1),
        plain_s_extrapolated_from=plain_resamples,
        largest_deviation=float(f"{deviation:.2g}"),
        memory_mb=round(added_mb),
    )
    print(
        f"{data}: {resamples} resamples of two detectors in {done - matched:.2f} s, "
        f"plain numpy {plain_s:.0f} s (from {plain_resamples} resamples), "
        f"largest deviation {deviation:.1g}"
    )


def memory_mb(field: str = "VmRSS") -> float:
    """This process's memory now, or with "VmHWM" at its highest; the libraries are most of it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def our_matching(images: int, objects: int, detections: int) -> Callable[[], tuple[int, float]]:
    truth = made_up_truth(images, objects)
    found = detector(truth, detections, noise=0.08, seed=1)

    before_mb = memory_mb()

    def run() -> tuple[int, float]:
        matches = match(truth, found, make_grid())
        return int((matches.matched >= 0).sum()), memory_mb("VmHWM") - before_mb

    return run


def hotcocos_matching(
    images: int, objects: int, detections: int
) -> Callable[[], tuple[int, float]]:
    truth = made_up_truth(images, objects)
    found = detector(truth, detections, noise=0.08, seed=1)

    before_mb = memory_mb()

    def run() -> tuple[int, float]:
        evaluator = hotcoco_evaluator(truth, found, make_grid())
        hits = 0
        for image in evaluator.eval_imgs:
            if image is not None:
                hits += int((np.asarray(image["dtMatches"]) > 0).sum())
        return hits, memory_mb("VmHWM") - before_mb

    return run


def facts(ours: Sequence[float], theirs: Sequence[float], **sizes: int) -> dict[str, float]:
    if ours[0] != theirs[0]:
        raise SystemExit(f"{ours[0]} matches here, {theirs[0]} there")
    return sizes | {"ours_mb": round(ours[1]), "theirs_mb": round(theirs[1])}


def main() -> None:
    options = arguments(
        __doc__ or "",
        repeats=1,
        resamples=2000,
        plain_resamples=10,
        images=5000,
        objects=36_000,
        detections=500_000,
    )
    if VAL.exists():
        time_bootstrap(
            read_ground_truth(VAL), "coco-boxes val", options.resamples, options.plain_resamples
        )
    else:
        truth = made_up_truth(500, 4500)
        time_bootstrap(truth, "made up", options.resamples, options.plain_resamples)
    sizes = {name: getattr(options, name) for name in ("images", "objects", "detections")}
    compare_apart(
        "matching",
        partial(our_matching, **sizes),
        partial(hotcocos_matching, **sizes),
        threads=options.threads,
        repeats=options.repeats,
        facts=partial(facts, **sizes),
    )


if __name__ == "__main__":
    main()
