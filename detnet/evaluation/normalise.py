"""Ground truth and results as columns, checked before an evaluator sees them.

The evaluators do not check: pycocotools takes a NaN box for a perfect match and loses annotation
id 0, hotcoco goes on after a warning where results are of another split. Ids are replaced here by
positions in ascending order, so what reaches them is whole, small and finite.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.masks import RunLengths, encode_masks, mask_boxes, mask_flaw, rle_areas
from detnet.coco.records import Records, kind_of
from detnet.errors import InputError
from detnet.evaluation.keypoints import count_keypoints, keypoint_boxes, read_keypoints
from detnet.files import read_json

# What can be compared: its field, its name, and the kind of evaluation.
_FIELDS = {
    "bbox": ("boxes", "bbox"),
    "segmentation": ("masks", "segm"),
    "keypoints": ("keypoints", "keypoints"),
}
_FLAGS = ("difficult", "ignore")  # how files call what VOC leaves out, beside "iscrowd"
AS_IT_IS = "the file as it is"


@dataclass(frozen=True)
class Truth:
    """What is to be found, in the order of the annotations.

    Args:
        sizes: (I, 2) height and width of each image, in ascending order of image id; zeros where
            boxes are scored and the file does not tell.
        names: one per category, in ascending order of category id, each different.
        image_ids, category_ids: ascending; `images` and `categories` are positions in them.
        boxes: (A, 4) xywh pixels.
        areas: (A,) pixels, by which sizes are told apart.
        masks: one COCO segmentation per annotation, None where boxes are scored.
        keypoints: (A, K, 3) x, y and visibility, where those are scored; zeros beyond the number
            that an annotation's category has.
        labelled: (A,) how many of them the file says are labelled; where none is, the annotation
            counts neither for nor against a result. With `keypoints` alone, as the next.
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
    masks: list[Any] | None
    keypoints: np.ndarray | None = None
    labelled: np.ndarray | None = None
    keypoint_counts: np.ndarray | None = None
    difficult: np.ndarray | None = None
    taken: str = AS_IT_IS


TruthSource = Path | str | dict[str, Any] | Truth  # ground truth: a file, its content, or read


@dataclass(frozen=True)
class Detections:
    """What was found, as positions, boxes, masks and keypoints like those of `Truth`, in the file's
    order.
    """

    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    scores: np.ndarray
    masks: list[Any] | None
    keypoints: np.ndarray | None = None


def read_truth(annotations: TruthSource, *, iou_type: str = "bbox") -> Truth:
    """Reads and checks COCO ground truth; what was read for this kind already is passed on.

    Areas that are missing are width times height of the box. A file of images and categories
    alone, as COCO gives out for its test images, is ground truth without annotations.

    Raises:
        InputError: the file or a record cannot be scored; the message names it.
        ValueError: it was read for another kind.
    """
    if isinstance(annotations, Truth):
        return _of_kind(annotations, iou_type)
    if isinstance(annotations, dict):
        file, raw = "annotations", annotations
    else:
        file, raw = str(annotations), read_json(annotations)
    if isinstance(raw, dict) and {"images", "categories"} <= raw.keys():
        raw = {"annotations": [], **raw}
    tables = {name: _table(raw, name, file) for name in ("images", "annotations", "categories")}
    image_ids, image_order = _unique_ids(tables["images"])
    category_ids, category_order = _unique_ids(tables["categories"])
    found = tables["annotations"]
    images = _positions(found, "image_id", image_ids, "images")
    boxes = found.boxes("bbox")
    areas = found.numbers("area", default=boxes[:, 2] * boxes[:, 3])
    found.refuse(areas < 0, "area", "is negative; leave it out to have the box's")
    crowd = found.flags("iscrowd")
    sizes = np.zeros((len(image_ids), 2), np.int64)
    masks = None
    if iou_type == "segm":
        sizes = _sizes(tables["images"])[image_order]
        _require(found, "segmentation")
        masks = _masks(found, sizes[images])
    categories = _positions(found, "category_id", category_ids, "categories")
    more: dict[str, Any] = {}
    if iou_type == "keypoints":
        _require(found, "keypoints")
        kinds = [tables["categories"].records[i] for i in category_order]
        counts = count_keypoints(kinds, found, categories)
        points = read_keypoints(found, categories, counts, all_have_them=False)
        seen = (points[..., 2] > 0).sum(axis=1).astype(float)
        labelled = found.numbers("num_keypoints", default=seen)
        more = {"keypoints": points, "labelled": labelled, "keypoint_counts": counts}
    return Truth(
        sizes=sizes,
        names=_names(tables["categories"], category_order, category_ids),
        image_ids=image_ids,
        category_ids=category_ids,
        images=images,
        categories=categories,
        boxes=boxes,
        areas=areas,
        crowd=crowd,
        masks=masks,
        difficult=_difficult(found),
        taken=_taken(found),
        **more,
    )


