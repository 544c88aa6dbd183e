"""Counts that describe one annotation file: sizes, objects by size and class, empty images."""

from collections import Counter
from typing import Any

import numpy as np

from detnet.coco.columns import Findings, Floats, Table
from detnet.coco.masks import MAX_SIDE

SMALL, LARGE = 32**2, 96**2  # COCO's bounds on an object's area, square pixels


def statistics(raw: dict[str, Any]) -> dict[str, Any]:
    """Counts what the records of a COCO file hold; records that are wrong are left out.

    Returns:
        JSON: images, annotations, images_without_annotations, crowds, boxes_per_image {mean, max},
        image_sizes {width and height {min, median, max}, most_common}, objects_by_size {small,
        medium, large} by the annotations' areas, per_class {name: {annotations, images}}.
    """
    unheard = Findings("")
    images = Table(raw, "images", "image", unheard)
    annotations = Table(raw, "annotations", "annotation", unheard)
    categories = Table(raw, "categories", "category", unheard)
    image_ids = np.unique(images.integers("id")[0])
    owners = annotations.integers("image_id")[0]
    owners = owners[np.isin(owners, image_ids)]
    per_image = np.unique(owners, return_counts=True)[1]
    return {
        "images": len(images),
        "annotations": len(annotations),
        "images_without_annotations": len(image_ids) - len(per_image),
        "crowds": sum(1 for row in annotations.rows if row.get("iscrowd") == 1),
        "boxes_per_image": {
            "mean": round(float(per_image.sum() / max(len(image_ids), 1)), 2),
            "max": int(per_image.max(initial=0)),
        },
        "image_sizes": _image_sizes(images),
        "objects_by_size": _objects_by_size(annotations),
        "per_class": _per_class(annotations, categories),
    }


def _image_sizes(images: Table) -> dict[str, Any]:
    sides = [images.numbers(key, missing="")[0] for key in ("width", "height")]
    known = np.all([(side >= 1) & (side <= MAX_SIDE) for side in sides], axis=0)
    width, height = (side[known].astype(int) for side in sides)
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


def _objects_by_size(annotations: Table) -> dict[str, int]:
    boxes = annotations.boxes()[0]
    areas: Floats = annotations.numbers("area", missing="")[0]
    with np.errstate(over="ignore"):
        areas = np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)
    areas = areas[~np.isnan(areas)]
    return {
        "small": int((areas < SMALL).sum()),
        "medium": int(((areas >= SMALL) & (areas < LARGE)).sum()),
        "large": int((areas >= LARGE).sum()),
    }


def _per_class(annotations: Table, categories: Table) -> dict[str, dict[str, int]]:
    classes, labelled = annotations.integers("category_id")
    owners = annotations.integers("image_id")[0]
    pairs = np.unique(np.stack([classes, owners], axis=1)[labelled], axis=0)
    boxes = Counter(classes[labelled].tolist())
    images = Counter(pairs[:, 0].tolist())
    ids, there = categories.integers("id")
    return {
        str(row.get("name", number)): {"annotations": boxes[number], "images": images[number]}
        for row, number, good in zip(categories.rows, ids.tolist(), there, strict=True)
        if good
    }
