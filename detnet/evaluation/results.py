"""Predictions as COCO results: one JSON record per box, with its mask or its keypoints."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.masks import encode_pixels
from detnet.errors import InputError
from detnet.files import write_text

_MASK_THRESHOLD = 0.5
_HALF = 0.5  # from a pixel's edge to its centre, where COCO's keypoints have it


def to_results(
    predictions: Iterable[Mapping[str, Any]],
    image_ids: Iterable[int],
    category_ids: Sequence[int] | np.ndarray,
    keypoints_of: Sequence[Sequence[int]] | None = None,
) -> list[dict[str, Any]]:
    """Turns the detections of many images into COCO results, in their order.

    Coordinates are rounded to 0.01 pixel and scores to 6 significant digits, so that a file holds
    exactly what was scored and is not twice as large as it needs to be.

    Args:
        predictions: per image tensors or arrays `boxes` (N, 4) xyxy pixels of the image itself,
            `labels` (N,) 1…K, `scores` (N,) and, where there are masks, `masks` (N, H, W) or
            (N, 1, H, W), true or above 0.5 inside, as large as the image, or `keypoints` (N, K, 3)
            in pixels as boxes are. COCO's keypoints are indices of pixels, half a pixel less.
        image_ids: COCO's id of each image.
        category_ids: that of label k at k - 1.
        keypoints_of: which of the K keypoints those of label k are, at k - 1, in the data set's
            order; all of them by default. Objects of a label without any get none.

    Raises:
        ValueError: there are not as many ids as predictions, or a label is not in 1…K.
    """
    ids = np.asarray(category_ids)
    records: list[dict[str, Any]] = []
    for prediction, image_id in zip(predictions, image_ids, strict=True):
        records.extend(_of_image(prediction, int(image_id), ids, keypoints_of))
    return records


def encode_masks(masks: Any) -> list[dict[str, Any]]:
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


def write_results(path: Path | str, records: list[dict[str, Any]]) -> None:
    """Writes COCO results as compact JSON, whole or not at all.

    Raises:
        InputError: a record holds NaN or infinity, which JSON has not.
    """
    try:
        text = json.dumps(records, separators=(",", ":"), allow_nan=False)
    except ValueError:
        bad = next(i for i, record in enumerate(records) if not _finite(record))
        raise InputError(
            f"{path}: results[{bad}] of image {records[bad]['image_id']} holds NaN or infinity: "
            "the model that made it has diverged"
        ) from None
    write_text(Path(path), text)


def _of_image(
    prediction: Mapping[str, Any],
    image_id: int,
    category_ids: np.ndarray,
    keypoints_of: Sequence[Sequence[int]] | None,
) -> list[dict[str, Any]]:
    boxes = _array(prediction["boxes"]).astype(np.float64).reshape(-1, 4)
    labels = _array(prediction["labels"]).astype(np.int64)
    scores = _array(prediction["scores"]).astype(np.float64)
    outside = (labels < 1) | (labels > len(category_ids))
    if outside.any():
        raise ValueError(
            f"image {image_id}: label {labels[outside][0]}, expected 1 to {len(category_ids)}"
        )
    boxes[:, 2:] -= boxes[:, :2]
    records = [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": float(f"{score:.6g}")}
        for category, box, score in zip(
            category_ids[labels - 1].tolist(), boxes.round(2).tolist(), scores, strict=True
        )
    ]
    masks = prediction.get("masks")
    if masks is not None:
        for record, mask in zip(records, encode_masks(masks), strict=True):
            record["segmentation"] = mask
    keypoints = prediction.get("keypoints")
    if keypoints is not None:
        points = _array(keypoints).astype(np.float64)
        points[..., :2] = (points[..., :2] - _HALF).round(2)
        for record, own, label in zip(records, points, labels, strict=True):
            chosen = own if keypoints_of is None else own[list(keypoints_of[label - 1])]
            if len(chosen):
                record["keypoints"] = chosen.ravel().tolist()
    return records


def _array(values: Any) -> np.ndarray:
    """A numpy array of an array or of a tensor on any device, in any precision."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # numpy has no such type
            values = values.float()
        return values.numpy()
    return np.asarray(values)


def _finite(record: dict[str, Any]) -> bool:
    numbers = [*record["bbox"], record["score"], *record.get("keypoints", ())]
    return bool(np.isfinite(numbers).all())
