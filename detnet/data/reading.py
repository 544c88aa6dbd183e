"""Reads a split's annotations into arrays, repairing what is safe and refusing what is not."""

from typing import Any

import numpy as np

from detnet.coco.annotations import Annotations, require_images, to_coco_dict
from detnet.coco.categories import Categories
from detnet.coco.flat import FlatBytes
from detnet.coco.keypoints import KeypointLayout, place_keypoints, require_keypoints
from detnet.coco.masks import encode_box, encode_masks, segmentation_areas
from detnet.coco.validate import read_sound
from detnet.data.contents import read_content
from detnet.data.folders import Split, names_start, require_inside
from detnet.errors import InputError

__all__ = ["Annotations", "load_annotations", "read_checked", "require_images", "to_coco_dict"]

_EDGE_TOLERANCE = 0.05  # pixels; files rounded to one decimal exceed the edge by as much


def read_checked(split: Split, *, unlabelled: bool = False) -> dict[str, Any]:
    """Reads a split's file, or VOC's lists, and refuses errors; nothing is repaired.

    Args:
        unlabelled: a file may lack the list "annotations", as that of COCO's test images does.

    Raises:
        InputError: it cannot be read, or holds errors.
    """
    if split.lists:
        return read_content(split)
    return read_sound(split.annotations, unlabelled=unlabelled)


def load_annotations(
    split: Split,
    *,
    raw: dict[str, Any] | None = None,
    masks: bool = False,
    keypoints: bool = False,
    keep_empty: bool = True,
    categories: Categories | None = None,
    layout: KeypointLayout | None = None,
    categories_of: str = "the model",
    unlabelled: bool = False,
) -> tuple[Annotations, list[str]]:
    """Reads a split, repairs what is safe and refuses what is not. Opens no image.

    Args:
        raw: the content as `read_checked` gives it, where that has been read already.
        masks: keep the masks; an annotation without a usable one gets its box as mask.
        keypoints: keep the keypoints; an annotation without usable ones is a box only.
        keep_empty: keep images on which there is nothing (but crowds).
        categories: what the file's categories must be, a trained model's for instance.
        layout: what the file's keypoints must be, likewise; a file without annotations need not
            name them.
        categories_of: who has them, for the message.
        unlabelled: as `read_checked`.

    Returns:
        the annotations, and one line for each kind of repair: "clipped 12 boxes to their image".

    Raises:
        InputError: the file cannot be read, holds errors, has other categories, or has no masks
            or keypoints where they are asked for.
    """
    raw = read_checked(split, unlabelled=unlabelled) if raw is None else raw
    own = Categories.from_json(raw["categories"])
    if categories is not None:
        categories.require_same(own, mine=categories_of, theirs=str(split.annotations))
    if masks and raw["annotations"] and not any(a.get("segmentation") for a in raw["annotations"]):
        raise InputError(
            f"{split.annotations}: has no masks (no annotation has a segmentation); "
            "choose a detector that needs boxes only"
        )
    points = None
    if keypoints:
        points = _layout(raw, file=str(split.annotations), known=layout, known_of=categories_of)
    return _Builder(raw, split, own).build(masks=masks, layout=points, keep_empty=keep_empty)


def _layout(
    raw: dict[str, Any], *, file: str, known: KeypointLayout | None, known_of: str
) -> KeypointLayout:
    """Which keypoints a file has; those that are known, where it has no annotations to tell."""
    own = KeypointLayout.from_json(raw["categories"], file=file)
    if own is None and known is not None and not raw["annotations"]:
        return known
    require_keypoints(raw, own, file=file)
    assert own is not None  # just required
    if known is not None:
        known.require_same(own, mine=known_of, theirs=file)
    return own


