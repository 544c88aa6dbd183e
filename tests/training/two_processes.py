"""What each of two processes does; `test_two_processes.py` starts them and judges it."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo
from detnet.data.classification.shards import index_images
from detnet.data.folders import find_split
from detnet.data.reading import load_annotations
from detnet.detectors import create
from detnet.detectors.base import Detector, info_of
from detnet.detectors.files import save_model
from detnet.engine import agreement
from detnet.engine.distributed import Process, barrier, cleanup, leave, setup
from detnet.engine.peers import LostProcess
from detnet.engine.watch import NonFiniteLoss
from detnet.errors import InputError
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import measure
from detnet.training.classification.train import PretrainTask
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.evaluate import (
    evaluate_file,
    evaluate_model,
    validation_losses,
)
from detnet.training.detection.train import train
from detnet.training.run import run_task
from tests.conftest import TINY
from tests.engine.toy import BLACK
from tests.forked import fork, places, wait
from tests.training.toy_task import ToyTask, carry_out

FREQUENT = {"evaluate_every": 0.5}  # epochs: between two checkpoints, too


def detector(name: str = "retinanet", *, seed: int = 0, **options: Any) -> Detector:
    """One whose losses and detections owe nothing to chance, beyond its weights."""
    torch.manual_seed(seed)
    sizes = {"width": 0.125, "min_size": 96, "max_size": 128}
    return create(name, num_classes=4, score_threshold=0.0, **sizes, **options).eval()


def detect_all(process: Process, scenes: Path) -> dict[str, Any]:
    """Evaluation, image by image: what is in a batch decides how sums are rounded."""
    annotations, _ = load_annotations(find_split(scenes, "val"), masks=True)
    model = detector("mask_rcnn_fpn", post_nms_test=30)
    scores = evaluate_model(
        model, annotations, process=process, autocast=None, workers=0, batch_size=1
    )
    return {"results": list(scores.results), "headline": scores.headline}


def sum_losses(process: Process, scenes: Path, batch_size: int = 2) -> dict[str, float]:
    """The means over three images, in batches of two and one, whoever has them."""
    annotations, _ = load_annotations(find_split(scenes, "val"))
    return validation_losses(
        detector(), annotations, batch_size, process=process, autocast=None, workers=0, seed=1
    )


def classify_all(process: Process, pictures: Path) -> dict[str, Any]:
    images = index_images(pictures / "val")
    info = ClassifierInfo("resnet50", images.classes, {"width": 0.125}, input_size=32)
    torch.manual_seed(0)
    model = Classifier(BACKBONES["resnet50"](width=0.125), len(images.classes))
    options: dict[str, Any] = {"autocast": None, "workers": 0, "batch_size": 1}
    return measure(model, info, images, process=process, **options).to_json()


def look_around(process: Process, pictures: Path) -> list[str]:
    """An epoch of images, one of which cannot be read: what a process says of it."""
    config = PretrainConfig.make(
        None, {"data": str(pictures), "image_size": 32, "batch_size": 2, "workers": 0, "epochs": 1}
    )
    task = PretrainTask(config)
    task.read_data(process)
    for _ in task.stream(start=0, stop=task.batches_per_epoch):
        pass
    return task.new_notes()


def summary(task: ToyTask) -> dict[str, Any]:
    """What a process has seen of a toy run, and the model as it has it at the end."""
    state = {name: value.clone() for name, value in task.model.state_dict().items()}
    return {"shown": task.shown, "judged": task.judged, "model": state, "given": task.given}


def interrupted(run: Path, process: Process) -> dict[str, Any]:
    """Stopped by a signal to the main process after five steps, of which the sixth tells all."""

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["iteration"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    complete, _ = carry_out(run, on_event=stop, changes=FREQUENT)
    assert not complete
    complete, task = carry_out(run, resume=True, changes=FREQUENT)
    assert complete
    return summary(task)


def failing(run: Path) -> dict[str, Any]:
    """The first image of the sixth batch, the main process's, is bad."""
    try:
        carry_out(run, kinds={5: BLACK})
    except NonFiniteLoss as error:
        return {"iteration": error.iteration, "images": error.image_ids}
    return {}


