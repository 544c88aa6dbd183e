"""The annotations that are trained on, in flat arrays: small, shared by workers without copying."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os.path import isfile, join
from pathlib import Path

import numpy as np

from detnet.coco.categories import Categories
from detnet.coco.keypoints import KeypointLayout, place_keypoints
from detnet.coco.masks import encode_box, encode_masks, segmentation_areas
from detnet.coco.records import Bools, Floats, Ints
from detnet.coco.table import AnnotationTable
from detnet.errors import InputError
from detnet.files import hint_at_similar

EDGE_TOLERANCE = 0.05  # pixels; files rounded to one decimal exceed the edge by as much


@dataclass(frozen=True, eq=False)
class FlatBytes:
    """A list of byte strings without a Python object for each.

    Reading a Python object writes its reference count, which makes every worker copy the memory
    page it lies on; these arrays stay shared.

    Args:
        blob: uint8, the strings one after the other.
        offsets: (N + 1,) int64, where each begins; the last is the end.
    """

    blob: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, items: Iterable[bytes]) -> "FlatBytes":
        items = list(items)
        offsets = np.zeros(len(items) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in items], out=offsets[1:])
        return cls(np.frombuffer(b"".join(items), dtype=np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0 … {len(self) - 1}")
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class Annotations:
    """One split of a data set, I images and A annotations, grouped by image in the file's order.

    Args:
        path: the annotation file it came from.
        images_folder: where `file_names` start.
        image_ids: (I,) int64, as in the file.
        file_names: UTF-8, with subfolders where the file has them.
        sizes: (I, 2) int32, width and height, pixels.
        offsets: (I + 1,) int64, where each image's annotations begin.
        boxes: (A, 4) float32, xyxy, pixels, inside the image, never empty.
        boxes_xywh: (A, 4) float64, the same in the file's own form and precision.
        labels: (A,) int32, 1 … K.
        areas: (A,) float64, square pixels, of the mask where the file says so.
        crowd: (A,) bool.
        annotation_ids: (A,) int64, as in the file, not necessarily unique.
        masks: compressed run lengths per annotation, or None where they were not asked for.
        categories: what the labels mean.
        keypoints: (A, K, 3) float64, x and y as in the file and visibility, 0 for what is not
            labelled; or None where they were not asked for.
        keypoint_layout: what the K are; with `keypoints` alone.
    """

    path: Path
    images_folder: Path
    image_ids: np.ndarray
    file_names: FlatBytes
    sizes: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    boxes_xywh: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    annotation_ids: np.ndarray
    masks: FlatBytes | None
    categories: Categories
    keypoints: np.ndarray | None = None
    keypoint_layout: KeypointLayout | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, image: int) -> slice:
        """The annotations of the image with this index."""
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))

    def file_name(self, image: int) -> str:
        return self.file_names[image].decode("utf-8", "surrogatepass")

    def image_path(self, image: int) -> Path:
        return self.images_folder / self.file_name(image)


def require_images(annotations: Annotations) -> None:
    """Refuses a data set some of whose image files are not there, before hours of training.

    Raises:
        InputError: naming the first one that is missing, and how many are.
    """
    names = map(annotations.file_name, range(len(annotations)))
    missing = [name for name in names if not isfile(join(annotations.images_folder, name))]
    if missing:
        folder = annotations.images_folder
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        hint = f"{more}{hint_at_similar(folder, missing[0])}; `detnet check DATA` names all"
        raise InputError(f"{annotations.path}: image {folder / missing[0]} does not exist{hint}")


def repair(
    table: AnnotationTable,
    path: Path,
    images_folder: Path,
    *,
    masks: bool = False,
    layout: KeypointLayout | None = None,
    keep_empty: bool = True,
) -> tuple[Annotations, list[str]]:
    """Makes a sound file's table into what is trained on, repairing what is safe.

    Args:
        table: without errors, see `detnet.coco.table`.
        path: the annotation file it came from.
        images_folder: where the file's names start.
        masks: keep the masks; an annotation without a usable one gets its box as mask.
        layout: keep these keypoints; an annotation without usable ones is a box only.
        keep_empty: keep images on which there is nothing (but crowds).

    Returns:
        the annotations, and one line for each kind of repair: "clipped 12 boxes to their image".
    """
    work = _Repair(table)
    xyxy, clipped = work.boxes()
    images, rows, offsets = work.select(xyxy, keep_empty)
    boxes = xyxy[rows]
    xywh = boxes.copy()
    xywh[:, 2:] -= xywh[:, :2]
    xywh = np.where(clipped[rows, None], xywh, table.boxes[rows])
    by_id = np.argsort(table.category_ids[0], kind="stable")
    labels = (np.argsort(by_id) + 1).astype(np.int32)[table.category_of[rows]]
    names = table.file_names[0]
    annotations = Annotations(
        path=path,
        images_folder=images_folder,
        image_ids=table.image_ids[0][images],
        file_names=FlatBytes.of(names[i].encode("utf-8", "surrogatepass") for i in images),
        sizes=work.sizes[images],
        offsets=offsets,
        boxes=boxes.astype(np.float32),
        boxes_xywh=xywh,
        labels=labels,
        areas=work.areas(rows, xywh, clipped[rows]),
        crowd=table.crowd[rows],
        annotation_ids=table.annotation_ids[0][rows],
        masks=work.masks(rows, boxes) if masks else None,
        categories=Categories.from_json(table.categories.rows),
        keypoints=work.keypoints(rows, labels, layout) if layout else None,
        keypoint_layout=layout,
    )
    return annotations, work.repairs


class _Repair:
    """Chooses and changes what a table has, counting repairs on the way."""

    def __init__(self, table: AnnotationTable) -> None:
        self.table = table
        self.repairs: list[str] = []
        self.sizes = table.sizes.astype(np.int32)

    def boxes(self) -> tuple[Floats, Bools]:
        """All boxes as xyxy within their images, and which of them that changed."""
        xywh = self.table.boxes
        raw = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        sizes = self.sizes[self.table.image_of].astype(np.float64)
        boxes = np.clip(raw, 0, np.concatenate([sizes, sizes], axis=1))
        flat = (xywh[:, 2:] <= 0).any(axis=1)
        gone = ~flat & _empty(boxes)
        changed = (boxes != raw).any(axis=1)
        far = (np.abs(boxes - raw) > EDGE_TOLERANCE).any(axis=1) & ~flat & ~gone
        boxes[flat] = 0  # a negative width clipped at both ends could come out as a box
        self._note(far.sum(), "clipped {} to their image", "box", "boxes")
        self._note(flat.sum(), "dropped {} without width or height", "box", "boxes")
        self._note(gone.sum(), "dropped {} outside their image", "box", "boxes")
        return boxes, changed

    def select(self, boxes: Floats, keep_empty: bool) -> tuple[Ints, Ints, Ints]:
        """Which images and annotations stay, in which order, and the offsets that join them."""
        table, count = self.table, len(self.table.images)
        kept = ~_empty(boxes)
        if keep_empty:
            images = np.arange(count)
        else:
            images = np.flatnonzero(
                np.bincount(table.image_of[kept & ~table.crowd], minlength=count)
            )
            self._note(count - len(images), "left out {} without objects", "image", "images")
        place = np.full(count, -1)
        place[images] = np.arange(len(images))
        rows = np.flatnonzero(kept & (place[table.image_of] >= 0))
        rows = rows[np.argsort(place[table.image_of[rows]], kind="stable")]
        counts = np.bincount(place[table.image_of[rows]], minlength=len(images))
        return images, rows, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def areas(self, rows: Ints, xywh: Floats, clipped: Bools) -> Floats:
        areas = self.table.areas[rows]
        segmentations = [self.table.segmentations[row] for row in rows.tolist()]
        masked = np.array([value is not None for value in segmentations], dtype=bool)
        absent, negative = np.isnan(areas), areas < 0
        missing = absent | negative
        by_box = (missing | clipped) & ~masked
        areas[by_box] = xywh[by_box, 2] * xywh[by_box, 3]
        lacking = np.flatnonzero(missing & masked)
        covered = segmentation_areas([segmentations[index] for index in lacking])
        areas[lacking] = np.where(np.isnan(covered), xywh[lacking, 2:].prod(axis=1), covered)
        self._note(absent.sum(), "computed {}", "missing area", "missing areas")
        self._note(negative.sum(), "replaced {}", "negative area", "negative areas")
        return areas

    def masks(self, rows: Ints, boxes: Floats) -> FlatBytes:
        sizes = self.sizes[self.table.image_of[rows]][:, ::-1]
        masks = encode_masks([self.table.segmentations[row] for row in rows.tolist()], sizes)
        absent = sum(counts is None for counts in masks)
        self._note(absent, "took the box as mask of {} without a usable one", "object", "objects")
        filled = zip(masks, boxes, sizes.tolist(), strict=True)
        return FlatBytes.of(counts or encode_box(box, *size) for counts, box, size in filled)

    def keypoints(self, rows: Ints, labels: np.ndarray, layout: KeypointLayout) -> Floats:
        given = [self.table.keypoints[row] for row in rows.tolist()]
        sizes = self.sizes[self.table.image_of[rows]]
        points, unusable, outside = place_keypoints(given, labels, sizes, layout)
        self._note(unusable, "left out unusable keypoints of {}", "object", "objects")
        self._note(outside, "left out {} outside their image", "keypoint", "keypoints")
        return points

    def _note(self, count: int, text: str, one: str, many: str) -> None:
        if count:
            self.repairs.append(text.format(f"{count} {one if count == 1 else many}"))


def _empty(boxes: np.ndarray) -> np.ndarray:
    narrow = boxes.astype(np.float32)  # a box that single precision closes is no box either
    closed: np.ndarray = narrow[:, 2:] <= narrow[:, :2]
    return closed[:, 0] | closed[:, 1]
