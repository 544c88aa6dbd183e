"""Times detectors on this machine: latency by stage, percentiles, memory; several in turns.

Each runs in a process of its own, as people run them: what one sets or holds must neither help nor
hurt another, and the most memory that a process held is its own detector's.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from detnet.data.images import read_pixels
from detnet.engine.memory import is_out_of_memory, out_of_memory_line
from detnet.errors import InputError
from detnet.inference.engines.predictor import load_export
from detnet.inference.engines.record import is_export
from detnet.inference.models import load
from detnet.inference.stages import (
    DECODE,
    OF_EXPORTS,
    REST,
    STAGES,
    StageClock,
    split_network,
    watch_detector,
)
from detnet.plugins import load_plugins, loaded_plugins
from detnet.text import one_line

PERCENTILES = (50, 90, 99)
_LESS = (
    "fewer models at once, smaller images (--image-size), --precision bf16 or an export in int8 "
    "take less"
)
WARM_UP = 3  # images that are not counted: libraries choose their kernels on the first of a size


@dataclass(frozen=True)
class TimedModel:
    """A detector to be timed.

    Args:
        name: short, for tables.
        model: what it is loaded from; an exported folder runs in its own runtime.
        precision: of a network in torch, as `choose_precision` takes it.
        device: where it runs; None as `predict` chooses.
    """

    name: str
    model: Path
    precision: str = "auto"
    device: str | None = None


@dataclass(frozen=True)
class Latency:
    """Percentiles of how long it took, milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float

    @staticmethod
    def of(seconds: Sequence[float]) -> "Latency":
        return Latency(*(round(float(1000 * np.percentile(seconds, p)), 3) for p in PERCENTILES))


@dataclass(frozen=True)
class Timing:
    """What was measured of one detector.

    Args:
        candidate: which.
        engine: what runs it.
        runs_as: in what precision, and with what, in words.
        total: of an image, from file to objects.
        stages: likewise, each without those within it; by names of `STAGES`.
        images_per_s: one after the other, over all that were counted.
        objects: on average of an image.
        memory_bytes: the most that its process held, libraries included; of a GPU, that torch
            held there; None where the system does not tell.
    """

    candidate: TimedModel
    engine: str
    runs_as: str
    total: Latency
    stages: dict[str, Latency]
    images_per_s: float
    objects: float
    memory_bytes: int | None


@dataclass(frozen=True)
class BenchReport:
    """What was measured, and where.

    Args:
        timings: in the order asked for.
        ratios: of each, how many times as fast as the first it is: the median over the turns.
        turns: counted images of each.
        images: files that were gone through in turn.
        load_average: of the system's last minute; above its processors, others worked, too.
        processors: that this process may use.
    """

    timings: tuple[Timing, ...]
    ratios: tuple[float, ...]
    turns: int
    images: tuple[Path, ...]
    load_average: float | None
    processors: int


class _Facts(NamedTuple):
    """What a process says of the detector that it has loaded.

    Args:
        at_once: images that run together, for an export which was made for several takes as long
            for one of them.
    """

    engine: str
    runs_as: str
    at_once: int = 1


class _Turn(NamedTuple):
    """What a process says of one image."""

    seconds: dict[str, float]
    objects: int
    memory_bytes: int | None


