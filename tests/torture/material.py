"""Small sound data sets that are then mutated: COCO with all kinds of records, VOC, YOLO."""

import json
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pycocotools.mask
from PIL import Image

NAMES = ("cat", "dog", "left hand")
SIZES = ((64, 48), (48, 64), (80, 40), (33, 57))  # width, height


def write_images(folder: Path, *, suffix: str = ".png") -> list[str]:
    """One picture of noise for each of `SIZES`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, (width, height) in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        names.append(f"{number:06d}{suffix}")
        Image.fromarray(pixels).save(folder / names[-1])
    return names


def coco_content(names: list[str]) -> dict[str, Any]:
    """Boxes with polygons, both kinds of run lengths, keypoints, crowds, and without anything."""
    images = [
        {"id": 10 + i, "file_name": name, "width": w, "height": h}
        for i, (name, (w, h)) in enumerate(zip(names, SIZES, strict=True))
    ]
    keypoints = {"keypoints": ["left_eye", "right_eye", "nose"], "skeleton": [[1, 3], [2, 3]]}
    categories = [{"id": 2 * i + 1, "name": name} for i, name in enumerate(NAMES)]
    categories[0] |= keypoints
    annotations = []
    random = np.random.default_rng(5)
    for number in range(12):
        image = images[number % 3]  # the fourth has none
        w, h = int(image["width"]), int(image["height"])
        x, y = (float(random.integers(0, side // 2)) for side in (w, h))
        bw, bh = (float(random.integers(6, side // 2)) for side in (w, h))
        polygon = [x, y, x + bw, y, x + bw, y + bh, x, y + bh]
        record: dict[str, Any] = {
            "id": number + 1,
            "image_id": image["id"],
            "category_id": categories[number % 3]["id"],
            "bbox": [x, y, bw, bh],
            "area": bw * bh,
            "iscrowd": 0,
        }
        if number % 4 < 2:
            record["segmentation"] = [polygon]
        if number % 4 > 1:
            runs = pycocotools.mask.frPyObjects([polygon], h, w)[0]
            record |= {"iscrowd": int(number % 4 == 3), "segmentation": _runs(runs, number % 4)}
        if number % 3 == 0:
            record["keypoints"] = [x + 1, y + 1, 2, x + 3, y + 2, 1, 0, 0, 0]
            record["num_keypoints"] = 2
        annotations.append(record)
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def results_content(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Results near the truth: boxes, masks and keypoints, scores that tie."""
    found = []
    for number, record in enumerate(truth["annotations"]):
        w, h = next(
            (i["width"], i["height"]) for i in truth["images"] if i["id"] == record["image_id"]
        )
        x, y, bw, bh = record["bbox"]
        polygon = [[x, y, x + bw, y, x + bw, y + bh, x, y + bh]]
        runs = pycocotools.mask.frPyObjects(polygon, h, w)[0]
        found.append(
            {
                "image_id": record["image_id"],
                "category_id": record["category_id"],
                "bbox": [x + number % 3, y, bw, bh],
                "segmentation": _runs(runs, 3),
                "keypoints": [x, y, 1, x + 2, y + 2, 1, x + bw, y + bh, 1],
                "score": round(0.9 - 0.1 * (number // 2), 2),
            }
        )
    return found


def _runs(encoded: dict[str, Any], form: int) -> dict[str, Any]:
    """Run lengths as text, or as the list of numbers."""
    if form == 3:
        return {"size": list(map(int, encoded["size"])), "counts": encoded["counts"].decode()}
    flat = hotcoco.mask.decode(encoded).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(map(int, encoded["size"])), "counts": counts}


def write_coco(folder: Path) -> Path:
    """A data set of one split in COCO's layout, with results beside it."""
    truth = coco_content(write_images(folder / "train"))
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results_content(truth)))
    return folder


def write_voc(folder: Path) -> Path:
    """One year in VOC's layout, train and val."""
    names = write_images(folder / "JPEGImages", suffix=".jpg")
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for number, (name, (width, height)) in enumerate(zip(names, SIZES, strict=True)):
        objects = "".join(
            f"<object><name>{NAMES[(number + k) % 3]}</name><pose>Left</pose>"
            f"<truncated>0</truncated><difficult>{int(k == 1)}</difficult><bndbox>"
            f"<xmin>{1 + 5 * k}</xmin><ymin>{2 + k}</ymin><xmax>{20 + 4 * k}.5</xmax>"
            f"<ymax>{30 - k}</ymax></bndbox><part><name>head</name><bndbox><xmin>2</xmin>"
            f"</bndbox></part></object>\n"
            for k in range(2)
        )
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation>\n<folder>VOC</folder><filename>{name}</filename>{size}\n{objects}"
        xml = folder / "Annotations" / f"{number:06d}.xml"
        xml.write_text(text + "<segmented>0</segmented></annotation>\n", encoding="utf-8")
    for split, stems in (("train", "000000 000001"), ("val", "000002 000003")):
        lines = "".join(f"{stem}\n" for stem in stems.split())
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(lines)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return folder


def write_yolo(folder: Path) -> Path:
    """images/SPLIT, labels/SPLIT and data.yaml; boxes and outlines."""
    for split, count in (("train", 3), ("val", 1)):
        names = write_images(folder / "images" / split)
        (folder / "labels" / split).mkdir(parents=True)
        for number, name in enumerate(names):
            if number >= count:
                (folder / "images" / split / name).unlink()
                continue
            lines = [f"{number % 3} 0.4 0.5 0.25 0.5", "1 0.1 0.1 0.6 0.1 0.6 0.7 0.1 0.7", ""]
            (folder / "labels" / split / f"{number:06d}.txt").write_text("\n".join(lines))
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    (folder / "data.yaml").write_text(
        f"path: .\ntrain: images/train\nval: images/val\nnames:\n{listed}"
    )
    return folder
