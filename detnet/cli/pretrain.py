"""Trains a backbone as a classifier on images in class folders, or goes on with such a run.

    detnet pretrain --data imagenet --output runs/a --backbone detnet59
    detnet pretrain --data DATA --output runs/b --config small_images --backbone resnet50
    detnet pretrain --resume runs/a

DATA holds train/CLASS/image.jpg and val/CLASS/image.jpg. Settings come from the defaults (the
ResNeXt recipe, by which DetNet's paper pre-trains), then from --config, then from single options.
For several devices: torchrun --nproc-per-node 2 -m detnet pretrain …
"""

import argparse

from detnet.cli.settings import (
    add_options_argument,
    add_run_arguments,
    given_options,
    given_settings,
    require_place,
    settle_config,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run's place and one option for each setting."""
    from detnet.training.classification.config import PretrainConfig, presets

    add_run_arguments(parser, PretrainConfig, presets(), leave_out=("backbone_options",))
    add_options_argument(parser, "backbone_options")


def run(args: argparse.Namespace) -> int:
    """Trains, and tells how it went."""
    from detnet.backbones import require_backbone
    from detnet.training.classification.config import PretrainConfig, make_config, read_config
    from detnet.training.settings import dump_config

    changes = {**given_settings(args, PretrainConfig), **given_options(args, "backbone_options")}
    config = settle_config(args, changes, make=make_config, read=read_config, dump=dump_config)
    if config is None:
        return 0
    place = require_place(args)
    require_backbone(config.backbone)  # before torch is imported: a mistake is answered at once

    from detnet.cli.training import Watch, follow
    from detnet.training.classification.train import pretrain, resume

    def start(watch: Watch) -> bool:
        return resume(place, watch=watch) if args.resume else pretrain(config, place, watch=watch)

    return follow(start, again=f"detnet pretrain --resume {place}", as_json=args.json)
