"""Reads COCO annotation files into arrays, repairing what is safe and refusing what is not."""

from pathlib import Path
from typing import Any

import numpy as np

from detnet.data.annotations import Annotations, require_images, to_coco_dict
from detnet.data.categories import Categories
from detnet.data.flat import FlatBytes
from detnet.data.folders import Split
from detnet.data.mask_areas import pixel_area, polygon_areas
from detnet.data.masks import encode_box, encode_segmentation
from detnet.data.validate import Problem, find_problems, read_json
from detnet.errors import InputError

__all__ = ["Annotations", "load_annotations", "require_images", "to_coco_dict"]

_EDGE_TOLERANCE = 0.05  # pixels; files rounded to one decimal exceed the edge by as much


def load_annotations(
    split: Split,
    *,
    masks: bool = False,
    keep_empty: bool = True,
    categories: Categories | None = None,
) -> tuple[Annotations, list[str]]:
    """Reads a COCO file, repairs what is safe and refuses what is not. Opens no image.

    Args:
        masks: keep the masks; an annotation without a usable one gets its box as mask.
        keep_empty: keep images on which there is nothing (but crowds).
        categories: what the file's categories must be, a trained model's for instance.

    Returns:
        the annotations, and one line for each kind of repair: "clipped 12 boxes to their image".

    Raises:
        InputError: the file cannot be read, holds errors, or has other categories.
    """
    raw = read_json(split.annotations)
    _refuse_errors(find_problems(raw, file=str(split.annotations)), split)
    own = Categories.from_json(raw["categories"])
    if categories is not None:
        categories.require_same(own, mine="the model", theirs=str(split.annotations))
    if masks and raw["annotations"] and not any(a.get("segmentation") for a in raw["annotations"]):
        raise InputError(
            f"{split.annotations}: has no masks (no annotation has a segmentation); "
            "choose a detector that needs boxes only"
        )
    return _Builder(raw, split, own).build(masks=masks, keep_empty=keep_empty)


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

    def build(self, *, masks: bool, keep_empty: bool) -> tuple[Annotations, list[str]]:
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
        names = (
            self.images[image]["file_name"].encode("utf-8", "surrogatepass") for image in images
        )
        annotations = Annotations(
            path=self.split.annotations,
            images_folder=_where_names_start(self.split.images, self.images),
            image_ids=self.image_ids[images],
            file_names=FlatBytes.of(names),
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
        missing = np.isnan(areas)
        by_box = (missing | clipped) & ~masked
        areas[by_box] = xywh[by_box, 2] * xywh[by_box, 3]
        for index in np.flatnonzero(missing & masked):
            area = _mask_area(records[index]["segmentation"])
            areas[index] = xywh[index, 2] * xywh[index, 3] if np.isnan(area) else area
        self._repair(missing.sum(), "computed {}", "missing area", "missing areas")
        return areas

    def _masks(self, rows: np.ndarray, boxes: np.ndarray) -> FlatBytes:
        masks, absent = [], 0
        for row, box in zip(rows, boxes, strict=True):
            width, height = (int(side) for side in self.sizes[self.image_of[row]])
            counts = encode_segmentation(self.records[row].get("segmentation"), height, width)
            if counts is None:
                counts, absent = encode_box(box, height, width), absent + 1
            masks.append(counts)
        self._repair(absent, "took the box as mask of {} without a usable one", "object", "objects")
        return FlatBytes.of(masks)

    def _repair(self, count: int, text: str, one: str, many: str) -> None:
        if count:
            self.repairs.append(text.format(f"{count} {one if count == 1 else many}"))


def _refuse_errors(problems: list[Problem], split: Split) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return
    first, path = errors[0], split.annotations
    in_layout = path.parent.name == "annotations" or path.name == "_annotations.coco.json"
    data = path.parent.parent if in_layout else path
    more = f"+{len(errors) - 1} more: " if len(errors) > 1 else ""
    where = f"{first.file}: {first.record}" if first.record else first.file
    raise InputError(f"{where}: {first.message} ({more}run `detnet check {data}`)")


def _column(records: list[dict[str, Any]], key: str, dtype: type) -> np.ndarray:
    return np.array([record[key] for record in records], dtype=dtype)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _empty(boxes: np.ndarray) -> np.ndarray:
    narrow = boxes.astype(np.float32)  # a box that single precision closes is no box either
    closed: np.ndarray = narrow[:, 2:] <= narrow[:, :2]
    return closed[:, 0] | closed[:, 1]


def _mask_area(segmentation: Any) -> float:
    if isinstance(segmentation, list):
        return float(polygon_areas([segmentation])[0])
    try:
        return pixel_area(segmentation, *segmentation["size"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return float("nan")


def _where_names_start(folder: Path, images: list[dict[str, Any]]) -> Path:
    """The folder above, where the file names repeat the folder's own name ("images/a.jpg")."""
    if images:
        name = images[0]["file_name"]
        if not (folder / name).exists() and (folder.parent / name).exists():
            return folder.parent
    return folder
