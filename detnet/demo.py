"""The demonstration: made-up scenes or one's own data, a narrow detector, a page about it.

Machines differ by a factor of five, people's patience does not: the demonstration takes its first
steps on a network that is thrown away, and then chooses the length of its training and the size of
its images to end in the minutes it was given. The choice stands in the run's own settings, so that
going on with it chooses nothing again.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from detnet.data.scenes import write_scenes
from detnet.engine import distributed
from detnet.engine.launch import world_size
from detnet.engine.processor import keep_freed_memory
from detnet.errors import InputError
from detnet.files import write_text
from detnet.report.run import make_page
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import DetectionTask, resume, train
from detnet.training.estimate import trial_steps
from detnet.training.run_state import OnEvent

TRAIN_SCENES, VAL_SCENES = 320, 64
MINUTES = 6.0  # from the command to its page
MORE_MINUTES = (7.0, 8.0, 9.0)  # where nobody said how many, and these few find next to nothing
_LEAST_MINUTES = 1.0
_CHOICE = "choice.json"
_SIDES = (240, 192, 160)  # short sides of the images, from the preset's to the smallest worth a try
_ENOUGH_STEPS = 1500  # that many on smaller images find more than fewer on larger ones
_LEAST_STEPS = 80
_FINDING_STEPS = 1000  # 750 to 860 steps gave an AP50 of 40 to 51, 920 to 1,270 one of 80 to 87
_FEWER_PROPOSALS = 0.5  # where time is short: small scenes hold six objects, not sixty
_PACE_STEPS, _UNTIMED_STEPS = 14, 3
_START_S = 8.0  # from the command's first moment to here, and from the last step to the page's end
_EVALUATION_STEPS = 20.0  # what evaluations and the page take of the machine, in training steps
_RESERVE = 0.12  # of the training's time, for steps that get slower than the first ones


@dataclass(frozen=True)
class Choice:
    """What a demonstration does with its minutes on this machine.

    Args:
        minutes: what it was given.
        side: short side of the images in pixels.
        iterations: steps of the training.
        proposals: regions of an image that the head looks at, in training and afterwards.
        step_s: seconds of a step at that size, as the first ones took.
    """

    minutes: float
    side: int
    iterations: int
    proposals: int
    step_s: float

    def settings(self, preset: TrainConfig) -> dict[str, Any]:
        """The preset's settings that it replaces."""
        proposals = {"post_nms_train": self.proposals, "post_nms_test": self.proposals}
        return {
            **_sized(preset, self.side),
            "iterations": self.iterations,
            "detector_options": proposals,
        }

    def told(self, preset: TrainConfig) -> str:
        """One line for a person."""
        whole = self.iterations == preset.iterations and self.side == preset.min_sizes[-1]
        return (
            f"a step takes {self.step_s:.2f} s here: {self.iterations} steps on images of "
            f"{self.side} pixels, {self.proposals} proposals each, to end within "
            f"{self.minutes:g} minutes"
            + (
                ""
                if whole
                else f" (with more time: {preset.iterations} steps of "
                f"{preset.min_sizes[-1]} pixels; give --minutes)"
            )
        )


@dataclass(frozen=True)
class Outcome:
    """What a demonstration left behind: its run folder, and the page, None when interrupted."""

    run: Path
    page: Path | None


def demo(
    output: Path, data: Path | None, *, minutes: float | None = None, on_event: OnEvent
) -> Outcome:
    """Trains on the data, or on scenes made for it, and writes pictures and a page.

    A second call goes on where the first was interrupted, by the first one's choice; when it was
    complete, only the page is written again.

    Args:
        output: folder for the scenes and the run.
        data: a data set folder; None makes scenes.
        minutes: until the page is there, downloads apart; by default `MINUTES`, on slow machines up
            to the last of `MORE_MINUTES`.
        on_event: see `detnet.training.detection.train.train`.

    Raises:
        InputError: the data cannot be used, `output` holds a run on other data, too few minutes, or
            several processes.
    """
    began = time.perf_counter()
    if minutes is not None and not _LEAST_MINUTES <= minutes < float("inf"):
        raise InputError(f"minutes must be at least {_LEAST_MINUTES:g}, got {minutes:g}")
    if world_size() > 1:
        raise InputError("the demonstration is not for torchrun: start it by itself")
    scenes = output / "scenes"
    if data is None and not (scenes / "annotations" / "instances_val.json").exists():
        on_event(
            {"event": "note", "text": f"drawing {TRAIN_SCENES} + {VAL_SCENES} scenes: {scenes}"}
        )
        write_scenes(scenes, train=TRAIN_SCENES, val=VAL_SCENES)
    place = (data or scenes).resolve()
    run = output / (f"run-{data.resolve().name}" if data else "run")
    if (run / "config.yaml").exists() and Path(TrainConfig.read(run / "config.yaml").data) == place:
        if minutes is not None:
            on_event({"event": "note", "text": f"{run}: goes on by the choice it began with"})
        complete = resume(run, on_event=on_event)
    else:
        config = _fitted(place, run, minutes, began, on_event)
        complete = train(config, run, on_event=on_event)
    return Outcome(run, make_page(run) if complete else None)


