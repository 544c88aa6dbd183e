"""A format of one's own, as a third party writes it: SPLIT.csv with a row for each object.

detnet train retinanet-tiny --data DATA --plugin tests.plugins.my_format
"""

import csv
from pathlib import Path
from typing import Any

from PIL import Image

from detnet.data.folders import DatasetFormat, Split
from detnet.data.formats import FORMATS

CLASSES = ("disk", "square", "triangle")


class CsvFolder(DatasetFormat):
    layout = "SPLIT.csv with pictures/ (CSV)"

    def find(self, data: Path, name: str, images: Path | None = None) -> Split | None:
        path = data / f"{name}.csv"
        return Split(name, path, images or data / "pictures") if path.is_file() else None

    def read(self, split: Split) -> dict[str, Any]:
        images: dict[str, dict[str, Any]] = {}
        objects: list[dict[str, Any]] = []
        lines = split.annotations.read_text().splitlines()
        for name, label, *box in csv.reader(lines):
            with Image.open(split.images / name) as picture:
                width, height = picture.size
            record = {"id": len(images) + 1, "file_name": name, "width": width, "height": height}
            image = images.setdefault(name, record)["id"]
            kind = CLASSES.index(label) + 1
            one = {"id": len(objects) + 1, "image_id": image, "category_id": kind}
            x, y, across, down = map(float, box)
            objects.append({**one, "bbox": [x, y, across, down], "area": across * down})
        classes = [{"id": at, "name": name} for at, name in enumerate(CLASSES, 1)]
        return {"images": list(images.values()), "annotations": objects, "categories": classes}


FORMATS.register("csv", CsvFolder)
