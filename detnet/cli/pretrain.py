"""Trains a backbone as a classifier on images in class folders, or goes on with such a run.

    detnet pretrain --data imagenet --output runs/a --backbone detnet59
    detnet pretrain --data DATA --output runs/b --config small_images --backbone resnet50
    detnet pretrain --resume runs/a

DATA holds train/CLASS/image.jpg and val/CLASS/image.jpg. Settings come from the defaults (the
ResNeXt recipe, by which DetNet's paper pre-trains), then from --config, then from single options.
For several devices: torchrun --nproc-per-node 2 -m detnet pretrain …
"""

import argparse
import shlex

from detnet.cli.settings import add_run_arguments, asked_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run's place and one option for each setting."""
    from detnet.training.classification.config import PretrainConfig

    add_run_arguments(parser, PretrainConfig)


def run(args: argparse.Namespace) -> int:
    """Trains, and tells how it went."""
    from detnet.backbones import require_backbone
    from detnet.training.classification.config import PretrainConfig

    asked = asked_run(args, PretrainConfig)
    if asked is None:
        return 0
    require_backbone(asked.config.backbone)  # before torch is imported: answered at once

    from detnet.cli.progress import Screen
    from detnet.training.classification.train import PretrainTask
    from detnet.training.run import run_task

    again = shlex.join(["detnet", "pretrain", "--resume", str(asked.folder)])
    with Screen(again=again) as screen:
        task = PretrainTask(asked.config)
        complete = run_task(task, asked.folder, resume=asked.resume, on_event=screen)
    return screen.finish(complete, as_json=args.json, folder=asked.folder)
