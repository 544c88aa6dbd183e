"""Draws scenes, trains a tiny detector on them for a few steps, loads it, predicts and measures."""

import json
import tempfile
from pathlib import Path

import detnet
from detnet.data.scenes import write_scenes
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import train

folder = Path(tempfile.mkdtemp())
scenes = folder / "scenes"
write_scenes(scenes, train=8, val=2, size=(160, 120))
changes = {"data": str(scenes), "iterations": 4, "batch_size": 2, "min_sizes": [96]}
train(TrainConfig.make("demo", changes), folder / "run", on_event=lambda event: None)

predictor = detnet.load(folder / "run", score_threshold=0.05)
print(predictor)
picture = scenes / "val" / "val_00000.jpg"
found = predictor.predict(picture)
print(f"{len(found)} objects: {found.names[:3]}")
found.draw(picture).save(folder / "found.png")

# `detnet evaluate` does this with several images at once; `detnet.score` takes anyone's results.
truth = scenes / "annotations" / "instances_val.json"
results = [
    record
    for image in json.loads(truth.read_text())["images"]
    for record in predictor.predict(scenes / "val" / image["file_name"]).to_coco(image["id"])
]
scores = detnet.score(truth, results)
print(f"AP {scores['AP']:.3f}, AP85 of large {scores['by_iou_and_size']['large']['AP']['85']}")
