"""Masks in COCO's three forms, brought to one: compressed run lengths, checked and measured.

Evaluators and decoders trust what they are given: damaged run lengths crash them or never return,
so masks are checked here, many at once, before anything else sees them.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask

from detnet.coco.records import Floats, all_numbers, is_number

MAX_SIDE = 1_000_000  # pixels; whatever claims more is no image, and would fill the memory
_CHARACTERS_AT_ONCE = 1_000_000
_MOST_CHARACTERS_PER_RUN = 7  # 5 bits each: more than any image has pixels


# A mask as evaluators take it: {"size": [height, width], "counts": compressed}.
RunLengths = dict[str, Any]


def encode_masks(segmentations: Sequence[Any], sizes: np.ndarray) -> list[bytes | None]:
    """Turns COCO segmentations into compressed run lengths of their whole images.

    Args:
        segmentations: lists of polygons, or run lengths, compressed or not.
        sizes: (N, 2) height and width of each image, pixels.

    Returns:
        COCO's compressed counts, column by column from the top left; None for what cannot be
        used, see `mask_flaw`.
    """
    masks: list[bytes | None] = []
    compressed: list[int] = []
    for segmentation, (height, width) in zip(segmentations, sizes.tolist(), strict=True):
        masks.append(None)
        if isinstance(segmentation, list):
            if segmentation and not any(map(_polygon_flaw, segmentation)):
                parts = coco_mask.fr_py_objects(segmentation, height, width)
                masks[-1] = coco_mask.merge(parts)["counts"]
        elif isinstance(segmentation, dict) and _size_of(segmentation) == [height, width]:
            counts = segmentation.get("counts")
            if isinstance(counts, str | bytes):
                compressed.append(len(masks) - 1)
                masks[-1] = _bytes(counts)
            elif _plain_area(counts, height * width) >= 0:
                runs = {"size": [height, width], "counts": counts}
                masks[-1] = coco_mask.fr_py_objects(runs, height, width)["counts"]
    areas = rle_areas([masks[at] or b"" for at in compressed], sizes[compressed].prod(axis=1))
    for at in np.array(compressed, np.int64)[areas < 0].tolist():
        masks[at] = None
    return masks


def encode_box(box: np.ndarray, height: int, width: int) -> bytes:
    """Fills a box as a mask, the stand-in where an object has none.

    Args:
        box: x1, y1, x2, y2, pixels.
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
    return coco_mask.fr_py_objects([polygon], height, width)[0]["counts"]


def encode_pixels(pixels: np.ndarray) -> RunLengths:
    """Turns a boolean (H, W) array into a COCO segmentation with compressed counts, as text."""
    encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    height, width = pixels.shape
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def decode_masks(counts: list[bytes], height: int, width: int) -> np.ndarray:
    """Paints masks out.

    Returns:
        (N, height, width) uint8 of 0 and 1, contiguous.
    """
    if not counts:
        return np.zeros((0, height, width), dtype=np.uint8)
    encoded = [{"size": [height, width], "counts": item} for item in counts]
    return np.ascontiguousarray(coco_mask.decode(encoded).transpose(2, 0, 1))


def mask_boxes(masks: Sequence[RunLengths]) -> np.ndarray:
    """(N, 4) xywh, the smallest boxes around compressed masks."""
    return np.asarray(coco_mask.to_bbox(list(masks)), np.float64).reshape(-1, 4)


def mask_areas(masks: Sequence[RunLengths]) -> np.ndarray:
    """(N,) float64, pixels inside compressed masks that are known to be sound; see `rle_areas`."""
    return np.asarray(coco_mask.area(list(masks)), np.float64).reshape(-1)


def segmentation_areas(segmentations: Sequence[Any]) -> Floats:
    """Says how much each segmentation covers: polygons as geometry has it, run lengths in pixels.

    Returns:
        (N,) square pixels; NaN for what cannot be read, whatever size its image has.
    """
    areas = polygon_areas(segmentations)
    compressed: list[int] = []
    for at, segmentation in enumerate(segmentations):
        size = _size_of(segmentation) if isinstance(segmentation, dict) else None
        if size is None:
            continue
        counts = segmentation.get("counts")
        if isinstance(counts, str | bytes):
            compressed.append(at)
        else:
            areas[at] = _plain_area(counts, size[0] * size[1])
    texts = [segmentations[at]["counts"] for at in compressed]
    pixels = np.array([np.prod(segmentations[at]["size"]) for at in compressed], np.int64)
    areas[compressed] = rle_areas(texts, pixels)
    return np.where(areas < 0, np.nan, areas)


