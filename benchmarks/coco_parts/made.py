"""Makes annotation files of COCO's size whose names point to a few hundred pictures."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detnet.data.folders import Split
from detnet.data.images import IMAGE_SUFFIXES
from detnet.data.scenes import draw_scene
from detnet.files import read_json, write_json

_CLASSES = 80
_CROWDS = 0.012  # of all objects; COCO has them as plain run lengths
_POINTS = 18  # of a polygon, the median; with it a file has COCO's 450 MB
_EMPTY = 0.01  # of the images have no object
_DRAWN = 200  # pictures, where none are given
# Width and height as COCO has them: most 640 × 480, a fifth upright, some square.
_SIZES = ((640, 480), (640, 427), (500, 375), (480, 640), (427, 640), (640, 640), (333, 500))


@dataclass(frozen=True)
class Size:
    """How much is made."""

    train_images: int = 118_000
    objects: int = 860_000
    val_images: int = 5_000


@dataclass(frozen=True)
class MadeData:
    """What was made.

    Args:
        train, val: splits that `load_annotations` reads.
        pictures: how many different ones their images are.
    """

    train: Split
    val: Split
    pictures: int


def make_data(work: Path, size: Size, images: Path | None) -> MadeData:
    """Makes both annotation files in a folder, or takes what is there of the same size.

    Args:
        work: gets annotations/, and images/ where no pictures are given.
        images: pictures to point to; drawn scenes by default.
    """
    folder = images or work / "images"
    if images is None:
        _draw(folder)
    found = _pictures(folder)
    splits = {}
    parts = (("train", size.train_images, size.objects),)
    share = size.val_images / size.train_images
    for seed, (name, count, objects) in enumerate(
        (*parts, ("val", size.val_images, round(size.objects * share)))
    ):
        path = work / "annotations" / f"instances_{name}.json"
        made, told = [count, objects, str(folder), len(found)], path.with_suffix(".made")
        if not told.is_file() or read_json(told) != made:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, _images(found, count, seed), objects, seed)
            write_json(told, made)
        splits[name] = Split(name, path, folder)
    return MadeData(splits["train"], splits["val"], len(found))


def _draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_DRAWN):
        path = folder / f"{number:012d}.jpg"
        if not path.is_file():
            generator = np.random.default_rng((17, number))
            pixels, _ = draw_scene(generator, _SIZES[number % len(_SIZES)])
            Image.fromarray(pixels).save(path, quality=90)


def _pictures(folder: Path) -> list[tuple[str, int, int]]:
    """Names, widths and heights."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            with Image.open(path) as image:
                width, height = image.size
                turned = image.getexif().get(0x0112, 1) > 4
            found.append((path.name, *((height, width) if turned else (width, height))))
    if not found:
        raise SystemExit(f"{folder}: holds no pictures")
    return found


def _images(found: list[tuple[str, int, int]], count: int, seed: int) -> list[dict[str, Any]]:
    ids = np.random.default_rng((1, seed)).choice(600_000, count, replace=False) + 1
    return [
        {
            "license": 1 + index % 8,
            "file_name": name,
            "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
            "height": height,
            "width": width,
            "date_captured": "2013-11-14 17:02:52",
            "flickr_url": f"http://farm{index % 10}.staticflickr.com/7423/{number}_5b1d9f_z.jpg",
            "id": number,
        }
        for index, number in enumerate(ids.tolist())
        for name, width, height in [found[(index * 7919) % len(found)]]
    ]


def _write(path: Path, images: list[dict[str, Any]], objects: int, seed: int) -> None:
    """Writes a file object by object: all of it would not fit into memory twice."""
    categories = [
        {"supercategory": f"group {k % 12}", "id": k + k // 9, "name": f"kind {k}"}
        for k in range(1, _CLASSES + 1)
    ]
    head = {"info": {"description": "made by DetNet"}, "licenses": []}
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + f', "images": {json.dumps(images)}, "annotations": [')
        ids = [category["id"] for category in categories]
        for number, record in enumerate(_objects(images, ids, objects, seed)):
            file.write((", " if number else "") + json.dumps(record))
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _objects(
    images: list[dict[str, Any]], categories: list[Any], count: int, seed: int
) -> Iterator[dict[str, Any]]:
    generator = np.random.default_rng((2, seed))
    with_objects = generator.permutation(len(images))[: max(1, round((1 - _EMPTY) * len(images)))]
    owners = generator.choice(with_objects, count).tolist()
    # Few classes have most objects, as people have in COCO.
    kinds = np.minimum(generator.geometric(0.06, count), _CLASSES) - 1
    sides = np.exp(generator.normal(np.log(0.14), 0.9, (count, 2))).clip(0.01, 0.95)
    places = generator.random((count, 2))
    points = np.exp(generator.normal(np.log(_POINTS), 0.55, count)).astype(int).clip(4, 200)
    crowds = generator.random(count) < _CROWDS
    for number in range(count):
        image = images[owners[number]]
        frame = np.array([image["width"], image["height"]], float)
        box = sides[number] * frame
        corner = places[number] * (frame - box)
        if crowds[number]:
            mask, area = _run_lengths(corner, box, int(frame[0]), int(frame[1]))
        else:
            mask, area = _outline(generator, corner, box, int(points[number]))
        yield {
            "segmentation": mask,
            "area": area,
            "iscrowd": int(crowds[number]),
            "image_id": image["id"],
            "bbox": [*corner.round(2).tolist(), *box.round(2).tolist()],
            "category_id": categories[int(kinds[number])],
            "id": 1_000_000 * seed + number + 1,
        }


def _outline(
    generator: np.random.Generator, corner: np.ndarray, box: np.ndarray, points: int
) -> tuple[list[list[float]], float]:
    """A star-shaped polygon in a box, and its area."""
    angles = np.arange(points) * (2 * np.pi / points)
    reach = generator.uniform(0.6, 1, points)
    around = np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
    outline = (corner + box * (0.5 + 0.5 * around)).round(2)
    x, y = outline.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return [outline.reshape(-1).tolist()], round(area, 4)


def _run_lengths(
    corner: np.ndarray, box: np.ndarray, width: int, height: int
) -> tuple[dict[str, Any], int]:
    """A filled box as plain run lengths, column by column, and its area."""
    left, top = (int(side) for side in corner)
    across, down = (max(1, int(side)) for side in box)
    gap = height - down
    counts = [left * height + top, *([down, gap] * across)]
    counts[-1] += width * height - sum(counts)
    return {"size": [height, width], "counts": counts}, across * down
