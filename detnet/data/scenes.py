"""Made-up scenes to try everything on without a download: shapes on textures, boxes and masks.

Ringed disks, chequered squares and striped triangles of every size overlap each other on textured
grounds, among crosses, strokes and arcs painted in the same colours, which are no objects: colour
alone tells nothing. Outline and marking both tell the classes apart, so that a narrow network
learns them in minutes; where the marking is hidden or too small, the outline has to do.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from detnet.coco.masks import encode_pixels
from detnet.files import write_text

NAMES = ("disk", "square", "triangle")
# Areas in COCO's sense: small below 32², large from 96². The gaps leave room for what is hidden.
_AREAS = ((20**2, 31**2), (36**2, 84**2), (120**2, 146**2))
_DISTRACTORS = ("cross", "stroke", "arc")
_LEAST_VISIBLE = 0.75  # of every object; less of one could not be told from a distractor
_MOST_TURNED = 0.35  # radians, of an object out of its upright
_TRIES = 12  # places tried for a shape before it is left out
_SMOOTH = 3  # shapes are drawn this many times too large, for soft edges
# As seen in the picture, y down; shapes are turned by far less than to another corner's place.
_CORNERS = {
    "square": ("right_foot", "left_foot", "left_top", "right_top"),
    "triangle": ("top", "right_foot", "left_foot"),
}
_LINES = {
    "square": [[1, 2], [2, 3], [3, 4], [4, 1]],
    "triangle": [[1, 2], [2, 3], [3, 1]],
}
_INWARD = 0.12  # of the radius, how far from its corner a shape is looked for


def write_scenes(
    folder: Path,
    *,
    train: int,
    val: int,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    keypoints: bool = False,
) -> None:
    """Writes a data set in COCO layout: train/, val/ and annotations/instances_{train,val}.json.

    A scene depends on the seed, its split and its number alone, so more scenes leave the first
    ones as they were. About a third of all objects is small, medium and large each; one scene in
    twenty is empty but for distractors.

    Args:
        folder: made where it is not there; scenes in it are overwritten.
        train: how many scenes to learn from.
        val: how many to be tested on, made from another seed.
        size: width and height in pixels; much below 320 by 240 leaves no room for large objects.
        keypoints: write the corners of squares and triangles, too, named by their place in the
            picture: "left_top", "right_foot" …; disks have none. The scenes stay the same.
    """
    folder, named = Path(folder), _CORNERS if keypoints else {}
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate((("train", train), ("val", val))):
        (folder / split).mkdir(exist_ok=True)
        images: list[dict[str, Any]] = []
        records: list[dict[str, Any]] = []
        for index in range(count):
            generator = np.random.default_rng(np.random.SeedSequence((seed, number, index)))
            pixels, objects = draw_scene(generator, size)
            name = f"{split}_{index:05d}.jpg"
            Image.fromarray(pixels).save(folder / split / name, quality=90)
            images.append({"id": index + 1, "file_name": name, "width": size[0], "height": size[1]})
            for item in objects:
                record = _record(len(records) + 1, index + 1, item.label, item.mask)
                records.append(record | (_keypoints(item) if keypoints else {}))
        content = {
            "info": {"description": f"scenes made by DetNet, seed {seed}"},
            "images": images,
            "annotations": records,
            "categories": [
                {"id": i, "name": name}
                | ({"keypoints": _CORNERS[name], "skeleton": _LINES[name]} if name in named else {})
                for i, name in enumerate(NAMES, start=1)
            ],
        }
        path = folder / "annotations" / f"instances_{split}.json"
        write_text(path, json.dumps(content))


def draw_scene(
    generator: np.random.Generator, size: tuple[int, int] = (320, 240)
) -> tuple[np.ndarray, list["_Object"]]:
    """Paints one scene.

    Args:
        size: width and height, pixels.

    Returns:
        (H, W, 3) uint8, and of each object its label, 1 for a disk, and its visible part `mask` as
        a boolean (H, W) array.
    """
    width, height = size
    canvas = _background(generator, width, height)
    objects: list[_Object] = []
    for planned in _plan(generator):
        for _ in range(_TRIES):
            shape = _placed(generator, planned, width, height)
            alpha = _cover(shape, width, height)
            solid = alpha >= 0.5
            if solid.any() and all(item.bears(solid) for item in objects):
                break
        else:
            continue
        for item in objects:
            item.mask &= ~solid
        _paint(canvas, alpha, shape, generator)
        if shape.kind in NAMES:
            objects.append(_Object(shape, solid, int(solid.sum())))
    canvas += 5 * generator.standard_normal(canvas.shape, dtype=np.float32)
    return canvas.clip(0, 255).astype(np.uint8), objects


@dataclass
class _Object:
    shape: "_Shape"
    mask: np.ndarray
    area: int  # before anything was laid over it

    @property
    def label(self) -> int:
        return NAMES.index(self.shape.kind) + 1

    def bears(self, cover: np.ndarray) -> bool:
        """Whether enough of it can still be seen under one more shape."""
        return int((self.mask & ~cover).sum()) >= _LEAST_VISIBLE * self.area


@dataclass(frozen=True)
class _Shape:
    kind: str
    radius: float
    color: np.ndarray
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0


def _plan(generator: np.random.Generator) -> list[_Shape]:
    """Chooses what is painted, mostly from large to small, so that little is quite hidden."""
    rounds = 0 if generator.random() < 0.05 else (1, 1, 2, 2)[generator.integers(4)]
    colors = _palette(generator)
    sized = []
    for low, high in _AREAS * rounds:
        kind = NAMES[generator.integers(len(NAMES))]
        sized.append((kind, _radius(kind, _between(generator, low, high))))
    for _ in range(int(generator.integers(2, 5))):
        kind = _DISTRACTORS[generator.integers(len(_DISTRACTORS))]
        sized.append((kind, _between(generator, 8, 50)))
    shapes = []
    for kind, radius in sized:
        color = colors[generator.integers(len(colors))] + generator.normal(0, 12, 3)
        shapes.append(_Shape(kind, radius, color))
    order = [shape.radius * math.exp(generator.normal(0, 0.3)) for shape in shapes]
    return [shapes[index] for index in np.argsort(order)[::-1]]


def _between(generator: np.random.Generator, low: float, high: float) -> float:
    """A number of which each doubling is equally likely."""
    return math.exp(generator.uniform(math.log(low), math.log(high)))


def _placed(generator: np.random.Generator, shape: _Shape, width: int, height: int) -> _Shape:
    """Puts a shape where at most a little of it leaves the picture, turned a little at random."""
    margin = min(0.95 * shape.radius, 0.45 * min(width, height))
    turn = _MOST_TURNED if shape.kind in NAMES else math.pi
    upright = {"square": math.pi / 4, "triangle": -math.pi / 2}.get(shape.kind, 0.0)
    return replace(
        shape,
        x=generator.uniform(margin, width - margin),
        y=generator.uniform(margin, height - margin),
        angle=upright + generator.uniform(-turn, turn),
    )


def _radius(kind: str, area: float) -> float:
    """The radius of the circle around a shape of that area."""
    share = {"disk": math.pi, "square": 2.0, "triangle": 3 * math.sqrt(3) / 4}[kind]
    return math.sqrt(area / share)


def _palette(generator: np.random.Generator) -> np.ndarray:
    """(5, 3) colours of one scene, for objects and distractors alike."""
    colors = generator.uniform(0, 255, (5, 3))
    colors[np.arange(5), generator.integers(0, 3, 5)] = generator.uniform(200, 255, 5)
    colors[np.arange(5), generator.integers(0, 3, 5)] = generator.uniform(0, 60, 5)
    return colors


def _outline(shape: _Shape) -> list[tuple[float, float]]:
    """Corners of a polygon around the origin, for radius 1."""
    if shape.kind == "square":
        angles = [shape.angle + math.pi / 2 * k for k in range(4)]
    elif shape.kind == "triangle":
        angles = [shape.angle + 2 * math.pi / 3 * k for k in range(3)]
    else:
        thin = 0.22 if shape.kind == "stroke" else 0.3
        bar = [(1.0, thin), (-1.0, thin), (-1.0, -thin), (1.0, -thin)]
        if shape.kind == "cross":
            bar = [(thin, thin), (thin, 1), (-thin, 1), (-thin, thin), (-1, thin), (-1, -thin)]
            bar += [(-x, -y) for x, y in bar]
        cos, sin = math.cos(shape.angle), math.sin(shape.angle)
        return [(x * cos - y * sin, x * sin + y * cos) for x, y in bar]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def _cover(shape: _Shape, width: int, height: int) -> np.ndarray:
    """How much of each pixel the shape covers, (height, width) float32 in 0 … 1."""
    left, top = (max(0, math.floor(c - shape.radius)) for c in (shape.x, shape.y))
    right = min(width, math.ceil(shape.x + shape.radius) + 1)
    bottom = min(height, math.ceil(shape.y + shape.radius) + 1)
    fine = Image.new("L", ((right - left) * _SMOOTH, (bottom - top) * _SMOOTH))
    draw = ImageDraw.Draw(fine)
    x, y = (shape.x - left) * _SMOOTH, (shape.y - top) * _SMOOTH
    radius = shape.radius * _SMOOTH
    circle = (x - radius, y - radius, x + radius, y + radius)
    if shape.kind == "disk":
        draw.ellipse(circle, fill=255)
    elif shape.kind == "arc":
        start = math.degrees(shape.angle)
        draw.arc(circle, start, start + 230, fill=255, width=max(1, round(0.3 * radius)))
    else:
        draw.polygon([(x + radius * u, y + radius * v) for u, v in _outline(shape)], fill=255)
    alpha = np.zeros((height, width), dtype=np.float32)
    alpha[top:bottom, left:right] = np.asarray(fine.reduce(_SMOOTH), dtype=np.float32) / 255
    return alpha


def _paint(
    canvas: np.ndarray, alpha: np.ndarray, shape: _Shape, generator: np.random.Generator
) -> None:
    """Lays the shape over the canvas, lighter on one side and, if it is an object, marked."""
    height, width = alpha.shape
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part = alpha[window][:, :, None]
    light = _smooth_noise(generator, part.shape[1], part.shape[0], cells=3, gray=True)
    light = 20 * light + 60 * _marking(shape, rows[0], columns[0], light.shape)
    surface = shape.color.astype(np.float32) + light[:, :, None]
    canvas[window] += part * (surface - canvas[window])


def _marking(shape: _Shape, top: int, left: int, size: tuple[int, ...]) -> np.ndarray | float:
    """The marking of an object's class, (height, width) in -1 … 1; distractors have none."""
    if shape.kind not in NAMES:
        return 0.0
    x = (np.arange(left, left + size[1], dtype=np.float32) - shape.x) / shape.radius
    y = (np.arange(top, top + size[0], dtype=np.float32)[:, None] - shape.y) / shape.radius
    if shape.kind == "disk":
        return np.cos(2.5 * math.pi * np.hypot(x, y))
    along = x * math.cos(shape.angle) + y * math.sin(shape.angle)
    if shape.kind == "triangle":
        return np.sin(4 * math.pi * along)
    across = y * math.cos(shape.angle) - x * math.sin(shape.angle)
    chequers: np.ndarray = np.sign(along - across) * np.sign(along + across)
    return chequers


