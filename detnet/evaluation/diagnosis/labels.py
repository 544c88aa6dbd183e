"""False detections beside the objects not found: classes taken for another, doubtful labels."""

import numpy as np

from detnet.evaluation.coco import Evaluation
from detnet.evaluation.diagnosis.errors import BACKGROUND_IOU
from detnet.evaluation.diagnosis.outcomes import Outcomes, Pairs
from detnet.evaluation.diagnosis.records import Confusion, SuspectLabel
from detnet.evaluation.overlaps import box_ious

_MOST_LABEL_ERRORS = 200
_SAME_OBJECT = 0.5  # IoU from which two detections are taken to show one unlabelled object


def confusion(
    evaluation: Evaluation,
    found: Outcomes,
    near: Pairs,
    iou_threshold: float,
    score_threshold: float,
) -> Confusion:
    """Counts what objects of each class were taken for, at a score threshold.

    The matches of the evaluation make the diagonal; only what they leave, false detections and
    objects not found, is paired across classes. hotcoco's own matrix pairs regardless of class
    from the start and counts detections in crowds as false.

    Args:
        near: overlaps of the false detections that score at least `score_threshold`.

    Returns:
        "names", the last "background", and "matrix": rows are the objects' classes, columns
        what was detected.
    """
    truth, detections = evaluation.truth, evaluation.detections
    background = len(truth.names)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    right = np.flatnonzero(found.hit & (detections.scores >= score_threshold))
    classes = detections.categories[right]
    np.add.at(matrix, (classes, classes), 1)

    missed = found.sought.copy()
    missed[found.truth_of[right]] = False
    other = detections.categories[near.rows] != truth.categories[near.objects]
    pairs = near.where(other & missed[near.objects] & (near.ious >= iou_threshold))
    taken: dict[int, int] = {}  # detection by object
    used: set[int] = set()
    for pair in np.lexsort((-pairs.ious, -detections.scores[pairs.rows])).tolist():
        row, thing = int(pairs.rows[pair]), int(pairs.objects[pair])
        if row not in used and thing not in taken:
            taken[thing] = row
            used.add(row)
    for thing, row in taken.items():
        matrix[truth.categories[thing], detections.categories[row]] += 1
    missed[list(taken)] = False
    np.add.at(matrix[:, background], truth.categories[missed], 1)
    rest = found.counted & ~found.hit & (detections.scores >= score_threshold)
    rest[list(used)] = False
    np.add.at(matrix[background], detections.categories[rest], 1)
    return {"names": [*truth.names, "background"], "matrix": matrix.tolist()}


def label_errors(
    evaluation: Evaluation,
    found: Outcomes,
    near: Pairs,
    iou_threshold: float,
    score_threshold: float,
) -> list[SuspectLabel]:
    """Lists false detections so sure that the label may be what is wrong, surest first.

    "wrong class": it covers an object of another class that nothing found. "unlabelled": it
    covers nothing at all, crowds included. Of several for one object only the surest is told.
    """
    truth, detections = evaluation.truth, evaluation.detections
    sure = detections.scores >= score_threshold
    open_ = found.sought.copy()
    open_[found.truth_of[found.hit & sure]] = False
    other = detections.categories[near.rows] != truth.categories[near.objects]
    ious, objects = near.where(open_[near.objects] & other).best(len(detections.images))
    largest, _ = near.best(len(detections.images))
    false = np.flatnonzero(found.counted & ~found.hit & sure)
    listed: list[SuspectLabel] = []
    seen: set[int] = set()
    empty: dict[int, list[int]] = {}  # rows told as unlabelled, by image
    for row in false[np.argsort(-detections.scores[false], kind="stable")].tolist():
        if len(listed) == _MOST_LABEL_ERRORS:
            break
        if ious[row] >= iou_threshold:
            thing = int(objects[row])
            if thing not in seen:
                seen.add(thing)
                listed.append(_told(evaluation, row, float(ious[row]), thing))
        elif largest[row] < BACKGROUND_IOU:
            told = empty.setdefault(int(detections.images[row]), [])
            shared = box_ious(detections.boxes[[row]], detections.boxes[told])
            if shared.max(initial=0) < _SAME_OBJECT:
                told.append(row)
                listed.append(_told(evaluation, row, float(largest[row]), None))
    return listed


def _told(evaluation: Evaluation, row: int, iou: float, thing: int | None) -> SuspectLabel:
    truth, detections = evaluation.truth, evaluation.detections
    return {
        "image_id": int(truth.image_ids[detections.images[row]]),
        "kind": "unlabelled" if thing is None else "wrong class",
        "score": float(detections.scores[row]),
        "detected": truth.names[detections.categories[row]],
        "labelled": None if thing is None else truth.names[truth.categories[thing]],
        "box": detections.boxes[row].tolist(),
        "iou": iou,
    }
