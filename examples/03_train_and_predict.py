"""Draws scenes, trains a tiny detector on them for a few steps, loads it and predicts."""

import tempfile
from pathlib import Path

import detnet
from detnet.data.scenes import write_scenes
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import train

folder = Path(tempfile.mkdtemp())
write_scenes(folder / "scenes", train=8, val=2, size=(160, 120))
changes = {"data": str(folder / "scenes"), "iterations": 4, "batch_size": 2, "min_sizes": [96]}
train(TrainConfig.make("demo", changes), folder / "run", on_event=lambda event: None)

predictor = detnet.load(folder / "run", score_threshold=0.05)
picture = folder / "scenes" / "val" / "val_00000.jpg"
found = predictor.predict(picture)
print(f"{len(found)} objects: {found.names[:3]}")
found.draw(picture).save(folder / "found.png")
