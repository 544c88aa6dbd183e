"""Trains a detector on a data set, or goes on with a run.

    detnet train --data DATA --output runs/a --config small --backbone detnet59
    detnet train --data DATA --output runs/b --epochs 12 --detector-option box_head=4conv1fc
    detnet train --resume runs/a

Settings come from the defaults (DetNet's recipe for COCO), then from --config, then from single
options. For several devices: torchrun --nproc-per-node 2 -m detnet train …
"""

import argparse
import shlex

from detnet.cli.settings import add_run_arguments, asked_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run's place and one option for each setting."""
    from detnet.training.detection.config import TrainConfig

    add_run_arguments(parser, TrainConfig)


def run(args: argparse.Namespace) -> int:
    """Trains, and tells how it went."""
    from detnet.backbones import require_backbone
    from detnet.detectors import DETECTORS
    from detnet.training.detection.config import TrainConfig

    asked = asked_run(args, TrainConfig)
    if asked is None:
        return 0
    require_backbone(asked.config.backbone)  # before torch is imported: answered at once
    DETECTORS.require(asked.config.detector)

    from detnet.cli.progress import Screen
    from detnet.training.detection.train import DetectionTask
    from detnet.training.run import run_task

    again = shlex.join(["detnet", "train", "--resume", str(asked.folder)])
    with Screen(again=again) as screen:
        task = DetectionTask(asked.config)
        complete = run_task(task, asked.folder, resume=asked.resume, on_event=screen)
    return screen.finish(complete, as_json=args.json, folder=asked.folder)
