"""The annotations of one split in flat arrays: small, and shared by workers without copying."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.categories import Categories
from detnet.coco.flat import FlatBytes
from detnet.coco.keypoints import KeypointLayout
from detnet.errors import InputError


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
        labels: (A,) int16, 1 … K.
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

    @property
    def nbytes(self) -> int:
        """Memory of all arrays together."""
        arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]
        flat = [self.file_names] + ([self.masks] if self.masks is not None else [])
        return sum(array.nbytes for array in arrays) + sum(item.nbytes for item in flat)


def require_images(annotations: Annotations) -> None:
    """Refuses a data set some of whose image files are not there, before hours of training.

    Raises:
        InputError: naming the first one that is missing, and how many are.
    """
    paths = (annotations.image_path(image) for image in range(len(annotations)))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"{annotations.path}: image {missing[0]} does not exist{more}; "
            f"names start from {annotations.images_folder}"
        )


def to_coco_dict(
    annotations: Annotations, image_indices: Iterable[int] | None = None
) -> dict[str, Any]:
    """Writes annotations as a COCO ground truth that every evaluator takes.

    Annotation ids count from 1, since pycocotools loses id 0; areas and crowd flags are always
    there; masks, where they were loaded, are compressed RLE; keypoints, where they were loaded, are
    those of the annotation's own category, with "num_keypoints".

    Args:
        image_indices: which images, all by default.
    """
    indices = list(range(len(annotations)) if image_indices is None else image_indices)
    images: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    for image in indices:
        image_id = int(annotations.image_ids[image])
        width, height = (int(side) for side in annotations.sizes[image])
        name = annotations.file_name(image)
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        rows = annotations.rows(image)
        columns = zip(
            range(rows.start, rows.stop),
            annotations.boxes_xywh[rows].tolist(),
            annotations.labels[rows].tolist(),
            annotations.areas[rows].tolist(),
            annotations.crowd[rows].tolist(),
            strict=True,
        )
        for row, box, label, area, crowd in columns:
            record = {
                "id": len(records) + 1,
                "image_id": image_id,
                "category_id": annotations.categories.ids[label - 1],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            if annotations.masks is not None:
                counts = annotations.masks[row].decode("ascii")
                record["segmentation"] = {"size": [height, width], "counts": counts}
            record |= _keypoints_of(annotations, row, label)
            records.append(record)
    return {
        "info": {},
        "images": images,
        "annotations": records,
        "categories": categories_to_json(annotations),
    }


def categories_to_json(annotations: Annotations) -> list[dict[str, Any]]:
    """COCO's list of categories, with the keypoints where those were loaded."""
    layout = annotations.keypoint_layout
    return layout.to_json(annotations.categories) if layout else annotations.categories.to_json()


def _keypoints_of(annotations: Annotations, row: int, label: int) -> dict[str, Any]:
    """An annotation's keypoints as its category has them; nothing where that has none."""
    if annotations.keypoints is None or annotations.keypoint_layout is None:
        return {}
    own = list(annotations.keypoint_layout.of_label[label - 1])
    if not own:
        return {}
    points = annotations.keypoints[row, own]
    return {
        "keypoints": points.ravel().tolist(),
        "num_keypoints": int((points[:, 2] > 0).sum()),
    }