def _background(generator: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A ground of coarse and fine blotches with stripes, (height, width, 3) float32 in 0 … 255."""
    canvas = generator.uniform(60, 190, 3).astype(np.float32)
    canvas = canvas + 25 * _smooth_noise(generator, width, height, cells=4)
    canvas += 10 * _smooth_noise(generator, width, height, cells=40)
    angle, period = generator.uniform(0, math.pi), generator.uniform(6, 40)
    turn = 2 * math.pi / period
    x = np.exp(1j * turn * math.cos(angle) * np.arange(width))
    y = np.exp(1j * turn * math.sin(angle) * np.arange(height))
    wave = np.outer(y, x).imag.astype(np.float32)  # the sine of a sum, without a sine per pixel
    ground: np.ndarray = canvas
    ground += wave[:, :, None] * generator.uniform(0, 12, 3).astype(np.float32)
    return ground


def _smooth_noise(
    generator: np.random.Generator, width: int, height: int, *, cells: int, gray: bool = False
) -> np.ndarray:
    """Random values on a coarse grid, blown up softly.

    Returns:
        (height, width, 3), or (height, width) if gray, float32 around 0, about ±1.
    """
    rows = max(2, round(cells * height / max(width, 1)))
    shape = (rows, cells) if gray else (rows, cells, 3)
    coarse = generator.integers(0, 256, shape, dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise: np.ndarray = np.asarray(smooth, dtype=np.float32) / 127.5 - 1
    return noise


def _record(number: int, image_id: int, label: int, mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "image_id": image_id,
        "category_id": label,
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": encode_pixels(mask),
    }


def _keypoints(item: _Object) -> dict[str, Any]:
    """The corners of an object in COCO's form, from the angle of turn on; nothing of a disk."""
    shape = item.shape
    if shape.kind not in _CORNERS:
        return {}
    corners = [(shape.x + shape.radius * u, shape.y + shape.radius * v) for u, v in _outline(shape)]
    height, width = item.mask.shape
    middle = np.mean(corners, axis=0)
    points: list[float] = []
    for x, y in corners:
        inward = np.array([x, y]) + _INWARD * (middle - (x, y)) * shape.radius / math.dist(
            middle, (x, y)
        )
        column, row = (math.floor(side) for side in inward)
        if not (0 <= x < width and 0 <= y < height):
            points += [0, 0, 0]
            continue
        seen = 0 <= row < height and 0 <= column < width and bool(item.mask[row, column])
        # COCO's keypoints are indices of pixels, whose centres lie half a pixel on.
        points += [round(x - 0.5, 2), round(y - 0.5, 2), 2 if seen else 1]
    return {"keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3])}
