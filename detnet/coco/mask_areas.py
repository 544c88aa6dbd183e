"""How many pixels the segmentation of each annotation covers, and which ones cannot be read."""

from itertools import chain
from typing import Any

import numpy as np

from detnet.coco.columns import Floats, all_numbers, is_number

MAX_SIDE = 1_000_000  # pixels; whatever claims more is no image, and would fill the memory


def polygon_areas(segmentations: list[Any]) -> Floats:
    """Sums the areas of each annotation's polygons as geometry has them, all in one go.

    This is what COCO's own `area` holds; counting pixels gives slightly other numbers.

    Args:
        segmentations: a list of flat polygons (x1, y1, x2, y2, ...) per annotation, or anything.

    Returns:
        one area per annotation, square pixels; NaN where it is not a list of good polygons.
    """
    good = [index for index, value in enumerate(segmentations) if _looks_like_polygons(value)]
    areas = np.full(len(segmentations), np.nan)
    polygons = [polygon for index in good for polygon in segmentations[index]]
    coordinates = all_numbers(list(chain.from_iterable(polygons)))
    if coordinates is None or not (np.abs(coordinates) <= MAX_SIDE).all():
        # One bad number would spoil the common case for all: leave its annotation out, once more.
        clean = [
            value if _looks_like_polygons(value) and _all_usable(value) else None
            for value in segmentations
        ]
        return polygon_areas(clean)
    if not good:
        return areas
    x, y = coordinates[0::2], coordinates[1::2]
    points = np.array([len(polygon) // 2 for polygon in polygons])
    starts = np.concatenate([[0], np.cumsum(points)[:-1]])
    following = np.arange(1, len(x) + 1)
    following[starts + points - 1] = starts
    cross = x * y[following] - x[following] * y
    per_polygon = np.abs(np.add.reduceat(cross, starts)) / 2
    owners = np.repeat(good, [len(segmentations[index]) for index in good])
    areas[good] = 0
    np.add.at(areas, owners, per_polygon)
    return areas


def pixel_area(segmentation: Any, height: int, width: int) -> float:
    """Counts the pixels of one segmentation: polygons, compressed or uncompressed RLE.

    Raises:
        ValueError: it cannot be read; the message says why.
    """
    if isinstance(segmentation, list):
        from hotcoco import mask

        return float(mask.area(mask.merge(mask.frPyObjects(segmentation, height, width))))
    runs = run_lengths(segmentation.get("counts"))
    if sum(runs) != height * width:
        raise ValueError(f"RLE covers {sum(runs)} pixels, the image has {height * width}")
    return float(sum(runs[1::2]))


def segmentation_area(segmentation: Any) -> float:
    """One segmentation's area, of polygons as geometry has it; NaN where it cannot be read."""
    if isinstance(segmentation, list):
        return float(polygon_areas([segmentation])[0])
    try:
        return pixel_area(segmentation, *segmentation["size"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return float("nan")


def run_lengths(counts: Any) -> list[int]:
    """Reads the counts of an RLE, compressed into a text or plain: runs of 0, of 1, of 0, …

    A compressed number is written five bits to a character, the lowest first, each plus 48; 32
    says that more follow and 16 in the last that it is negative. From the fourth run on the
    difference to the run two before is written.

    Raises:
        ValueError: there are none, or they are no run lengths.
    """
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("RLE counts must be whole numbers from 0")
        return counts
    if not isinstance(counts, str):
        raise ValueError("RLE has no counts")
    runs: list[int] = []
    number = bits = 0
    for character in counts:
        value = ord(character) - 48
        if not 0 <= value < 64 or bits > 60:
            raise ValueError(f"RLE counts hold {character!r} where no run length has it")
        number |= (value & 31) << bits
        bits += 5
        if value & 32:
            continue
        number -= (value & 16) << (bits - 4)
        number += runs[-2] if len(runs) > 2 else 0
        if number < 0:
            raise ValueError("RLE counts hold a negative run length")
        runs.append(number)
        number = bits = 0
    if bits:
        raise ValueError("RLE counts are cut off")
    return runs


def unreadable(segmentation: Any, height: int, width: int) -> str:
    """Says why a segmentation cannot be used, "" where it can.

    Args:
        height: of the annotation's image in pixels, 0 where it is not known.
        width: of the same image.
    """
    if isinstance(segmentation, list):
        return _unreadable_polygons(segmentation)
    if not isinstance(segmentation, dict):
        return "is neither a list of polygons nor an RLE object"
    size = segmentation.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
        return "RLE has no size [height, width]"
    if min(size) <= 0 or max(size) > MAX_SIDE:
        return f"RLE size {size} is not from 1 to {MAX_SIDE:,} pixels"
    if height and width and size != [height, width]:
        return f"RLE size (height, width) is {size}, its image's {[height, width]}"
    try:
        pixel_area(segmentation, *size)
    except (ValueError, TypeError, OverflowError) as error:
        return str(error)
    return ""


def _unreadable_polygons(polygons: list[Any]) -> str:
    for polygon in polygons:
        if not isinstance(polygon, list):
            return "polygons must be lists of numbers inside a list"
        if len(polygon) < 6 or len(polygon) % 2:
            return f"a polygon has {len(polygon)} numbers; it takes pairs, and 6 at least"
        if not all(map(is_number, polygon)):
            return "a polygon holds a value that is no finite number"
        if max(map(abs, polygon)) > MAX_SIDE:
            return f"a polygon reaches beyond {MAX_SIDE:,} pixels"
    return ""


def _looks_like_polygons(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in value)
    )


def _all_usable(polygons: list[list[Any]]) -> bool:
    return all(is_number(x) and abs(x) <= MAX_SIDE for polygon in polygons for x in polygon)
