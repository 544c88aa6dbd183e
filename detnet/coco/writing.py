"""Annotations written as a COCO file that every evaluator takes."""

from collections.abc import Iterable
from typing import Any

from detnet.coco.annotations import Annotations


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
