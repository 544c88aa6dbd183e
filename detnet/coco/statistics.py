"""Counts what a COCO file holds: images, objects, sizes, classes."""

from collections import Counter
from typing import Any

import numpy as np

from detnet.coco.table import AnnotationTable

SMALL, LARGE = 32**2, 96**2  # COCO's bounds on an object's area, square pixels


def statistics(table: AnnotationTable) -> dict[str, Any]:
    """Counts what the records of a COCO file hold; records that are wrong are left out.

    Returns:
        JSON: images, annotations, images_without_annotations, crowds, boxes_per_image {mean, max},
        image_sizes {width and height {min, median, max}, most_common}, objects_by_size {small,
        medium, large} by the annotations' areas, per_class {name: {annotations, images}}.
    """
    images = len(np.unique(table.image_ids[0]))
    owners = table.image_of[table.image_of >= 0]
    per_image = np.unique(owners, return_counts=True)[1]
    return {
        "images": len(table.images),
        "annotations": len(table),
        "images_without_annotations": images - len(per_image),
        "crowds": int(table.crowd.sum()),
        "boxes_per_image": {
            "mean": round(float(per_image.sum() / max(images, 1)), 2),
            "max": int(per_image.max(initial=0)),
        },
        "image_sizes": _image_sizes(table),
        "objects_by_size": _objects_by_size(table),
        "per_class": _per_class(table),
    }


def _image_sizes(table: AnnotationTable) -> dict[str, Any]:
    width, height = table.sizes[~np.isnan(table.sizes).any(axis=1)].astype(int).T
    common = Counter(zip(width.tolist(), height.tolist(), strict=True)).most_common(3)
    return {
        "width": _spread(width),
        "height": _spread(height),
        "most_common": [{"width": w, "height": h, "images": n} for (w, h), n in common],
    }


def _spread(values: Any) -> dict[str, int] | None:
    if len(values) == 0:
        return None
    return {
        "min": int(values.min()),
        "median": int(np.median(values)),
        "max": int(values.max()),
    }


def _objects_by_size(table: AnnotationTable) -> dict[str, int]:
    with np.errstate(over="ignore"):
        of_boxes = table.boxes[:, 2] * table.boxes[:, 3]
    areas = np.where(np.isnan(table.areas), of_boxes, table.areas)
    areas = areas[~np.isnan(areas)]
    return {
        "small": int((areas < SMALL).sum()),
        "medium": int(((areas >= SMALL) & (areas < LARGE)).sum()),
        "large": int((areas >= LARGE).sum()),
    }


def _per_class(table: AnnotationTable) -> dict[str, dict[str, int]]:
    labelled = table.category_of >= 0
    owners = np.stack([table.category_of, table.image_of], axis=1)[labelled]
    boxes = np.bincount(owners[:, 0], minlength=len(table.categories)).tolist()
    pairs = np.unique(owners, axis=0)
    images = np.bincount(pairs[:, 0], minlength=len(table.categories)).tolist()
    ids, there = table.category_ids
    return {
        str(row.get("name", ids[at])): {"annotations": boxes[at], "images": images[at]}
        for at, row in enumerate(table.categories.rows)
        if there[at]
    }
