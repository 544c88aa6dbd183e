"""Errors by kind (TIDE) and the AP that each costs, classes mixed up, doubtful labels."""

from dataclasses import dataclass

import numpy as np

from detnet.evaluation.coco import Evaluation
from detnet.evaluation.comparison.accumulation import precision_curve
from detnet.evaluation.diagnosis.outcomes import Outcomes, Pairs
from detnet.evaluation.diagnosis.records import Confusion, ErrorKind, SuspectLabel
from detnet.evaluation.overlaps import box_ious

FALSE_KINDS = ("classification", "localisation", "both", "duplicate", "background")
BACKGROUND_IOU = 0.1

_MOST_LABEL_ERRORS = 200
_SAME_OBJECT = 0.5  # IoU from which two detections are taken to show one unlabelled object


@dataclass(frozen=True)
class Errors:
    """The kind of each error.

    Args:
        kinds: (D,) position in `FALSE_KINDS`, -1 where a detection is right or does not count.
        targets: (D,) row of the object that a classification or localisation error means, -1
            for other detections.
        missed: (G,) objects that nothing found and that no such error means.
    """

    kinds: np.ndarray
    targets: np.ndarray
    missed: np.ndarray


def find_errors(
    evaluation: Evaluation, found: Outcomes, near: Pairs, iou_threshold: float
) -> Errors:
    """Sorts out why each false detection is false, in the order of the authors' code.

    hotcoco's own `tide_errors` takes a detection beside a crowd of its class for a badly placed
    one; crowds are no objects here.

    Args:
        near: overlaps of all false detections that count.
    """
    truth, detections = evaluation.truth, evaluation.detections
    count = len(detections.images)
    near = near.where(~truth.crowd[near.objects])
    same = detections.categories[near.rows] == truth.categories[near.objects]
    right, right_objects = near.where(same).best(count)
    wrong, wrong_objects = near.where(~same).best(count)
    kinds = np.select(
        [
            found.hit | ~found.counted,
            (right >= BACKGROUND_IOU) & (right <= iou_threshold),
            wrong >= iou_threshold,
            right >= iou_threshold,
            wrong > BACKGROUND_IOU,
        ],
        [-1, *map(FALSE_KINDS.index, ("localisation", "classification", "duplicate", "both"))],
        FALSE_KINDS.index("background"),
    )
    targets = np.full(count, -1)
    for kind, objects in (("classification", wrong_objects), ("localisation", right_objects)):
        chosen = kinds == FALSE_KINDS.index(kind)
        targets[chosen] = objects[chosen]
    missed = found.sought & (found.found_by < 0)
    missed[targets[targets >= 0]] = False
    return Errors(kinds, targets, missed)


def error_costs(
    evaluation: Evaluation, found: Outcomes, errors: Errors, order: np.ndarray
) -> tuple[float | None, dict[str, ErrorKind]]:
    """The AP that is, and by kind of error their number and the AP gained without them.

    Args:
        order: rows of the detections that count, as `ranked` gives them.

    Returns:
        None in the place of an AP where no class has an object.
    """
    truth, detections = evaluation.truth, evaluation.detections
    counts = {kind: int((errors.kinds == k).sum()) for k, kind in enumerate(FALSE_KINDS)}
    counts["missed"] = int(errors.missed.sum())
    objects = np.bincount(truth.categories[found.sought], minlength=len(truth.names))
    if not objects.any():
        return None, {kind: {"count": n, "cost": None} for kind, n in counts.items()}
    kinds, categories, hit = errors.kinds[order], detections.categories[order], found.hit[order]
    chosen, targets = _mended(found, errors, order)
    base = _mean_ap(categories, hit, objects, objects > 0)
    gains = {}
    for k, kind in enumerate(FALSE_KINDS):
        mended = chosen & (kinds == k)
        stays = (kinds != k) | mended
        classes = np.where(mended, truth.categories[targets], categories)
        ap = _mean_ap(classes[stays], (hit | mended)[stays], objects, objects > 0)
        gains[kind] = ap - base
    forgiven = np.bincount(truth.categories[errors.missed], minlength=len(objects))
    gains["missed"] = _mean_ap(categories, hit, objects - forgiven, objects > 0) - base
    return base, {kind: {"count": counts[kind], "cost": gains[kind]} for kind in counts}


def _mended(found: Outcomes, errors: Errors, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections, in `order`, are made right: of those meaning one object the surest."""
    targets = errors.targets[order]
    means = np.flatnonzero(targets >= 0)
    means = means[found.found_by[targets[means]] < 0]
    _, first = np.unique(targets[means], return_index=True)
    chosen = np.zeros(len(order), bool)
    chosen[means[first]] = True
    return chosen, targets


def ranked(evaluation: Evaluation, found: Outcomes) -> np.ndarray:
    """Rows of the detections that count, from the surest on, as COCO ranks a class."""
    detections = evaluation.detections
    # Of equal scores the first image's goes first, then the first row.
    order = np.lexsort((detections.images, -detections.scores))
    return order[found.counted[order]]


def average_precisions(groups: np.ndarray, right: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """COCO's AP at one threshold for each group of detections, of a class or of an image.

    With nothing to find it is 1 where nothing was said, else 0.

    Args:
        groups: (N,) of detections, from the surest on.
        right: (N,) whether each finds an object.
        objects: (K,) how many there are to be found in each group.
    """
    by_group = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=len(objects)))
    rankings = np.split(right[by_group], ends[:-1])[: len(objects)]
    return np.array([_ap(*each) for each in zip(rankings, objects.tolist(), strict=True)])


def _mean_ap(
    categories: np.ndarray, right: np.ndarray, objects: np.ndarray, classes: np.ndarray
) -> float:
    return float(average_precisions(categories, right, objects)[classes].mean())


def _ap(right: np.ndarray, objects: int) -> float:
    if not objects:
        return float(not len(right))
    return float(precision_curve(np.flatnonzero(right), objects).mean())


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