def read_detections(
    results: Path | str | list[dict[str, Any]], truth: Truth, *, iou_type: str = "bbox"
) -> Detections:
    """Reads and checks COCO results against the ground truth they answer.

    As in pycocotools, a result's size is that of its box where the results carry boxes, else that
    of its mask, or of the box around its keypoints.

    Raises:
        InputError: the file or a record cannot be scored; the message names it.
    """
    if isinstance(results, str | Path):
        file, raw = str(results), read_json(results)
    else:
        file, raw = "results", results
    if not isinstance(raw, list):
        raise InputError(
            f"{file}: results are a list of "
            '{"image_id", "category_id", "bbox", "segmentation" or "keypoints", "score"}, '
            f"this is {kind_of(raw)}"
        )
    found = Records(raw, file, "results")
    _require(found, next(f for f, (_, kind) in _FIELDS.items() if kind == iou_type))
    images = _positions(found, "image_id", truth.image_ids, "images")
    categories = _positions(found, "category_id", truth.category_ids, "categories")
    scores = found.numbers("score")
    masks = None
    if iou_type == "keypoints":
        return _with_keypoints(found, truth, images, categories, scores)
    if iou_type == "bbox":
        boxes = found.boxes("bbox")
    else:
        masks = _masks(found, truth.sizes[images])
        if not raw or not raw[0].get("bbox"):
            areas = rle_areas([m["counts"] for m in masks], truth.sizes[images].prod(axis=1))
            boxes = mask_boxes(masks)
            return Detections(images, categories, boxes, areas.astype(float), scores, masks)
        boxes = found.boxes("bbox")
    return Detections(images, categories, boxes, boxes[:, 2] * boxes[:, 3], scores, masks)


def _with_keypoints(
    found: Records, truth: Truth, images: np.ndarray, categories: np.ndarray, scores: np.ndarray
) -> Detections:
    assert truth.keypoint_counts is not None  # truth has been read for keypoints
    counts = truth.keypoint_counts
    points = read_keypoints(found, categories, counts, all_have_them=True)
    if len(found) and found.records[0].get("bbox"):
        boxes = found.boxes("bbox")
    else:
        boxes = keypoint_boxes(points, counts[categories])
    areas = boxes[:, 2] * boxes[:, 3]
    return Detections(images, categories, boxes, areas, scores, None, points)


