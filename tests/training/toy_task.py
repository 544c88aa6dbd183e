"""A task whose steps take a millisecond, for tests of what carries tasks out."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from detnet.engine.checkpoint import load
from detnet.engine.distributed import Process, all_gather
from detnet.engine.loop import Batch
from detnet.errors import InputError
from detnet.training.run import run_task
from detnet.training.run_config import RunConfig
from detnet.training.run_state import OnEvent
from detnet.training.task import Measured, RunData, Task
from tests.engine.toy import WELL, Toy, batch

CONFIG = RunConfig(
    batch_size=4,
    iterations=8,
    lr=0.05,
    lr_batch=0,
    warmup_iterations=2,
    ema=0.9,
    workers=0,
    device="cpu",
    precision="fp32",
    log_every=1,
    checkpoint_every=2,
    evaluate_every=1,
    best_metric="score",
)
PER_EPOCH = 4
VAL = 5  # images; an odd number, so that processes have different shares


class ToyTask(Task):
    """Batches of noise by their number, a model that draws, and a score from its losses.

    Args:
        kinds: batches that are no ordinary ones, by number; "unreadable" raises.
        judge: makes a score of the model instead, on the main process.
        images, val: to train and to evaluate on.
        fingerprint: of the data.
        data: more of `RunData`.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        kinds: dict[int, str] | None = None,
        judge: Callable[[nn.Module], float | None] | None = None,
        images: int = 16,
        val: int = VAL,
        fingerprint: str = "noise",
        data: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self._count, self._val, self._fingerprint = images, val, fingerprint
        self._kinds, self._judge, self._more = kinds or {}, judge, data or {}
        self.carried: bool | None = None
        self.prepared: list[int] = []
        self.shown: list[int] = []  # image ids
        self.judged: list[dict[str, Tensor]] = []  # the states that were evaluated
        self.given: dict[str, Any] | None = None  # on resume

    def resolve(self, *, load_weights: bool) -> list[str]:
        self.carried = load_weights
        return ["all settled"]

    def read_data(self, process: Process) -> None:
        self.process = process
        notes = ["all made up"]
        known = (Path("noise"), "batches", self._count, self._val, self._fingerprint, notes)
        self.data = RunData(*known, **self._more)
        self.batches_per_epoch = PER_EPOCH * self.config.accumulate
        self._images = self.config.batch_of(process.world_size)

    def make_model(self) -> tuple[nn.Module, list[str]]:
        self.model = Toy(dropout=0.5)
        return self.model, ["a toy"]

    def stream(self, *, start: int, stop: int) -> Iterator[Batch]:
        mine = slice(self._images * self.process.rank, self._images * (self.process.rank + 1))
        for number in range(start, stop):
            kind = self._kinds.get(number, WELL)
            if kind == "unreadable":
                raise InputError(f"image {number}: cannot be read")
            size = self._images * self.process.world_size
            images, targets = batch(number, size=size, kind=kind)
            self.shown += [target["image_id"] for target in targets[mine]]
            yield images[mine], targets[mine]

    def before_step(self, model: nn.Module, iteration: int) -> None:
        self.prepared.append(iteration)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, autocast: torch.dtype | None) -> Measured:
        model.eval()
        self.judged.append({name: value.clone() for name, value in model.state_dict().items()})
        if self._judge is not None:
            score = self._judge(model)
            return Measured({"score": score}, lambda folder: _write(folder, score))
        mine = range(self.process.rank, VAL, self.process.world_size)
        losses = {n: float(sum(model(*batch(1000 + n, size=1)).values())) for n in mine}
        everything = {n: loss for part in all_gather(losses) for n, loss in part.items()}
        mean = -sum(everything[number] for number in range(VAL)) / VAL
        return Measured({"score": mean}, lambda folder: _write(folder, mean))

    def save_model(self, path: Path, model: nn.Module, state: dict[str, Tensor] | None) -> None:
        state = model.state_dict() if state is None else state
        save_file({name: value.contiguous() for name, value in state.items()}, path)

    def names_of(self, image_ids: Iterable[int]) -> list[str]:
        return [f"{number}.jpg" for number in image_ids]

    def new_notes(self) -> list[str]:
        return [f"first note of {self.process.rank}"] if self.state()["steps"] == 1 else []

    def state(self) -> dict[str, Any]:
        before = self.given["steps"] if self.given else 0
        return {"rank": self.process.rank, "steps": before + len(self.prepared)}

    def restore(self, state: dict[str, Any]) -> None:
        self.given = state


def _write(folder: Path, score: float | None) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(score))


def carry_out(
    folder: Path,
    *,
    resume: bool = False,
    on_event: OnEvent = lambda event: None,
    changes: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[bool, ToyTask]:
    """Begins a toy run, or goes on with it; `options` are the task's."""
    task = ToyTask(replace(CONFIG, **(changes or {})), **options)
    return run_task(task, folder, resume=resume, on_event=on_event), task


def different(one: Path, other: Path) -> list[str]:
    """What of two runs is not the same: their events, clocks apart, and bits of their files."""
    found = [] if events_of(one) == events_of(other) else ["metrics.jsonl"]
    for name in ("model.safetensors", "best.safetensors"):
        found += [name] if (one / name).read_bytes() != (other / name).read_bytes() else []
    states = [load(run / "last.ckpt") for run in (one, other)]
    for state in states:
        del state["progress"]["seconds"]
    return found + [f"last.ckpt: {place}" for place in _unequal(*states)]


def events_of(run: Path) -> list[dict[str, Any]]:
    clocks = ("images_per_s", "data_s", "step_s", "seconds")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in clocks} for line in lines]


def _unequal(one: Any, other: Any, place: str = "") -> Iterator[str]:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if not torch.equal(one, other):
            yield place
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _unequal(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield place
        for number, pair in enumerate(zip(one, other, strict=False)):
            yield from _unequal(*pair, f"{place}/{number}")
    elif one != other:
        yield place
