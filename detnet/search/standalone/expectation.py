"""About how long the trainings that are left will take, by those that were done on this machine."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detnet.engine.runs import RunFolder
from detnet.search.standalone.train import Alone, is_complete, seconds_of
from detnet.training.settings import RunConfig


def expectation(networks: Sequence[Alone], run: Path) -> str:
    """Says in one line what is left to train, and about how long that will take one process.

    A training takes as long as the mean of those that are complete; as long as none is, its images
    are reckoned at the pace that the search's supernet was trained with, one network a step too.

    Args:
        run: of the search.
    """
    done = sum(network.result.exists() for network in networks)
    text = f"{len(networks)} trainings of networks alone"
    text += f", {done} of them done" if done else ""
    if done == len(networks):
        return text
    before, train = networks[0].settings()  # the others' are as long
    # One that diverged is done, too, though its training is not complete.
    open_ = [network for network in networks if not network.result.exists()]
    trained, needed = {one.train_folder for one in networks}, {one.train_folder for one in open_}
    seconds = [_left(trained, needed, train, run / "finetune")]
    if before is not None:
        trained = {one.pretrain_folder for one in networks}
        needed = {one.pretrain_folder for one in open_}
        seconds.append(_left(trained, needed, before, run / "pretrain"))
    known = [value for value in seconds if value is not None]
    if len(known) < len(seconds):
        return f"{text}; how long they take is known after the first"
    return f"{text}; about {_hours(sum(known))} left for one process, evaluation not counted"


def _left(folders: set[Path], needed: set[Path], config: RunConfig, supernet: Path) -> float | None:
    """Seconds of the needed trainings that are not complete; None if there is nothing to go by."""
    complete = {folder for folder in folders if is_complete(folder)}
    left = len(needed - complete)
    if not left:
        return 0.0
    if complete:
        return left * statistics.fmean(map(seconds_of, complete))
    pace = _pace(supernet)
    if pace is None:
        return None
    images_per_s, images_per_epoch = pace
    return left * _images(config, images_per_epoch) / images_per_s


def _pace(supernet: Path) -> tuple[float, float] | None:
    """Images a second of a training, and images of its epoch."""
    events = RunFolder(supernet).read_metrics() if supernet.is_dir() else []
    steps: list[dict[str, Any]] = [
        event for event in events if event["event"] == "step" and event.get("images_per_s")
    ]
    if not steps:
        return None
    last = steps[-1]
    images = last["images_per_s"] * (last["data_s"] + last["step_s"])
    pace = statistics.median(float(event["images_per_s"]) for event in steps)
    return pace, images * last["iteration"] / last["epoch"]


def _images(config: RunConfig, images_per_epoch: float) -> float:
    """Images that a training shows."""
    length = config.length
    if "iterations" in length:
        return length["iterations"] * config.batch_size
    return length["epochs"] * images_per_epoch


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
