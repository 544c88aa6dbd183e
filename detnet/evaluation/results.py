"""Predictions as COCO results: columns in memory, one JSON record per box in files."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.masks import RunLengths, encode_pixels
from detnet.errors import InputError
from detnet.files import replacing

_MASK_THRESHOLD = 0.5
_HALF = 0.5  # from a pixel's edge to its centre, where COCO's keypoints have it
_AT_ONCE = 10_000  # records that are there at the same time
Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Results:
    """What was found in many images, N objects in columns; as an iterable it is COCO's records.

    Args:
        images: (N,) int64, COCO's ids.
        categories: (N,) int64, likewise.
        scores: (N,) float64.
        boxes: (N, 4) float64, xywh, pixels; None where they are left out.
        masks: N run lengths of the whole image.
        keypoints: (N, K, 3) float64, as COCO has them, zeros beyond an object's own.
        keypoint_counts: (N,) int64, how many are its own, with `keypoints` alone.
    """

    images: np.ndarray
    categories: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None = None
    masks: list[RunLengths] | None = None
    keypoints: np.ndarray | None = None
    keypoint_counts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Record]:
        for first in range(0, len(self), _AT_ONCE):
            yield from self.pick(np.arange(first, min(first + _AT_ONCE, len(self))))._records()

    def pick(self, rows: np.ndarray) -> "Results":
        """The objects at these places, in this order."""
        chosen: dict[str, Any] = {}
        for one in fields(self):
            own = getattr(self, one.name)
            if own is not None:
                own = [own[row] for row in rows.tolist()] if isinstance(own, list) else own[rows]
                chosen[one.name] = own
        return Results(**chosen)

    def of_kind(self, iou_type: str) -> "Results":
        """What one kind of evaluation is given, those with keypoints for "keypoints".

        Only for "bbox" with boxes: else a detection's size is that of its mask, as in the truth, or
        of its keypoints, as in COCO's own results.
        """
        if iou_type == "bbox":
            return self
        counts = self.keypoint_counts if iou_type == "keypoints" else None
        chosen = self if counts is None else self.pick(np.flatnonzero(counts))
        return replace(chosen, boxes=None)

    def _records(self) -> list[Record]:
        columns = {
            "image_id": self.images.tolist(),
            "category_id": self.categories.tolist(),
            "bbox": None if self.boxes is None else self.boxes.tolist(),
            "score": self.scores.tolist(),
            "segmentation": self.masks,
        }
        there = {name: own for name, own in columns.items() if own is not None}
        records = [dict(zip(there, row, strict=True)) for row in zip(*there.values(), strict=True)]
        if self.keypoints is not None and self.keypoint_counts is not None:
            own = zip(records, self.keypoints, self.keypoint_counts.tolist(), strict=True)
            for record, points, count in own:
                if count:
                    record["keypoints"] = points[:count].ravel().tolist()
        return records


ResultsSource = Path | str | list[Record] | Results  # a file, its records, or columns


def join_results(parts: Iterable[Results]) -> Results:
    """One after the other; those without objects may lack columns that others have."""
    parts = [part for part in parts if len(part)] or [_NOTHING]
    columns = ([getattr(part, one.name) for part in parts] for one in fields(Results))
    return Results(*map(_joined, columns))


def _joined(own: Sequence[Any]) -> Any:
    if own[0] is None:
        return None
    return list(chain(*own)) if isinstance(own[0], list) else np.concatenate(own)


_NO_IDS = np.zeros(0, np.int64)
_NOTHING = Results(_NO_IDS, _NO_IDS, np.zeros(0), np.zeros((0, 4)))


def to_results(
    predictions: Iterable[Mapping[str, Any]],
    image_ids: Iterable[int],
    category_ids: Sequence[int] | np.ndarray,
    keypoints_of: Sequence[Sequence[int]] | None = None,
) -> Results:
    """Turns the detections of many images into COCO results, in their order.

    Coordinates are rounded to 0.01 pixel and scores to 6 significant digits, so that a file holds
    exactly what was scored and is not twice as large as it needs to be.

    Args:
        predictions: per image tensors or arrays `boxes` (N, 4) xyxy pixels of the image itself,
            `labels` (N,) 1…K, `scores` (N,) and, where there are masks, `masks` (N, H, W) or
            (N, 1, H, W), true or above 0.5 inside, as large as the image, or a list of their run
            lengths, or `keypoints` (N, K, 3) in pixels as boxes are. COCO's keypoints are indices
            of pixels, half a pixel less.
        image_ids: COCO's id of each image.
        category_ids: that of label k at k - 1.
        keypoints_of: which of the K keypoints those of label k are, at k - 1, in the data set's
            order; all of them by default. Objects of a label without any get none.

    Raises:
        ValueError: there are not as many ids as predictions, or a label is not in 1…K.
    """
    ids = np.asarray(category_ids)
    return join_results(
        _of_image(prediction, int(image_id), ids, keypoints_of)
        for prediction, image_id in zip(predictions, image_ids, strict=True)
    )


def encode_masks(masks: Any) -> list[RunLengths]:
    """Compresses masks to COCO's run lengths, `counts` as text so that JSON takes them.

    Args:
        masks: (N, H, W) or (N, 1, H, W), tensor or array, true or above 0.5 inside; a list of
            run lengths stays as it is.
    """
    if isinstance(masks, list):
        return masks
    stack = _array(masks)
    if stack.ndim == 4:
        stack = stack[:, 0]
    inside = stack > _MASK_THRESHOLD if stack.dtype.kind == "f" else stack != 0
    return [encode_pixels(mask) for mask in inside]


def write_results(path: Path | str, records: Iterable[Record]) -> None:
    """Writes COCO results as compact JSON, whole or not at all.

    Raises:
        InputError: a record holds NaN or infinity, which JSON has not.
    """
    path, left, count = Path(path), iter(records), 0
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write("[")
        while some := list(islice(left, _AT_ONCE)):
            try:
                text = json.dumps(some, separators=(",", ":"), allow_nan=False)
            except ValueError:
                bad = next(i for i, record in enumerate(some) if not _finite(record))
                raise InputError(
                    f"{path}: results[{count + bad}] of image {some[bad]['image_id']} holds NaN or "
                    "infinity: the model that made it has diverged"
                ) from None
            file.write("," * bool(count) + text[1:-1])
            count += len(some)
        file.write("]")


def _of_image(
    prediction: Mapping[str, Any],
    image_id: int,
    category_ids: np.ndarray,
    keypoints_of: Sequence[Sequence[int]] | None,
) -> Results:
    boxes = _array(prediction["boxes"]).astype(np.float64).reshape(-1, 4)
    labels = _array(prediction["labels"]).astype(np.int64)
    scores = _array(prediction["scores"]).astype(np.float64)
    outside = (labels < 1) | (labels > len(category_ids))
    if outside.any():
        raise ValueError(
            f"image {image_id}: label {labels[outside][0]}, expected 1 to {len(category_ids)}"
        )
    boxes[:, 2:] -= boxes[:, :2]
    more: dict[str, Any] = {}
    masks, keypoints = prediction.get("masks"), prediction.get("keypoints")
    if masks is not None:
        more["masks"] = encode_masks(masks)
    if keypoints is not None:
        points = _array(keypoints).astype(np.float64)
        points[..., :2] = (points[..., :2] - _HALF).round(2)
        own = keypoints_of or [range(points.shape[1])] * len(category_ids)
        counts = np.array([len(each) for each in own], np.int64)
        more["keypoints"] = np.zeros((len(points), int(counts.max(initial=0)), 3))
        for row, label in enumerate(labels - 1):
            more["keypoints"][row, : counts[label]] = points[row, list(own[label])]
        more["keypoint_counts"] = counts[labels - 1]
    return Results(
        images=np.full(len(labels), image_id, np.int64),
        categories=category_ids[labels - 1].astype(np.int64),
        scores=np.array([float(f"{score:.6g}") for score in scores]),
        boxes=boxes.round(2),
        **more,
    )


def _array(values: Any) -> np.ndarray:
    """A numpy array of an array or of a tensor on any device, in any precision."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # numpy has no such type
            values = values.float()
        return values.numpy()
    return np.asarray(values)


def _finite(record: Record) -> bool:
    numbers = [*record.get("bbox", ()), record["score"], *record.get("keypoints", ())]
    return bool(np.isfinite(numbers).all())
