"""Pictures of what a run's detector found beside what is there, from its results file alone."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from detnet.data.annotations import Annotations
from detnet.data.images import read_image
from detnet.data.masks import decode_masks
from detnet.inference.draw import draw, side_by_side

SURE = 0.5  # score from which on a detection is drawn and counted
_OVERLAP = 0.5


def write_pictures(
    annotations: Annotations, results: Path, folder: Path, *, count: int = 12
) -> list[tuple[str, Path]]:
    """Draws images with ground truth at the left and detections at the right.

    Half of the images are spread evenly over the split, the other half are those with most errors.

    Args:
        annotations: of the split that was evaluated.
        results: its results.json.
        folder: for the pictures.
        count: how many.

    Returns:
        (caption, picture), the caption counting objects, hits, misses and false alarms.
    """
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in json.loads(results.read_text(encoding="utf-8")):
        if record["score"] >= SURE:
            found[record["image_id"]].append(record)
    tallies = [_tally(annotations, image, found) for image in range(len(annotations))]
    errors = np.array([missed + false for _, missed, false in tallies])
    even = np.linspace(0, len(annotations) - 1, max(1, count // 2)).round().astype(int)
    worst = [image for image in np.argsort(-errors, kind="stable") if errors[image]]
    order = [*even.tolist(), *map(int, worst), *range(len(annotations))]
    chosen = list(dict.fromkeys(order))[:count]
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for image in chosen:
        records = found[int(annotations.image_ids[image])]
        path = folder / f"{Path(annotations.file_name(image)).stem}_{image}.png"
        _draw(annotations, image, records).save(path)
        pictures.append((_caption(annotations, image, tallies[image]), path))
    return pictures


def _tally(
    annotations: Annotations, image: int, found: dict[int, list[dict[str, Any]]]
) -> tuple[int, int, int]:
    """Counts hits, misses and false alarms; each object is hit once, by the surest detection."""
    rows = annotations.rows(image)
    boxes = torch.from_numpy(annotations.boxes[rows])
    labels, crowd = annotations.labels[rows], annotations.crowd[rows]
    records = sorted(found[int(annotations.image_ids[image])], key=lambda r: -r["score"])
    detected = _boxes(records)
    free = {index for index in range(len(boxes)) if not crowd[index]}
    objects, false = len(free), 0
    overlaps = box_iou(detected, boxes)
    for record, row in zip(records, overlaps, strict=True):
        label = annotations.categories.label_of(record["category_id"])
        hits = [i for i in free if labels[i] == label and row[i] >= _OVERLAP]
        if hits:
            free.remove(max(hits, key=lambda i: float(row[i])))
        elif not any(crowd[i] and labels[i] == label and row[i] > 0 for i in range(len(boxes))):
            false += 1
    return objects - len(free), len(free), false


def _draw(annotations: Annotations, image: int, records: Sequence[dict[str, Any]]) -> Any:
    pixels = read_image(annotations.image_path(image))
    height, width = pixels.shape[-2:]
    rows = annotations.rows(image)
    names = annotations.categories.names
    labels = [int(label) for label in annotations.labels[rows]]
    truth_masks = found_masks = None
    if annotations.masks is not None:
        counts = [annotations.masks[row] for row in range(rows.start, rows.stop)]
        truth_masks = decode_masks(counts, height, width)
        found_masks = decode_masks(
            [record["segmentation"]["counts"].encode() for record in records], height, width
        )
    truth = draw(
        pixels,
        annotations.boxes[rows],
        names=[names[label - 1] for label in labels],
        labels=labels,
        masks=truth_masks,
    )
    seen = [annotations.categories.label_of(record["category_id"]) for record in records]
    detections = draw(
        pixels,
        _boxes(records),
        names=[names[label - 1] for label in seen],
        labels=seen,
        scores=[record["score"] for record in records],
        masks=found_masks,
    )
    return side_by_side([("what is there", truth), ("what was found", detections)])


def _boxes(records: Sequence[dict[str, Any]]) -> torch.Tensor:
    boxes = torch.tensor([record["bbox"] for record in records], dtype=torch.float32)
    boxes = boxes.reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def _caption(annotations: Annotations, image: int, tally: tuple[int, int, int]) -> str:
    hit, missed, false = tally
    return (
        f"{annotations.file_name(image)}: {hit + missed} objects, {hit} found, {missed} missed, "
        f"{false} false"
    )