def time_detectors(
    candidates: Sequence[TimedModel],
    images: Sequence[Path],
    *,
    turns: int = 20,
    score_threshold: float = 0.5,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BenchReport:
    """Runs detectors in turns, an image each, from file to objects.

    In turns, so that whatever else the machine does falls on all alike.

    Args:
        images: gone through again and again.
        turns: counted runs of each, after `WARM_UP` that are not.
        score_threshold: objects below it are left out.
        progress: called with (turns done, turns in all).

    Raises:
        InputError: a detector cannot be loaded, or an image not be read.
    """
    with _processes(candidates, score_threshold) as timed:
        facts: list[_Facts] = [one.answer() for one in timed]
        told: list[list[_Turn]] = [[] for _ in candidates]
        for number in range(WARM_UP + turns):
            for one, of_one in zip(timed, told, strict=True):
                of_one.append(one.ask(images[number % len(images)]))
            progress(max(0, number + 1 - WARM_UP), turns)
        for one, of_one, fact in zip(timed, told, facts, strict=True):
            for turn, nodes in zip(of_one, one.ask(None), strict=False):  # torch tells of none
                split_network(turn.seconds, nodes, images=fact.at_once)
    counted = [of_one[WARM_UP:] for of_one in told]
    totals = [[sum(turn.seconds.values()) for turn in of_one] for of_one in counted]
    return BenchReport(
        timings=tuple(map(_timing, candidates, facts, counted)),
        ratios=tuple(
            round(float(np.median(np.array(totals[0]) / np.array(of_one))), 3) for of_one in totals
        ),
        turns=turns,
        images=tuple(images),
        load_average=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        processors=usable_processors(),
    )


def usable_processors() -> int:
    """Counts those that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _timing(candidate: TimedModel, facts: _Facts, turns: list[_Turn]) -> Timing:
    names = [name for name in STAGES if any(name in turn.seconds for turn in turns)]
    totals = [sum(turn.seconds.values()) for turn in turns]
    return Timing(
        candidate=candidate,
        engine=facts.engine,
        runs_as=facts.runs_as,
        total=Latency.of(totals),
        stages={
            name: Latency.of([turn.seconds.get(name, 0.0) for turn in turns]) for name in names
        },
        images_per_s=round(len(totals) / sum(totals), 3),
        objects=round(sum(turn.objects for turn in turns) / len(turns), 1),
        memory_bytes=turns[-1].memory_bytes,
    )


class _TimedProcess:
    """The process of one detector, and the end of a pipe to it."""

    def __init__(self, name: str, process: BaseProcess, end: Connection) -> None:
        self.name, self.process, self.end = name, process, end

    def ask(self, question: Path | None) -> Any:
        """Sends an image, or that there is none left, and waits for what the process says."""
        with suppress(BrokenPipeError):  # it has ended, which `answer` tells
            self.end.send(question)
        return self.answer()

    def answer(self) -> Any:
        """Waits for what the process says."""
        try:
            answer = self.end.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise InputError(f"{self.name}: {self._end()}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _end(self) -> str:
        if self.process.exitcode == -signal.SIGKILL:
            return f"its process was killed, as by systems that run out of memory; {_LESS}"
        return f"its process ended by itself, with exit code {self.process.exitcode}"


@contextmanager
def _processes(candidates: Sequence[TimedModel], threshold: float) -> Iterator[list[_TimedProcess]]:
    context = multiprocessing.get_context("spawn")
    timed: list[_TimedProcess] = []
    try:
        for candidate in candidates:
            end, other = context.Pipe()
            asked = (other, candidate, threshold, loaded_plugins())
            process = context.Process(target=_serve, args=asked, daemon=True)
            process.start()
            timed.append(_TimedProcess(candidate.name, process, end))
            other.close()  # or a process that dies would be waited for
        yield timed
        for one in timed:
            one.process.join()
    finally:
        for one in timed:
            one.process.terminate()


def _serve(
    end: Connection, candidate: TimedModel, threshold: float, plugins: Sequence[str]
) -> None:
    """Answers each path with a turn, and None with seconds by node; a process's whole work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks ends this one
    predictor: Any = None
    try:
        load_plugins(plugins)
        predictor, clock, facts = _open(candidate, threshold)
        end.send(facts)
        while (path := end.recv()) is not None:
            clock.seconds.clear()
            with clock.stage(DECODE):
                pixels = read_pixels(path)
            with clock.stage(REST):
                found = predictor.predict_batch([pixels] * facts.at_once)[0]
            memory = _most_memory(getattr(predictor, "device", None))
            end.send(_Turn(dict(clock.seconds), len(found), memory))
        engine = getattr(predictor, "engine", None)
        end.send(engine.read_profile() if engine else [])
    except (EOFError, BrokenPipeError):
        return  # nobody asks any more
    except Exception as error:
        what = one_line(error)
        if is_out_of_memory(error):
            what = out_of_memory_line(error, _LESS, getattr(predictor, "device", candidate.device))
        elif isinstance(error, InputError):
            end.send(error)
            return
        end.send(InputError(f"{candidate.name}: {what}"))


def _open(candidate: TimedModel, threshold: float) -> tuple[Any, StageClock, _Facts]:
    if not is_export(candidate.model):
        return _open_in_torch(candidate, threshold)
    predictor: Any = load_export(
        candidate.model, score_threshold=threshold, device=candidate.device, profile=True
    )
    engine, clock = predictor.engine, StageClock()
    for method, name in OF_EXPORTS.items():
        clock.watch(engine, method, name)
    several = f"; {engine.batch} images at once" if engine.batch > 1 else ""
    return predictor, clock, _Facts(engine.name, engine.runs_as + several, engine.batch)


def _open_in_torch(candidate: TimedModel, threshold: float) -> tuple[Any, StageClock, _Facts]:
    from detnet.engine.machine import choose_precision, wait_for
    from detnet.engine.processor import keep_freed_memory
    from detnet.inference.engines.torch import TorchEngine
    from detnet.inference.predictor import usable_device

    keep_freed_memory()
    device = usable_device(candidate.device)
    dtype = choose_precision(candidate.precision, device)
    predictor: Any = load(candidate.model, score_threshold=threshold, device=device, dtype=dtype)
    clock = StageClock(lambda: wait_for(device))
    watch_detector(predictor.network, clock)
    engine = TorchEngine(predictor)
    return predictor, clock, _Facts(engine.name, engine.runs_as)


def _most_memory(device: Any) -> int | None:
    """Bytes at most, on the device where torch has one and it is not the processor."""
    if getattr(device, "type", "cpu") != "cpu":
        import torch

        return int(torch.get_device_module(device).max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def draw_image(path: Path, height: int, width: int) -> None:
    """Writes a JPEG of blobs of colour at several scales, which decodes as a photograph does."""
    generator = np.random.default_rng(0)
    layers = []
    for scale in (4, 16, 80):
        size = max(1, height // scale), max(1, width // scale), 3
        noise = Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8))
        enlarged = noise.resize((width, height), Image.Resampling.BILINEAR)
        layers.append(np.asarray(enlarged, np.float32))
    Image.fromarray(np.mean(layers, axis=0).astype(np.uint8)).save(path, "JPEG", quality=92)