def choose(
    preset: TrainConfig,
    pace: Callable[[int], float],
    *,
    minutes: float,
    clock: Callable[[], float],
) -> Choice:
    """Finds the largest images of which enough steps fit, or else the most steps there can be.

    Args:
        preset: the settings where time is no object.
        pace: measures the seconds of a step at a short side in pixels; asked at most twice.
        minutes: for everything.
        clock: the seconds of them that are gone.
    """
    full = preset.iterations or 0

    def fitting(step_s: float) -> int:
        left = 60 * minutes - clock() - _START_S
        return int(left / (step_s * (1 + _RESERVE)) - _EVALUATION_STEPS)

    largest, smallest = _SIDES[0], _SIDES[-1]
    step_s = {largest: pace(largest)}
    if fitting(step_s[largest]) < full:
        step_s[smallest] = pace(smallest)
        slope = (step_s[largest] - step_s[smallest]) / (largest**2 - smallest**2)
        for side in _SIDES[1:-1]:  # a step takes something for itself and something for each pixel
            step_s[side] = step_s[smallest] + slope * (side**2 - smallest**2)
    enough = [side for side, took in step_s.items() if fitting(took) >= min(_ENOUGH_STEPS, full)]
    side = max(enough, default=smallest)
    iterations = max(_LEAST_STEPS, min(full, fitting(step_s[side])))
    proposals = int(preset.detector_options["post_nms_train"])
    if side < largest or iterations < full:
        proposals = round(proposals * _FEWER_PROPOSALS)
    return Choice(minutes, side, iterations, proposals, round(step_s[side], 4))


def measure_pace(config: TrainConfig) -> float:
    """Seconds of a training step of these settings here, on the data, reading and all.

    It takes the first steps of the training itself, on a network that is then thrown away. A step
    as the fastest quarter have it: what runs beside the first seconds seldom stays for minutes.

    Raises:
        InputError: the data cannot be used.
    """
    keep_freed_memory()
    torch.manual_seed(config.seed)
    process = distributed.single_process(None if config.device == "auto" else config.device)
    task = DetectionTask(config)
    task.resolve(load_weights=False)
    task.read_data(process)
    model, _ = task.make_model()
    batches = task.stream(start=0, stop=_PACE_STEPS)
    steps = trial_steps(model, batches, config, process.device, _PACE_STEPS)
    took = [step.data_s + step.step_s for step in steps]
    return statistics.quantiles(took[_UNTIMED_STEPS:], n=4)[0]


def choose_patiently(
    preset: TrainConfig,
    pace: Callable[[int], float],
    *,
    minutes: float | None,
    clock: Callable[[], float],
) -> Choice:
    """Chooses for the minutes given, or by default for as many as it takes to find something.

    Args:
        preset, pace, clock: see `choose`.
        minutes: None for `MINUTES`, or of `MORE_MINUTES` the first in which enough steps fit.
    """
    pace = cache(pace)
    offered = [minutes] if minutes is not None else [MINUTES, *MORE_MINUTES]
    choices = (choose(preset, pace, minutes=some, clock=clock) for some in offered)
    choice = next(choices)
    enough = min(_FINDING_STEPS, preset.iterations or _FINDING_STEPS)
    while choice.iterations < enough and (more := next(choices, None)):
        choice = more
    return choice


def _fitted(
    place: Path, run: Path, minutes: float | None, began: float, on_event: OnEvent
) -> TrainConfig:
    """The preset with what the minutes allow here, told and written beside the run."""
    preset = _config(place, {})
    on_event({"event": "note", "text": "taking a few steps to learn this machine's pace"})
    choice = choose_patiently(
        preset,
        lambda side: measure_pace(_config(place, _sized(preset, side))),
        minutes=minutes,
        clock=lambda: time.perf_counter() - began,
    )
    on_event({"event": "note", "text": choice.told(preset)})
    run.parent.mkdir(parents=True, exist_ok=True)
    path = run.with_name(f"{run.name}-{_CHOICE}")
    write_text(path, json.dumps(asdict(choice), indent=2) + "\n")
    return _config(place, choice.settings(preset))


def _sized(preset: TrainConfig, side: int) -> dict[str, Any]:
    scale = side / preset.min_sizes[-1]
    return {"min_sizes": [side], "max_size": round(preset.max_size * scale)}


def _config(place: Path, changes: Mapping[str, Any]) -> TrainConfig:
    return TrainConfig.make("demo", {"data": str(place), **changes})
