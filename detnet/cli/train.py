"""Trains a detector on a data set in COCO format, or goes on with a run.

    detnet train --data DATA --output runs/a --config small --backbone detnet59
    detnet train --data DATA --output runs/b --epochs 12 --detector-option box_head=4conv1fc
    detnet train --resume runs/a

Settings come from the defaults (DetNet's recipe for COCO), then from --config, then from single
options. For several devices: torchrun --nproc-per-node 2 -m detnet train …
"""

import argparse
from typing import Any

from detnet.cli.settings import (
    add_options_argument,
    add_run_arguments,
    given_options,
    given_settings,
    require_place,
    settle_config,
)
from detnet.errors import InputError
from detnet.tables import unknown_name

_GROUPS = ("detector_options", "backbone_options")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run's place and one option for each setting."""
    from detnet.training.detection.config import TrainConfig, presets

    add_run_arguments(parser, TrainConfig, presets(), leave_out=_GROUPS)
    for group in _GROUPS:
        add_options_argument(parser, group)


def run(args: argparse.Namespace) -> int:
    """Trains, and tells how it went."""
    from detnet.backbones import require_backbone
    from detnet.detectors import DETECTORS
    from detnet.training.detection.config import dump_config, make_config, read_config

    changes = _changes(args)
    config = settle_config(args, changes, make=make_config, read=read_config, dump=dump_config)
    if config is None:
        return 0
    place = require_place(args)
    require_backbone(config.backbone)  # before torch is imported: a mistake is answered at once
    if config.detector not in DETECTORS:
        raise InputError(unknown_name(DETECTORS.kind, config.detector, DETECTORS))

    from detnet.cli.training import Watch, follow
    from detnet.training.detection.train import resume, train

    def start(watch: Watch) -> bool:
        return resume(place, watch=watch) if args.resume else train(config, place, watch=watch)

    return follow(start, again=f"detnet train --resume {place}", as_json=args.json)


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, those of each group together."""
    from detnet.training.detection.config import TrainConfig

    return {**given_settings(args, TrainConfig), **given_options(args, *_GROUPS)}