class _Builder:
    """Turns the lists of a checked COCO file into arrays, counting repairs on the way."""

    def __init__(self, raw: dict[str, Any], split: Split, categories: Categories) -> None:
        self.images: list[dict[str, Any]] = raw["images"]
        self.records: list[dict[str, Any]] = raw["annotations"]
        self.split, self.categories = split, categories
        self.repairs: list[str] = []
        self.image_ids = _column(self.images, "id", np.int64)
        sides = [_column(self.images, key, np.int32) for key in ("width", "height")]
        self.sizes = np.stack(sides, axis=1)
        by_id = np.argsort(self.image_ids, kind="stable")
        wanted = _column(self.records, "image_id", np.int64)
        self.image_of = by_id[np.searchsorted(self.image_ids[by_id], wanted)]

    def build(
        self, *, masks: bool, layout: KeypointLayout | None, keep_empty: bool
    ) -> tuple[Annotations, list[str]]:
        xyxy, clipped = self._boxes()
        crowd = np.array([record.get("iscrowd") == 1 for record in self.records], dtype=bool)
        images, rows, offsets = self._select(xyxy, crowd, keep_empty)
        boxes = xyxy[rows]
        xywh = boxes.copy()
        xywh[:, 2:] -= xywh[:, :2]
        whole = ~clipped[rows]
        original = np.array([self.records[row]["bbox"] for row in rows[whole]], dtype=np.float64)
        xywh[whole] = original.reshape(-1, 4)
        labels = self.categories.labels_of(_column(self.records, "category_id", np.int64)[rows])
        names = [image["file_name"] for image in self.images]
        start = names_start(self.split.images, names)
        require_inside(self.split, start, names)
        annotations = Annotations(
            path=self.split.annotations,
            images_folder=start,
            image_ids=self.image_ids[images],
            file_names=FlatBytes.of(names[i].encode("utf-8", "surrogatepass") for i in images),
            sizes=self.sizes[images],
            offsets=offsets,
            boxes=boxes.astype(np.float32),
            boxes_xywh=xywh,
            labels=labels,
            areas=self._areas(rows, xywh, clipped[rows]),
            crowd=crowd[rows],
            annotation_ids=_column(self.records, "id", np.int64)[rows],
            masks=self._masks(rows, boxes) if masks else None,
            categories=self.categories,
            keypoints=self._keypoints(rows, labels, layout) if layout else None,
            keypoint_layout=layout,
        )
        return annotations, self.repairs

    def _boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """All boxes as xyxy within their images, and which of them that changed."""
        xywh = np.array([record["bbox"] for record in self.records], dtype=np.float64)
        xywh = xywh.reshape(-1, 4)
        raw = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        sizes = self.sizes[self.image_of].astype(np.float64)
        boxes = np.clip(raw, 0, np.concatenate([sizes, sizes], axis=1))
        flat = (xywh[:, 2:] <= 0).any(axis=1)
        gone = ~flat & _empty(boxes)
        changed = (boxes != raw).any(axis=1)
        far = (np.abs(boxes - raw) > _EDGE_TOLERANCE).any(axis=1) & ~flat & ~gone
        boxes[flat] = 0  # a negative width clipped at both ends could come out as a box
        self._repair(far.sum(), "clipped {} to their image", "box", "boxes")
        self._repair(flat.sum(), "dropped {} without width or height", "box", "boxes")
        self._repair(gone.sum(), "dropped {} outside their image", "box", "boxes")
        return boxes, changed

    def _select(
        self, boxes: np.ndarray, crowd: np.ndarray, keep_empty: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which images and annotations stay, in which order, and the offsets that join them."""
        kept = ~_empty(boxes)
        if keep_empty:
            images = np.arange(len(self.images))
        else:
            objects = np.bincount(self.image_of[kept & ~crowd], minlength=len(self.images))
            images = np.flatnonzero(objects)
            self._repair(
                len(self.images) - len(images), "left out {} without objects", "image", "images"
            )
        place = np.full(len(self.images), -1)
        place[images] = np.arange(len(images))
        rows = np.flatnonzero(kept & (place[self.image_of] >= 0))
        rows = rows[np.argsort(place[self.image_of[rows]], kind="stable")]
        counts = np.bincount(place[self.image_of[rows]], minlength=len(images))
        return images, rows, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def _areas(self, rows: np.ndarray, xywh: np.ndarray, clipped: np.ndarray) -> np.ndarray:
        records = [self.records[row] for row in rows]
        areas = np.array([_number(record.get("area")) for record in records], dtype=np.float64)
        masked = np.array([bool(record.get("segmentation")) for record in records], dtype=bool)
        absent = np.isnan(areas)
        negative = areas < 0
        missing = absent | negative
        by_box = (missing | clipped) & ~masked
        areas[by_box] = xywh[by_box, 2] * xywh[by_box, 3]
        lacking = np.flatnonzero(missing & masked)
        covered = segmentation_areas([records[index]["segmentation"] for index in lacking])
        areas[lacking] = np.where(np.isnan(covered), xywh[lacking, 2:].prod(axis=1), covered)
        self._repair(absent.sum(), "computed {}", "missing area", "missing areas")
        self._repair(negative.sum(), "replaced {}", "negative area", "negative areas")
        return areas

    def _masks(self, rows: np.ndarray, boxes: np.ndarray) -> FlatBytes:
        sizes = self.sizes[self.image_of[rows]][:, ::-1]
        masks = encode_masks([self.records[row].get("segmentation") for row in rows], sizes)
        absent = sum(counts is None for counts in masks)
        self._repair(absent, "took the box as mask of {} without a usable one", "object", "objects")
        filled = zip(masks, boxes, sizes.tolist(), strict=True)
        return FlatBytes.of(counts or encode_box(box, *size) for counts, box, size in filled)

    def _keypoints(
        self, rows: np.ndarray, labels: np.ndarray, layout: KeypointLayout
    ) -> np.ndarray:
        records = [self.records[row] for row in rows]
        sizes = self.sizes[self.image_of[rows]]
        points, unusable, outside = place_keypoints(records, labels, sizes, layout)
        self._repair(unusable, "left out unusable keypoints of {}", "object", "objects")
        self._repair(outside, "left out {} outside their image", "keypoint", "keypoints")
        return points

    def _repair(self, count: int, text: str, one: str, many: str) -> None:
        if count:
            self.repairs.append(text.format(f"{count} {one if count == 1 else many}"))


def _column(records: list[dict[str, Any]], key: str, dtype: type) -> np.ndarray:
    return np.array([record[key] for record in records], dtype=dtype)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _empty(boxes: np.ndarray) -> np.ndarray:
    narrow = boxes.astype(np.float32)  # a box that single precision closes is no box either
    closed: np.ndarray = narrow[:, 2:] <= narrow[:, :2]
    return closed[:, 0] | closed[:, 1]