def train_on_few_objects(run: Path, scenes: Path) -> bool:
    """DDP waits for every gradient: a process whose images are empty must give them all, too."""
    truth = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    full = truth["annotations"][0]["image_id"]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] == full]
    sparse = run.parent / f"sparse{os.getpid()}.json"
    sparse.write_text(json.dumps(truth))
    config = TrainConfig.make(None, {"data": str(scenes), **TINY, "iterations": 4})
    config = replace(config, train_annotations=str(sparse), train_images=str(scenes / "train"))
    return train(config, run, on_event=lambda event: None)


def refused(folder: Path, process: Process) -> dict[str, str]:
    """What each process is told where one of them is not as the other."""
    agreement.VISIBLE_S = 0.3
    rank = process.rank
    attempts: dict[str, dict[str, Any]] = {
        "settings": {"changes": {"lr": (0.05, 0.07)[rank], "threads": 1 + rank}},
        "data": {"fingerprint": f"noise {rank}"},
        "few": {"images": 1},
        "apart": {},
        "alone": {"kinds": {5: "unreadable"} if rank else {}},
    }
    found = {}
    for name, options in attempts.items():
        run = folder / "refused" / (f"apart{rank}" if name == "apart" else name)
        try:
            carry_out(run, **options)
        except (InputError, LostProcess) as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def alone_in_batch_norm(folder: Path, pictures: Path) -> str:
    """One image for each process, of which the last layers leave one value."""
    values = {"data": str(pictures), "backbone": "resnet50", "width": 0.125, "image_size": 32}
    sizes = {"batch_size": 2, "iterations": 1, "workers": 0, "device": "cpu", "norm": "batch"}
    config = PretrainConfig.make(None, {**values, **sizes})
    try:
        run_task(PretrainTask(config), folder / "alone", resume=False, on_event=lambda event: None)
    except (InputError, LostProcess) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def evaluated_apart(folder: Path, process: Process, scenes: Path) -> dict[str, str]:
    """What is said where the second process has another model, or other annotations."""
    val = find_split(scenes, "val")
    text = val.annotations.read_text()
    model = detector(seed=process.rank)
    info_of(model).categories = load_annotations(val)[0].categories.to_json()
    save_model(folder / f"model{process.rank}.safetensors", model)
    changed = folder / f"val{process.rank}.json"
    changed.write_text(text + " " * process.rank)
    mine, theirs = folder / f"model{process.rank}.safetensors", folder / "model0.safetensors"
    barrier()
    found = {}
    for name, model, annotations in (
        ("model", mine, val.annotations),
        ("annotations", theirs, changed),
    ):
        split = replace(val, annotations=annotations)
        try:
            evaluate_file(model, split, process=process, autocast=None, workers=0)
        except InputError as error:
            found[name] = str(error)
    scores = evaluate_file(theirs, val, process=process, autocast=None, workers=0)
    return {**found, "same": str(scores.headline)}


def main(folder: Path, scenes: Path, pictures: Path) -> None:
    torch.set_num_threads(1)
    process = setup("cpu")
    found: dict[str, Any] = {
        "evaluate": detect_all(process, scenes),
        "losses": sum_losses(process, scenes),
        "classify": classify_all(process, pictures),
        "look": look_around(process, pictures),
        "apart": evaluated_apart(folder, process, scenes),
    }
    cleanup()
    _, task = carry_out(folder / "whole", changes=FREQUENT)
    found["whole"] = summary(task)
    found["parts"] = interrupted(folder / "parts", process)
    _, task = carry_out(folder / "plain", changes={"ema": 0.0, **FREQUENT})
    found["plain"] = summary(task)
    found["fail"] = failing(folder / "fail")
    found["refused"] = refused(folder, process)
    found["alone"] = alone_in_batch_norm(folder, pictures)
    found["few"] = train_on_few_objects(folder / "few", scenes)
    torch.save(found, folder / f"rank{process.rank}.pt")
    leave(0)


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    started = [
        fork(lambda: main(*given), place, given[0] / f"rank{place['RANK']}.log")
        for place in places(2)
    ]
    sys.exit(any(wait(started)))