def polygon_areas(segmentations: Sequence[Any]) -> Floats:
    """Sums the areas of each annotation's polygons as geometry has them, all in one go.

    This is what COCO's own `area` holds; counting pixels gives slightly other numbers.

    Args:
        segmentations: a list of flat polygons (x1, y1, x2, y2, ...) per annotation, or anything.

    Returns:
        one area per annotation, square pixels; NaN where it is not a list of good polygons.
    """
    good = [at for at, value in enumerate(segmentations) if _looks_like_polygons(value)]
    areas = np.full(len(segmentations), np.nan)
    polygons = [polygon for at in good for polygon in segmentations[at]]
    coordinates = all_numbers(list(chain.from_iterable(polygons)))
    if coordinates is None or not (np.abs(coordinates) <= MAX_SIDE).all():
        # One bad number would spoil the common case for all: leave its annotation out, once more.
        sound = [isinstance(v, list) and not any(map(_polygon_flaw, v)) for v in segmentations]
        return polygon_areas(
            [value if good else None for value, good in zip(segmentations, sound, strict=True)]
        )
    if not good:
        return areas
    x, y = coordinates[0::2], coordinates[1::2]
    points = np.array([len(polygon) // 2 for polygon in polygons])
    starts = np.concatenate([[0], np.cumsum(points)[:-1]])
    following = np.arange(1, len(x) + 1)
    following[starts + points - 1] = starts
    cross = x * y[following] - x[following] * y
    per_polygon = np.abs(np.add.reduceat(cross, starts)) / 2
    owners = np.repeat(good, [len(segmentations[at]) for at in good])
    areas[good] = 0
    np.add.at(areas, owners, per_polygon)
    return areas


def painted_area(polygons: list[list[float]], height: int, width: int) -> float:
    """Counts the pixels that sound polygons cover of an image together."""
    return float(coco_mask.area(coco_mask.merge(coco_mask.fr_py_objects(polygons, height, width))))


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
            inside, covered = _decode_runs(counts[start:end])
            areas[start:end] = np.where(covered == pixels[start:end], inside, -1)
            start, size = end, 0
    return areas


def mask_flaw(segmentation: Any, height: int, width: int) -> str:
    """Says why a segmentation cannot be used, "" where it can.

    Args:
        height: of the annotation's image in pixels, 0 where it is not known.
        width: of the same image.
    """
    if isinstance(segmentation, list):
        flaws = filter(None, map(_polygon_flaw, segmentation))
        return next(flaws, "" if segmentation else "has no polygons")
    if not isinstance(segmentation, dict):
        return "is neither a list of polygons nor an RLE object"
    size = segmentation.get("size")
    if _size_of(segmentation) is None or not isinstance(size, list | tuple):
        return _size_flaw(size)
    if height and width and [*size] != [height, width]:
        return f"RLE size (height, width) is {[*size]}, its image's {[height, width]}"
    counts, pixels = segmentation.get("counts"), size[0] * size[1]
    if isinstance(counts, str | bytes):
        covered = int(_decode_runs([counts])[1][0])
        if covered < 0:
            return "RLE counts are damaged or cut off"
    elif not isinstance(counts, list):
        return "RLE has no counts"
    elif not all(type(count) is int and count >= 0 for count in counts):
        return "RLE counts must be whole numbers from 0"
    else:
        covered = sum(counts)
    return "" if covered == pixels else f"RLE covers {covered} pixels, the image has {pixels}"


def _polygon_flaw(polygon: Any) -> str:
    """Why a polygon cannot be used; "" where it can."""
    if not isinstance(polygon, list):
        return "polygons must be lists of numbers inside a list"
    if len(polygon) < 6 or len(polygon) % 2:
        return f"a polygon has {len(polygon)} numbers; it takes pairs, and 6 at least"
    # NaN is refused here, too.
    if set(map(type, polygon)) <= {int, float} and all(abs(c) <= MAX_SIDE for c in polygon):
        return ""
    if not all(map(is_number, polygon)):
        return "a polygon holds a value that is no finite number"
    return f"a polygon reaches beyond {MAX_SIDE:,} pixels"


def _looks_like_polygons(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in value)
    )


def _size_flaw(size: Any) -> str:
    if isinstance(size, list | tuple) and len(size) == 2 and {*map(type, size)} == {int}:
        return f"RLE size {[*size]} is not from 1 to {MAX_SIDE:,} pixels"
    return "RLE has no size [height, width]"


def _size_of(segmentation: dict[str, Any]) -> list[int] | None:
    """Height and width that run lengths are of; None where they do not tell."""
    size = segmentation.get("size")
    if not isinstance(size, list | tuple) or len(size) != 2:
        return None
    sound = all(type(side) is int and 0 < side <= MAX_SIDE for side in size)
    return [*size] if sound else None


def _plain_area(counts: Any, pixels: int) -> int:
    """Pixels inside plain run lengths; -1 where they are none of that many pixels."""
    if not isinstance(counts, list) or not all(type(c) is int and c >= 0 for c in counts):
        return -1
    return sum(counts[1::2]) if sum(counts) == pixels else -1


def _bytes(text: str | bytes) -> bytes:
    # Beyond ASCII no byte is one of a run length.
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _decode_runs(counts: Sequence[str | bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels inside compressed masks, and in all; in all -1 where a text is no run lengths."""
    texts = [_bytes(text) for text in counts]
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
    runs = _runs(codes, run_start, run_length, run_owner)

    bad[run_owner[runs < 0]] = True
    total = np.bincount(run_owner, weights=runs, minlength=len(texts))
    odd = _position(run_owner) % 2
    inside = np.bincount(run_owner, weights=runs * odd, minlength=len(texts))
    return inside.astype(np.int64), np.where(bad, -1, total).astype(np.int64)


def _runs(
    codes: np.ndarray, start: np.ndarray, length: np.ndarray, owner: np.ndarray
) -> np.ndarray:
    """Lengths of all runs: 5 bits a character, low first, from the fourth run on as differences.

    A character is the five bits plus 48; 32 says that more follow, and 16 in the last that the
    number is negative.
    """
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
