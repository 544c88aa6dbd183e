"""Made-up COCO ground truth and results as files hold them, with all that can be odd in them."""

from dataclasses import dataclass, field
from typing import Any

import hotcoco
import numpy as np
import pycocotools.mask

_TILE = 16  # pictures are 12 by 16 tiles of this many pixels where sizes are to be mixed


@dataclass
class Case:
    """What `score` takes: ground truth, results and keyword arguments."""

    truth: dict[str, Any]
    results: list[dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)


def random_case(seed: int, *, masks: bool = False) -> Case:
    """Ties of scores and of IoU, crowds, areas unlike boxes, empty images, classes, everything.

    One case in eleven has no annotations, one in seven no results, three in four an own grid, one
    in twenty more than 100 results for one class in one image.
    """
    return _Builder(np.random.default_rng([seed, masks]), seed, masks).build()


class _Builder:
    def __init__(self, random: np.random.Generator, seed: int, masks: bool) -> None:
        self.random, self.seed, self.masks = random, seed, masks
        self.scale = _TILE if seed % 3 else _TILE // 4  # all small, or some of each size
        self.height, self.width = 12 * self.scale, 16 * self.scale
        self.images = random.choice(10**12, int(random.integers(1, 6)), replace=False).tolist()
        self.kinds = random.choice(90, int(random.integers(1, 4)), replace=False).tolist()

    def build(self) -> Case:
        size = {"height": self.height, "width": self.width}
        annotations = self._annotations()
        return Case(
            {
                "images": [{"id": image, **size} for image in self.images],
                "annotations": annotations,
                "categories": [{"id": kind, "name": f"class {kind}"} for kind in self.kinds],
            },
            self._results(annotations),
            {"iou_type": "segm" if self.masks else "bbox", **self._grid()},
        )

    def _annotations(self) -> list[dict[str, Any]]:
        made = []
        for box in self._boxes(int(self.random.integers(0, 20)) * (self.seed % 11 > 0)):
            record = self._record(box)
            record |= {"id": len(made), "iscrowd": int(self.random.random() < 0.15)}
            # The edges of COCO's sizes belong to both neighbours.
            areas = [0.5 * box[2] * box[3], box[2] * box[3], 32.0**2, 96.0**2]
            if self.random.random() < 0.9:
                record["area"] = float(self.random.choice(areas, p=[0.2, 0.6, 0.1, 0.1]))
            made.append(record)
        return made

    def _results(self, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        many = self.seed % 20 == 7 and not self.masks
        count = 130 if many else int(self.random.integers(0, 30)) * (self.seed % 7 > 0)
        levels = int(self.random.choice([1, 5, 1000]))  # of scores: all alike, many ties, few
        made = []
        for box in self._boxes(count):
            near = None
            if annotations and self.random.random() < 0.7:
                near = annotations[int(self.random.integers(len(annotations)))]
                shift = self.random.normal(0, self.scale / 8, 4) * (self.random.random() < 0.7)
                box = np.maximum(np.asarray(near["bbox"]) + np.round(shift, 1), 0)
            record = self._record(box)
            if near is not None:
                record |= {key: near[key] for key in ("image_id", "category_id")}
            if many and self.random.random() < 0.9:
                record |= {"image_id": self.images[0], "category_id": self.kinds[0]}
            record["score"] = int(self.random.integers(levels)) / levels
            made.append(record)
        if self.masks and self.seed % 2:
            for record in made:
                del record["bbox"]
        return made

    def _grid(self) -> dict[str, Any]:
        if self.seed % 4 == 1:
            return {"iou_thresholds": (0.1, 0.72, 1.0)}
        if self.seed % 4 == 2:
            return {"areas": {"odd": (200.5, 1024)}}
        return {"max_dets": (3, 120)} if self.seed % 4 == 3 else {}

    def _boxes(self, count: int) -> np.ndarray:
        """(count, 4) xywh on a coarse grid, so that IoUs tie; some without width or height."""
        corners = self.random.integers(0, 8, (count, 2)) * self.scale / 2
        sides = self.random.integers(0 if self.seed % 5 == 0 else 1, 8, (count, 2)) * self.scale / 2
        return np.concatenate([corners, np.maximum(sides, 1) if self.masks else sides], 1)

    def _record(self, box: np.ndarray) -> dict[str, Any]:
        record = {
            "image_id": self.images[int(self.random.integers(len(self.images)))],
            "category_id": self.kinds[int(self.random.integers(len(self.kinds)))],
            "bbox": np.round(box, 1).tolist(),
        }
        if self.masks:
            form = int(self.random.integers(3))
            record["segmentation"] = ellipse(record["bbox"], self.height, self.width, form)
        return record


def ellipse(box: list[float], height: int, width: int, form: int) -> Any:
    """The box as an ellipse in one of the forms COCO writes masks in: 0 polygon, 1, 2 runs."""
    x, y, w, h = box
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    corners = np.stack([x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles))], 1)
    polygon = [corners.ravel().tolist()]
    if form == 0:
        return polygon
    rle = pycocotools.mask.merge(pycocotools.mask.frPyObjects(polygon, height, width))
    if form == 1:
        return {"size": rle["size"], "counts": rle["counts"].decode()}
    flat = hotcoco.mask.decode(rle).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": rle["size"], "counts": runs}
