"""Measures what COCO's 860,000 boxes cost in memory, in the main process and in its workers.

    python benchmarks/annotations.py

The promise is under 100 MB, and workers that do not grow with it: they share the arrays.
"""

import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from harness import arguments, keep
from machine import seconds
from PIL import Image

from detnet.data.batches import TrainBatches, stream
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.data.transforms import Augmentation


def write_data(folder: Path, images: int, boxes: int) -> Split:
    """A file of COCO's size whose records all name the same picture."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 150, (boxes, 2)).round(2)
    sides = generator.uniform(2, 90, (boxes, 2)).round(2)
    owners, kinds = generator.integers(0, images, boxes), generator.integers(1, 81, boxes)
    Image.new("RGB", (240, 240)).save(folder / "picture.jpg")
    content = {
        "images": [
            {"id": i, "file_name": "picture.jpg", "width": 240, "height": 240}
            for i in range(images)
        ],
        "annotations": [
            {
                "id": i + 1,
                "image_id": int(owners[i]),
                "category_id": int(kinds[i]),
                "bbox": [*corners[i].tolist(), *sides[i].tolist()],
                "area": float(sides[i].prod()),
                "iscrowd": 0,
            }
            for i in range(boxes)
        ],
        "categories": [{"id": k, "name": f"kind {k}"} for k in range(1, 81)],
    }
    path = folder / "instances_train.json"
    path.write_text(json.dumps(content))
    return Split("train", path, folder)


def own_memory_mb(process: int) -> float:
    """Memory that this process shares with no other."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    private = [line.split()[1] for line in lines if line.startswith("Private")]
    return sum(map(int, private)) / 1024


def worker_memory_mb(split: Split, batches: int) -> tuple[float, float, float]:
    """Annotation arrays, and a worker's own memory early and late in a run."""
    annotations, _ = load_annotations(split)
    dataset = DetectionDataset(annotations, Augmentation(min_sizes=(240,)), seed=0)
    dealt = TrainBatches(annotations, batch_size=4, aspect_grouping=False)
    readings = []
    for index, _ in enumerate(stream(dataset, dealt, start=0, stop=batches, workers=1)):
        if index in (batches // 8, batches - 8):
            (worker,) = [p.pid for p in torch.multiprocessing.active_children()]
            readings.append(own_memory_mb(worker))
    names = annotations.file_names
    arrays = [each for each in vars(annotations).values() if isinstance(each, np.ndarray)]
    size = sum(each.nbytes for each in (*arrays, names.blob, names.offsets))
    return size / 1e6, readings[0], readings[1]


def main() -> None:
    options = arguments(__doc__ or "", repeats=1, images=118_000, boxes=860_000, batches=400)
    with tempfile.TemporaryDirectory() as place:
        few = write_data(Path(place), options.images // 100, options.boxes // 100)
        _, _, worker_few = worker_memory_mb(few, options.batches)
        split = write_data(Path(place), options.images, options.boxes)
        load_s = statistics.median(
            seconds(lambda: load_annotations(split))[0] for _ in range(options.repeats)
        )
        arrays, early, late = worker_memory_mb(split, options.batches)
    keep(
        "annotations",
        boxes=options.boxes,
        arrays_mb=round(arrays, 1),
        load_s=round(load_s, 2),
        worker_early_mb=round(early, 1),
        worker_late_mb=round(late, 1),
        worker_late_mb_with_a_hundredth=round(worker_few, 1),
    )
    print(f"{options.boxes:,} boxes: {arrays:.1f} MB of arrays, loaded in {load_s:.1f} s")
    print(f"a worker's own memory: {early:.0f} MB early, {late:.0f} MB late")
    print(f"the same with a hundredth of the boxes: {worker_few:.0f} MB")


if __name__ == "__main__":
    main()
