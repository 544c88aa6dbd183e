"""Where the parts of `gpu.py` run, what they give, and the clock."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from machine import seconds
from torch import nn

from detnet.engine.loop import train_steps
from detnet.engine.machine import fast_bf16, wait_for
from detnet.engine.optim import Schedule
from detnet.engine.scale import LossScale


class LeftOut(Exception):
    """A part cannot run here, for a reason that is no fault."""


@dataclass(frozen=True)
class Place:
    """Where the parts run.

    Args:
        device: with a number where there are several processes.
        tiny: sizes that only show that it runs.
        plugin: the module that brought the device along.
    """

    device: torch.device
    tiny: bool = False
    plugin: str | None = None

    @property
    def first(self) -> torch.device:
        """The device by its number."""
        return torch.device(self.device.type, self.device.index or 0)

    @property
    def side(self) -> int:
        return 96 if self.tiny else 800

    @property
    def steps(self) -> int:
        """Training steps between two looks at the clock."""
        return 1 if self.tiny else 5

    @property
    def repeats(self) -> int:
        return 1 if self.tiny else 7

    @property
    def half(self) -> torch.dtype:
        """What halves are here: a GPU without bf16 has fp16."""
        return torch.bfloat16 if fast_bf16(self.device) else torch.float16


@dataclass(frozen=True)
class Found:
    """What a part found.

    Args:
        held: whether all that was to hold does.
        lines: for people.
        figures: the same for programs.
    """

    held: bool
    lines: list[str]
    figures: dict[str, Any] = field(default_factory=dict)


def loop_steps(
    model: nn.Module,
    batches: Any,
    optimizer: torch.optim.Optimizer,
    place: Place,
    *,
    start: int = 0,
    stop: int,
    dtype: torch.dtype | None = None,
    scale: LossScale | None = None,
) -> Iterator[Any]:
    """The program's own loop."""
    return train_steps(
        model,
        batches,
        optimizer,
        Schedule(stop, kind="constant", warmup="none"),
        start=start,
        iterations=stop,
        device=place.first,
        autocast=dtype,
        scale=scale,
        rests=lambda iteration: False,
    )


def turns(run: Callable[[], Any], place: Place, count: int, *, warm: bool = True) -> list[float]:
    """Seconds of each of some runs, all that the device was given included.

    Args:
        warm: runs once before, unmeasured.
    """

    def settled() -> None:
        run()
        wait_for(place.first)

    if warm:
        settled()
    return [seconds(settled)[0] for _ in range(count)]
