"""Run-length masks in COCO's text form: areas of many at once, and whether each is sound.

pycocotools trusts the text it is given: a damaged one crashes it or never returns, so masks are
checked here, in numpy, before any evaluator sees them.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask

from detnet.coco.records import Records

_CHARACTERS_AT_ONCE = 1_000_000
_FARTHEST = 1e5  # pixels, of a polygon's corner
_MOST_CHARACTERS_PER_RUN = 7  # 5 bits each: more than any image has pixels


def rle_areas(counts: Sequence[str | bytes], pixels: np.ndarray) -> np.ndarray:
    """Counts the pixels of compressed masks.

    Args:
        counts: N compressed texts, COCO's `counts`.
        pixels: (N,) height times width of each mask.

    Returns:
        (N,) int64, pixels inside; -1 for a text that is not a mask of that many pixels.
    """
    areas = np.full(len(counts), -1, np.int64)
    start, size = 0, 0
    for end, text in enumerate(counts, 1):
        size += len(text)
        if size >= _CHARACTERS_AT_ONCE or end == len(counts):
            areas[start:end] = _areas(counts[start:end], pixels[start:end])
            start, size = end, 0
    return areas


def _areas(counts: Sequence[str | bytes], pixels: np.ndarray) -> np.ndarray:
    texts = [t if isinstance(t, bytes) else t.encode("ascii", "replace") for t in counts]
    lengths = np.array([len(t) for t in texts], np.int64)
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    owner = np.repeat(np.arange(len(texts)), lengths)
    bad = lengths == 0
    bad[owner[(codes < 0) | (codes > 63)]] = True
    ends = (codes & 32) == 0
    last = np.cumsum(lengths) - 1
    bad[~bad] = ~ends[last[~bad]]
    ends[last[lengths > 0]] = True  # keeps a damaged text from running into its neighbour

    run_end = np.flatnonzero(ends)
    run_start = np.concatenate([[0], run_end[:-1] + 1])[: len(run_end)]
    run_length = run_end - run_start + 1
    run_owner = owner[run_end]
    bad[run_owner[run_length > _MOST_CHARACTERS_PER_RUN]] = True
    counted = _runs(codes, run_start, run_length, run_owner)

    position = _position(run_owner)
    bad[run_owner[counted < 0]] = True
    total = np.bincount(run_owner, weights=counted, minlength=len(texts))
    inside = np.bincount(run_owner, weights=counted * (position % 2), minlength=len(texts))
    return np.where(bad | (total != pixels), -1, inside).astype(np.int64)


def _runs(
    codes: np.ndarray, start: np.ndarray, length: np.ndarray, owner: np.ndarray
) -> np.ndarray:
    """Lengths of all runs: 5 bits a character, low first, from the fourth run on as differences."""
    if not len(start):
        return np.zeros(0, np.int64)
    place = np.arange(len(codes)) - np.repeat(start, length)
    shift = 5 * np.minimum(place, _MOST_CHARACTERS_PER_RUN)
    values = np.add.reduceat((codes & 31) << shift, start)
    negative = (codes[start + length - 1] & 16) != 0
    values[negative] -= np.int64(1) << (5 * np.minimum(length[negative], _MOST_CHARACTERS_PER_RUN))
    position = _position(owner)
    for chosen in (position % 2 == 1, (position % 2 == 0) & (position > 0)):
        sums = np.cumsum(values[chosen])
        owners = owner[chosen]
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        before = np.concatenate([[0], sums])[first]
        values[chosen] = sums - np.repeat(before, np.diff(first, append=len(owners)))
    return values


def _position(owner: np.ndarray) -> np.ndarray:
    """Index of each run within its own mask."""
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.arange(len(owner)) - np.repeat(first, np.diff(first, append=len(owner)))


def checked_masks(table: Records, sizes: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Takes the field `segmentation` of every record, run lengths in compressed form.

    Args:
        sizes: (N, 2) height and width of each record's image.

    Returns:
        N compressed run-length masks, and (N,) their areas in pixels.

    Raises:
        InputError: the first record whose mask is damaged or not of its image's size.
    """
    masks = table.column("segmentation")
    problem = "is not a mask: polygons of at least 3 points, or run lengths {size, counts}"
    made = [_compressed(mask, *size) for mask, size in zip(masks, sizes.tolist(), strict=True)]
    table.refuse(np.array([mask is None for mask in made], bool), "segmentation", problem)
    checked = [mask for mask in made if mask is not None]
    areas = rle_areas([mask["counts"] for mask in checked], sizes.prod(1))
    wrong = "is damaged: its runs do not fill its image"
    table.refuse(areas < 0, "segmentation", wrong)
    return checked, areas


def mask_boxes(masks: list[Any]) -> np.ndarray:
    """(N, 4) xywh, the smallest boxes around compressed masks."""
    with warnings.catch_warnings():
        # pycocotools 2.0.11 converts its buffers in a way that numpy 2 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        boxes = [pycocotools.mask.toBbox(mask) for mask in masks]
    return np.asarray(boxes, np.float64).reshape(-1, 4)


def _compressed(mask: Any, height: int, width: int) -> dict[str, Any] | None:
    """One compressed run-length mask of an image's size, None where that cannot be made."""
    if isinstance(mask, dict):
        counts, size = mask.get("counts"), mask.get("size")
        if not isinstance(size, list | tuple) or list(size) != [height, width]:
            return None
        if isinstance(counts, str | bytes):
            return {"size": [height, width], "counts": counts}
        return _from_runs(counts, height, width)
    return _from_polygons(mask, height, width)


def _from_runs(counts: Any, height: int, width: int) -> dict[str, Any] | None:
    if not isinstance(counts, list) or not all(type(c) is int and c >= 0 for c in counts):
        return None
    if sum(counts) != height * width:
        return None
    runs = {"size": [height, width], "counts": counts}
    return pycocotools.mask.frPyObjects(runs, height, width)


def _from_polygons(polygons: Any, height: int, width: int) -> dict[str, Any] | None:
    if not isinstance(polygons, list) or not polygons:
        return None
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return None
        if not set(map(type, polygon)) <= {int, float}:
            return None
        # A far corner would be drawn pixel by pixel; NaN is refused here, too.
        if not all(abs(c) <= _FARTHEST for c in polygon):
            return None
    parts = pycocotools.mask.frPyObjects(polygons, height, width)
    return pycocotools.mask.merge(parts)
