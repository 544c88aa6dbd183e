"""Runs that tests make, end and compare."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from detnet.engine import checkpoint
from detnet.engine.runs import RunFolder

CLOCKS = ("images_per_s", "data_s", "step_s", "seconds")


class Kill(Exception):
    """Stands for kill -9: nothing is saved on the way out."""


def quiet(event: dict[str, Any]) -> None:
    pass


def killed_after(iteration: int) -> Callable[[dict[str, Any]], None]:
    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["iteration"] == iteration:
            raise Kill

    return on_event


def metrics(run: Path) -> list[dict[str, Any]]:
    events = RunFolder.open(run).read_metrics()
    return [{k: v for k, v in event.items() if k not in CLOCKS} for event in events]


def assert_same_run(one: Path, other: Path, *files: str) -> None:
    """Same metrics, same last model and state, and the same bytes in the other files named."""
    assert metrics(one) == metrics(other)
    for name in ("model.safetensors", *files):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    a, b = (checkpoint.load(run / "last.ckpt") for run in (one, other))
    for key in ("model", "ema", "optimizer", "rng", "task"):
        assert_equal_trees(a[key], b[key])
    del a["progress"]["seconds"], b["progress"]["seconds"]
    assert a["progress"] == b["progress"]


def assert_equal_trees(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal_trees(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal_trees(x, y)
    else:
        assert a == b