def fingerprint(truth: Truth) -> str:
    """SHA-256 of what is to be found, the same for every file that says the same.

    Neither names of files, nor the order of keys and records, nor ids of annotations count;
    areas that are left out count as those they are scored by. Truth read for masks or keypoints has
    another fingerprint than the same file read for boxes.
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


def _masks(table: Records, sizes: np.ndarray) -> list[RunLengths]:
    """The field `segmentation` of every record as compressed run lengths.

    Args:
        sizes: (N, 2) height and width of each record's image.

    Raises:
        InputError: the first record whose mask is damaged or not of its image's size.
    """
    given = table.column("segmentation")
    masks: list[RunLengths] = []
    pairs = zip(encode_masks(given, sizes), sizes.tolist(), strict=True)
    for index, (counts, size) in enumerate(pairs):
        if counts is None:
            table.fail(index, f"segmentation is no mask: {mask_flaw(given[index], *size)}")
        else:
            masks.append({"size": size, "counts": counts})
    return masks


def _digest_of_mask(mask: RunLengths) -> int:
    counts = mask["counts"]
    text = counts if isinstance(counts, bytes) else counts.encode("ascii")
    digest = hashlib.sha256(b"%d %d " % tuple(mask["size"]) + text).digest()
    return int.from_bytes(digest[:8], "little")


def _of_kind(truth: Truth, iou_type: str) -> Truth:
    kind = "segm" if truth.masks is not None else "bbox" if truth.keypoints is None else "keypoints"
    if kind != iou_type:
        raise ValueError(f"this ground truth was read for {kind}, read it for {iou_type}")
    return truth


def _taken(found: Records) -> str:
    missing = sum(record.get("area") is None for record in found.records)
    areas = "1 area that it lacks" if missing == 1 else f"{missing} areas that it lacks"
    return f"{AS_IT_IS}, but for {areas}: width x height" if missing else AS_IT_IS


def _difficult(found: Records) -> np.ndarray:
    marked = np.zeros(len(found), bool)
    for flag in _FLAGS:
        marked |= np.array([record.get(flag) in (1, True) for record in found.records], bool)
    return marked


def _table(raw: Any, name: str, file: str) -> Records:
    table = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(table, list):
        raise InputError(
            f"{file}: not COCO ground truth: it has no list {name!r}; expected an object with "
            "the lists images, annotations and categories"
        )
    return Records(table, file, name)


def _require(table: Records, field: str) -> None:
    """Refuses records none of which holds what is to be compared, and says what they do hold."""
    if any(record.get(field) for record in table.records):
        return
    for other, (kind, iou_type) in _FIELDS.items():
        if any(record.get(other) for record in table.records):
            raise InputError(
                f"{table.file}: the {table.name} hold {kind}, but no {_FIELDS[field][0]} "
                f"({field!r}); score them with --iou-type {iou_type}"
            )


def _unique_ids(table: Records) -> tuple[np.ndarray, np.ndarray]:
    """Ids in ascending order, and the order that sorts the table so."""
    ids = table.integers("id")
    order = np.argsort(ids, kind="stable")
    repeated = np.zeros(len(ids), bool)
    repeated[order[1:]] = ids[order[1:]] == ids[order[:-1]]
    table.refuse(repeated, "id", "is that of an earlier record; ids must differ")
    return ids[order], order


def _positions(table: Records, field: str, known: np.ndarray, where: str) -> np.ndarray:
    ids = table.integers(field)
    positions = np.minimum(np.searchsorted(known, ids), max(len(known) - 1, 0))
    unknown = known[positions] != ids if len(known) else np.ones(len(ids), bool)
    remedy = "remove the record or add what it names"
    if table.name == "results":
        remedy = {
            "images": "are these results of another split?",
            "categories": "results carry the ids of its categories, not a model's labels",
        }[where]
    table.refuse(unknown, field, f"is not among the ground truth's {where}: {remedy}")
    return positions


def _sizes(images: Records) -> np.ndarray:
    sizes = np.stack([images.integers("height"), images.integers("width")], 1)
    for column, field in enumerate(("height", "width")):
        images.refuse(sizes[:, column] <= 0, field, "is not positive; masks need the image's size")
    return sizes


def _names(categories: Records, order: np.ndarray, ids: np.ndarray) -> tuple[str, ...]:
    """Names in ascending order of id; those shared by several categories get their id added."""
    given = [str(categories.records[i].get("name", i)) for i in order]
    return tuple(
        f"{name} (id {id_})" if given.count(name) > 1 else name
        for name, id_ in zip(given, ids.tolist(), strict=True)
    )
