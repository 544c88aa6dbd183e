"""What is to be found: the columns that evaluators score against.

The evaluators do not check: pycocotools takes a NaN box for a perfect match and loses annotation
id 0. Ids are replaced here by positions in ascending order, so what reaches them is whole, small
and finite. Annotations are taken as they are in the file, but for those that cannot be scored.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.annotations import Annotations
from detnet.coco.records import Ints
from detnet.coco.scorable import (
    AS_IT_IS,
    ScorableRecords,
    difficult_marks,
    keypoint_counts_of,
    require_field,
)
from detnet.coco.table import AnnotationTable, read_table
from detnet.errors import InputError
from detnet.text import is_utf8


@dataclass(frozen=True)
class GroundTruth:
    """What is to be found, in the order of the annotations.

    Args:
        sizes: (I, 2) height and width of each image, in ascending order of image id; zeros where
            boxes are scored.
        names: one per category, in ascending order of category id, each different.
        image_ids, category_ids: ascending; `images` and `categories` are positions in them.
        boxes: (A, 4) xywh pixels.
        areas: (A,) pixels, by which sizes are told apart.
        masks: one COCO segmentation per annotation, None where boxes are scored.
        keypoints: (A, K, 3) x, y and visibility, where those are scored; zeros beyond the number
            that an annotation's category has.
        labelled: (A,) how many of them the file says are labelled, 0 of those that it does not have
            or that were left out; where none is, the annotation counts neither for nor against a
            result. With `keypoints` alone, as the next.
        keypoint_counts: (C,) how many each category has.
        difficult: (A,) what the file marks so beside crowds; VOC's measure leaves it out.
        taken: in words, whether the file is scored as it is, or what was repaired.
    """

    sizes: np.ndarray
    names: tuple[str, ...]
    image_ids: np.ndarray
    category_ids: np.ndarray
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    masks: Sequence[Any] | None
    keypoints: np.ndarray | None = None
    labelled: np.ndarray | None = None
    keypoint_counts: np.ndarray | None = None
    difficult: np.ndarray | None = None
    taken: str = AS_IT_IS


GroundTruthSource = Path | str | dict[str, Any] | GroundTruth  # a file, its content, or read


@dataclass(frozen=True)
class GroundTruths:
    """What is to be found, for each kind of evaluation that a model has.

    Args:
        segm, keypoints: None where the annotations were read without.
    """

    bbox: GroundTruth
    segm: GroundTruth | None = None
    keypoints: GroundTruth | None = None

    def of(self, iou_type: str) -> GroundTruth:
        """That of one kind, which must be there."""
        truth = {"bbox": self.bbox, "segm": self.segm, "keypoints": self.keypoints}[iou_type]
        assert truth is not None
        return truth


def read_ground_truth(annotations: GroundTruthSource, *, iou_type: str = "bbox") -> GroundTruth:
    """Reads and checks COCO ground truth; what was read for this kind already is passed on.

    Areas that are missing are width times height of the box. A file of images and categories
    alone, as COCO gives out for its test images, is ground truth without annotations.

    Raises:
        InputError: the file or a record cannot be scored; the message names it.
        ValueError: it was read for another kind.
    """
    if isinstance(annotations, GroundTruth):
        return _of_kind(annotations, iou_type)
    if isinstance(annotations, Path | str):
        table = read_table(Path(annotations), unlabelled=True, strict=True)
    else:
        table = AnnotationTable(annotations, "annotations", unlabelled=True, strict=True)
    return ground_truth_of_table(table, iou_type)


def make_ground_truths(
    table: AnnotationTable, annotations: Annotations, repairs: list[str]
) -> GroundTruths:
    """The ground truth of a sound file: as it is, but for annotations that cannot be scored.

    Boxes without width or height, which nothing can be found to fit, are left out; an area that is
    missing or negative is computed, of the mask where there is one, else of the box; an object
    without a usable mask gets its box, one with keypoints of another number than its category's
    none. Boxes that reach beyond their image stay, and so do areas that are not width times height.
    Where even that cannot be scored, a box that reaches too far for an evaluator for instance, it
    is the annotations as they are trained on.

    Args:
        annotations: what was made of the table; with masks or keypoints, if these are scored, too.
        repairs: what was repaired in making them.
    """
    if not len(table):  # categories may lack the names of keypoints, which the model has
        return _each_kind(annotations, lambda kind: ground_truth_of_annotations(annotations, kind))
    try:
        return _each_kind(annotations, lambda kind: ground_truth_of_table(table, kind, mend=True))
    except InputError:
        return trained_on(annotations, repairs)


def trained_on(annotations: Annotations, repairs: list[str] | None = None) -> GroundTruths:
    """The annotations as they are trained on: boxes clipped to their image, and the like.

    Args:
        repairs: what `repair` says that it has repaired.
    """
    what = f", repaired: {'; '.join(repairs)}" if repairs else ""
    taken = f"as it is trained on{what}"
    return _each_kind(
        annotations,
        lambda kind: replace(ground_truth_of_annotations(annotations, kind), taken=taken),
    )


def ground_truth_of_table(
    table: AnnotationTable, iou_type: str, *, mend: bool = False
) -> GroundTruth:
    """Takes what one kind of evaluation needs of a file.

    Args:
        mend: change what cannot be scored, see `make_ground_truths`, instead of refusing it.

    Raises:
        InputError: an annotation cannot be scored; the message names it.
    """
    records = table.annotations
    image_order, image_rank = _order(table.image_ids[0])
    category_order, category_rank = _order(table.category_ids[0])
    images, categories = table.image_of, table.category_of
    require_field(records, iou_type)
    work, masks, more = ScorableRecords(table, mend), None, dict[str, Any]()
    sizes = np.zeros((len(table.images), 2), np.int64)
    if iou_type == "segm":
        sizes = table.sizes.astype(np.int64)[:, ::-1]
        masks = work.masks(sizes[images])
    if iou_type == "keypoints":
        counts = keypoint_counts_of(table)
        points, labelled = work.keypoints(counts)
        more = {
            "keypoints": points[work.rows],
            "labelled": labelled[work.rows],
            "keypoint_counts": counts[category_order],
        }
    rows = work.rows
    ids = table.category_ids[0][category_order]
    strange = [not is_utf8(str(row.get("name"))) for row in table.categories.rows]
    table.categories.refuse(np.array(strange, bool), "name", "is not UTF-8; rename it")
    given = [table.categories.rows[row].get("name", row) for row in category_order.tolist()]
    return GroundTruth(
        sizes=sizes[image_order],
        names=_distinct(given, ids),
        image_ids=table.image_ids[0][image_order],
        category_ids=ids,
        images=image_rank[images[rows]],
        categories=category_rank[categories[rows]],
        boxes=table.boxes[rows],
        areas=work.areas[rows],
        crowd=table.crowd[rows],
        masks=None if masks is None else [masks[row] for row in rows.tolist()],
        difficult=difficult_marks(records)[rows],
        taken=work.taken(),
        **more,
    )


def ground_truth_of_annotations(annotations: Annotations, iou_type: str) -> GroundTruth:
    """Takes what one kind of evaluation needs of annotations as they are trained on."""
    order, rank = _order(annotations.image_ids)
    image_of = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets))
    labels = annotations.labels.astype(np.int64)
    sizes = annotations.sizes.astype(np.int64)[:, ::-1]
    masks, more = None, dict[str, Any]()
    if iou_type == "segm":
        assert annotations.masks is not None  # the caller has seen to it
        pairs = zip(sizes[image_of].tolist(), annotations.masks, strict=True)
        masks = [{"size": size, "counts": counts} for size, counts in pairs]
    if iou_type == "keypoints":
        assert annotations.keypoints is not None and annotations.keypoint_layout is not None
        of_label = annotations.keypoint_layout.of_label
        counts = np.array([len(own) for own in of_label], np.int64)
        points = np.zeros((len(labels), int(counts.max(initial=0)), 3))
        for label, own in enumerate(of_label, 1):
            rows = np.flatnonzero(labels == label)
            if own:
                points[rows, : len(own)] = annotations.keypoints[rows][:, list(own)]
        labelled = (points[..., 2] > 0).sum(axis=1).astype(float)
        more = {"keypoints": points, "labelled": labelled, "keypoint_counts": counts}
    ids = np.array(annotations.categories.ids, np.int64)
    return GroundTruth(
        sizes=sizes[order] if iou_type == "segm" else np.zeros((len(order), 2), np.int64),
        names=_distinct(list(annotations.categories.names), ids),
        image_ids=annotations.image_ids[order],
        category_ids=ids,
        images=rank[image_of],
        categories=labels - 1,
        boxes=annotations.boxes_xywh,
        areas=annotations.areas,
        crowd=annotations.crowd,
        masks=masks,
        difficult=np.zeros(len(labels), bool),
        **more,
    )


def fingerprint(truth: GroundTruth) -> str:
    """SHA-256 of what is to be found, the same for every file that says the same.

    Neither names of files, nor the order of keys and records, nor ids of annotations count;
    areas that are left out count as those they are scored by. What was read for masks or keypoints
    has another fingerprint than the same file read for boxes.
    """
    masks = np.array([_digest_of_mask(mask) for mask in truth.masks or ()], np.uint64)
    # Adding 0 makes -0.0, which equals 0.0, the same bytes.
    columns = [truth.images, truth.categories, *(truth.boxes.T + 0.0), truth.areas + 0.0]
    columns += [truth.crowd, *([] if truth.masks is None else [masks])]
    if truth.keypoints is not None and truth.labelled is not None:
        flat = truth.keypoints.reshape(len(truth.images), 3 * truth.keypoints.shape[1])
        columns += [truth.labelled, *(flat.T + 0.0)]
    order = np.lexsort(columns[::-1])
    digest = hashlib.sha256(repr(truth.names).encode())
    for column in [truth.image_ids, truth.category_ids, *(column[order] for column in columns)]:
        digest.update(f"|{len(column)}|{column.dtype.str}|".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _digest_of_mask(mask: Any) -> int:
    digest = hashlib.sha256(b"%d %d " % tuple(mask["size"]) + mask["counts"]).digest()
    return int.from_bytes(digest[:8], "little")


def _of_kind(truth: GroundTruth, iou_type: str) -> GroundTruth:
    kind = "segm" if truth.masks is not None else "bbox" if truth.keypoints is None else "keypoints"
    if kind != iou_type:
        raise ValueError(f"this ground truth was read for {kind}, read it for {iou_type}")
    return truth


def _each_kind(annotations: Annotations, make: Callable[[str], GroundTruth]) -> GroundTruths:
    """Those kinds that the annotations were read for."""
    return GroundTruths(
        make("bbox"),
        make("segm") if annotations.masks is not None else None,
        make("keypoints") if annotations.keypoints is not None else None,
    )


def _order(ids: Ints) -> tuple[Ints, Ints]:
    """The rows in ascending order of id, and the place of each row in that."""
    order = np.argsort(ids, kind="stable")
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    return order, rank


def _distinct(names: Sequence[object], ids: Ints) -> tuple[str, ...]:
    """Names of categories; those shared by several get their id added."""
    given = [str(name) for name in names]
    while len(counts := Counter(given)) < len(given):  # again where one had such a name already
        pairs = zip(given, ids.tolist(), strict=True)
        given = [f"{name} (id {number})" if counts[name] > 1 else name for name, number in pairs]
    return tuple(given)
