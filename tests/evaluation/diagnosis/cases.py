"""Small evaluations made by hand, and random ones, for the tests of the diagnosis."""

from typing import Any

import numpy as np
import pycocotools.mask

from detnet.evaluation.coco import Evaluation, evaluate
from detnet.evaluation.engines import hotcoco_evaluator

HEIGHT, WIDTH = 200, 300
# Two objects far apart, a box that covers 40 % of the first, and a place where nothing is.
FIRST, SECOND = (10, 10, 100, 100), (150, 10, 50, 50)
PART_OF_FIRST, NOWHERE = (10, 10, 100, 40), (200, 150, 20, 20)

Box = tuple[float, float, float, float]


def evaluated(
    annotations: list[tuple[Any, ...]],
    results: list[tuple[int, str, Box, float]],
    *,
    images: int = 2,
    classes: str = "ab",
    iou_type: str = "bbox",
    **options: Any,
) -> Evaluation:
    """Evaluates boxes, or the rectangles they are as masks.

    Args:
        annotations: (image, class, box) or (image, class, box, "crowd"); images count from 1.
        results: (image, class, box, score).
    """
    shape = with_mask if iou_type == "segm" else dict
    truth = {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in range(1, images + 1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, 1)],
        "annotations": [
            shape(
                id=n,
                image_id=image,
                category_id=classes.index(name) + 1,
                bbox=list(box),
                area=box[2] * box[3],
                iscrowd=int(bool(crowd)),
            )
            for n, (image, name, box, *crowd) in enumerate(annotations)
        ],
    }
    found = [
        shape(
            image_id=image, category_id=classes.index(name) + 1, bbox=list(map(float, box)), score=s
        )
        for image, name, box, s in results
    ]
    return evaluate(truth, found, iou_type=iou_type, **options)


def with_mask(**record: Any) -> dict[str, Any]:
    """The record with its box drawn as a mask."""
    x, y, width, height = map(int, record["bbox"])
    inside = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    inside[y : y + height, x : x + width] = 1
    return {**record, "segmentation": rle(inside)}


def rle(inside: np.ndarray) -> dict[str, Any]:
    """A mask as compressed run lengths."""
    encoded = pycocotools.mask.encode(np.asfortranarray(inside))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def random_evaluation(
    seed: int, *, crowds: bool = True, ties: bool = True, lowest_score: float = 0
) -> Evaluation:
    """Objects and detections that often lie near one, boxes or masks, sometimes none of either."""
    random = np.random.default_rng(seed)
    images, classes = int(random.integers(1, 6)), "abcd"[: int(random.integers(1, 5))]
    objects, count = int(random.integers(0, 12)), int(random.integers(0, 40))
    step = int(random.choice([1, 10, 20]))

    def boxes(number: int) -> np.ndarray:
        corners = random.integers(0, [200, 100], (number, 2))
        sides = random.integers(step, [90, 80], (number, 2)) // step * step
        return np.concatenate([corners // step * step, sides], 1)

    at, image = boxes(objects), random.integers(1, images + 1, objects)
    kind = random.integers(0, len(classes), objects)
    annotations = [
        (int(image[n]), classes[kind[n]], tuple(at[n].tolist()), *crowd)
        for n in range(objects)
        for crowd in [("crowd",) if crowds and random.random() < 0.2 else ()]
    ]
    scores = random.integers(0, 11, count) / 10 if ties else random.permutation(count) / 40
    results = []
    for box, score in zip(boxes(count), scores.tolist(), strict=True):
        place = (int(random.integers(1, images + 1)), classes[random.integers(len(classes))])
        if objects and random.random() < 0.7:
            near = int(random.integers(objects))
            box = at[near] + step * random.integers(-1, 2, 4)
            box = np.maximum(box, [0, 0, step, step])
            place = (int(image[near]), classes[kind[near]] if random.random() < 0.7 else place[1])
        results.append((*place, tuple(box.tolist()), score))
    results = [result for result in results if result[-1] >= lowest_score]
    iou_type = "segm" if seed % 4 == 0 else "bbox"
    return evaluated(annotations, results, images=images, classes=classes, iou_type=iou_type)


def by_hotcoco(evaluation: Evaluation) -> Any:
    """The evaluator that has diagnoses of its own."""
    return hotcoco_evaluator(evaluation.truth, evaluation.detections, evaluation.grid)
