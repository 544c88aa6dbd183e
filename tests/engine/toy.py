"""A toy detector, its batches and a run of it, for the engine's tests and their processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detnet.engine.checkpoint import load, restore_rng_state, rng_state, save
from detnet.engine.loop import Batch, train_steps
from detnet.engine.optim import Ema, Schedule, sgd
from detnet.engine.watch import Step

BLACK, FLAT, WELL = "black", "flat", "well"
CPU = torch.device("cpu")


class Toy(nn.Module):
    """Two losses; that of a black image is infinite, of a flat one only the gradient is NaN."""

    def __init__(self, *, dropout: float = 0.0, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(4, 1)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: list[Tensor], targets: list[dict[str, Any]]) -> dict[str, Tensor]:
        pixels = torch.stack(images).float() / 255
        features = self.dropout(self.norm(self.conv(pixels)).relu())
        found = self.out(features.mean((2, 3))).float().squeeze(1)
        wanted = torch.stack([target["boxes"].sum() for target in targets])
        brightness = (pixels.mean((1, 2, 3)) * self.scale.square()).log()
        contrast = (pixels.var((1, 2, 3)) * self.scale.square()).sqrt()
        return {
            "loss_box_reg": (found - wanted).square().mean(),
            "loss_classifier": (brightness.square() + contrast).mean(),
        }


def batch(number: int, size: int = 2, kind: str = WELL) -> Batch:
    """Batch `number` of a run; images are 6 x 9 and carry ids from 100 * number on."""
    generator = torch.Generator().manual_seed(number)
    images, targets = [], []
    for place in range(size):
        image = torch.randint(20, 256, (3, 6, 9), generator=generator, dtype=torch.uint8)
        if place == 0 and kind != WELL:
            image = torch.full_like(image, 0 if kind == BLACK else 128)
        boxes = torch.rand(2, 4, generator=generator)
        images.append(image)
        targets.append({"boxes": boxes, "image_id": 100 * number + place})
    return images, targets


def batches(start: int = 0, size: int = 2) -> Iterator[Batch]:
    number = start
    while True:
        yield batch(number, size)
        number += 1


class Run:
    """All that a run's state consists of, put together as a recipe does."""

    def __init__(self, *, fused: bool = False, **options: Any) -> None:
        self.model = Toy(**options)
        self.optimizer = sgd(self.model, lr=0.05, fused=fused)
        self.schedule = Schedule(8, "cosine", warmup="linear", warmup_iterations=3)
        self.ema = Ema(self.model, 0.9)
        self.start = 0

    def steps(self, iterations: int, source: Any = None, **options: Any) -> Iterator[Step]:
        source = batches(self.start) if source is None else source
        options = {"model": self.model, "device": CPU, "ema": self.ema, **options}
        yield from train_steps(
            batches=source,
            optimizer=self.optimizer,
            schedule=self.schedule,
            start=self.start,
            iterations=iterations,
            **options,
        )

    def save(self, path: Path, iteration: int) -> None:
        save(
            path,
            {
                "iteration": iteration,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict(),
                "rng": rng_state(),
            },
        )

    def resume(self, path: Path) -> None:
        state = load(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.start = state["iteration"]
        restore_rng_state(state["rng"])

    def bits(self) -> dict[str, Tensor]:
        """Every tensor of the state."""
        found = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        found |= {f"ema.{name}": value for name, value in self.ema.model_state().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            found[f"momentum.{number}"] = state["momentum_buffer"]
        return {name: value.clone() for name, value in found.items()}
