"""Trains one network of a space alone, by the ordinary recipes, and measures what it reaches."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from detnet.engine import distributed
from detnet.engine.loop import NonFiniteLoss
from detnet.engine.precision import choose_precision
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.standalone.sharing import Busy, claimed, write_json
from detnet.training.classification import train as classification
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.evaluate import evaluate_file
from detnet.training.detection.splits import find_val
from detnet.training.detection.train import resume as resume_training
from detnet.training.detection.train import train
from detnet.training.run_config import RunConfig
from detnet.training.run_state import Watch

SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl")

Config = TypeVar("Config", bound=RunConfig)
Item = TypeVar("Item")


class Stopped(Exception):
    """A signal came while a network was measured."""


@dataclass(frozen=True)
class Alone:
    """A network to train alone, and how.

    Args:
        name: for messages, with its seed.
        folder: of its fine-tuning, `train/` in it; one process at a time works there.
        pretrain_folder: the run folder of its pre-training, in `folder` or shared by several seeds.
        result: file for what it reaches.
        about: goes into the result: path, seed, costs.
        settings: tells those of its pre-training, None from scratch, and of its fine-tuning, which
            begins from `pretrain_folder`.
    """

    name: str
    folder: Path
    pretrain_folder: Path
    result: Path
    about: dict[str, Any]
    settings: Callable[[], tuple[PretrainConfig | None, TrainConfig]]

    @property
    def train_folder(self) -> Path:
        return self.folder / "train"


def train_alone(network: Alone, *, stop: Callable[[], bool], watch: Watch) -> bool:
    """Pre-trains, fine-tunes and measures a network, going on where it was left.

    The real score is that of the final model, which the seed and the number of steps decide, on
    the validation split; the best one of the run was chosen on that split.

    Writes `result`: "AP" … "APl" with `about` and "seconds"; or, where a loss was not finite,
    "error", and all scores null.

    Returns:
        False when it was interrupted.

    Raises:
        Busy: another process is at the pre-training that several seeds share.
        InputError: the settings cannot be used.
    """
    pretraining, training = network.settings()
    try:
        if pretraining is not None and not _pretrained(network, pretraining, watch):
            return False
        if not _carry_out(network.train_folder, training, train, resume_training, watch):
            return False
    except NonFiniteLoss as error:
        scores = dict.fromkeys(SCORES)
        message = " ".join(str(error).split())
        _write(network, {**scores, "seconds": None, "error": message})
        text = f"{network.name}: {message}; it is left out (delete {network.result} to try again)"
        watch({"event": "note", "text": text})
        return True
    try:
        measured = _measured(network, training, stop)
    except Stopped:
        return False
    _write(network, measured)
    return True


def is_complete(folder: Path) -> bool:
    """Whether a training has written its final model and said so."""
    run = RunFolder(folder)
    return run.model.exists() and run.end() is not None


def seconds_of(folder: Path) -> float:
    """How long a complete training took, over all its sessions."""
    end = RunFolder(folder).end()
    return float(end["seconds"]) if end else 0.0


def _pretrained(network: Alone, config: PretrainConfig, watch: Watch) -> bool:
    folder = network.pretrain_folder
    if is_complete(folder):
        return True
    start, resume = classification.pretrain, classification.resume
    if folder.parent == network.folder:
        return _carry_out(folder, config, start, resume, watch)
    with claimed(folder.parent) as mine:
        if not mine:
            raise Busy
        return _carry_out(folder, config, start, resume, watch)


def _carry_out(
    folder: Path,
    config: Config,
    start: Callable[..., bool],
    resume: Callable[..., bool],
    watch: Watch,
) -> bool:
    """Begins a run, goes on with it, or finds it complete."""
    if is_complete(folder):
        return True
    run = RunFolder(folder)
    with claimed(folder) as mine:  # by someone who trains this one by hand
        if not mine:
            raise Busy
    watch({"event": "note", "text": f"{folder}"})
    if run.last.exists():
        return resume(folder, on_event=watch)
    # Without a checkpoint nothing is lost by beginning anew, and a kill may have cut the settings.
    for path in (run.config, run.metrics):
        path.unlink(missing_ok=True)
    return start(config, folder, on_event=watch)


def _measured(network: Alone, config: TrainConfig, stop: Callable[[], bool]) -> dict[str, Any]:
    split = find_val(config)
    if split is None:
        raise InputError(f"{config.data}: no split {config.val_split!r} to measure networks on")

    def watched(batches: Iterable[Item], total: int) -> Iterator[Item]:
        for batch in batches:
            if stop():
                raise Stopped
            yield batch

    began = time.perf_counter()
    process = distributed.setup(None if config.device == "auto" else config.device)
    try:
        scores = evaluate_file(
            RunFolder(network.train_folder).model,
            split,
            process=process,
            autocast=choose_precision(config.precision, process.device),
            output=network.result.parent / "evaluation",
            workers=config.workers,
            track=watched,
        ).headline
    finally:
        distributed.cleanup()
    seconds = {
        "pretrain": seconds_of(network.pretrain_folder),
        "train": seconds_of(network.train_folder),
        "evaluation": time.perf_counter() - began,
    }
    found: dict[str, Any] = {name: scores[name] for name in SCORES}
    return {**found, "seconds": sum(seconds.values()), "seconds_of": seconds}


def _write(network: Alone, found: dict[str, Any]) -> None:
    write_json(network.result, {**network.about, **found})


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
