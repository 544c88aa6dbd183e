"""The part of `gpu.py` that takes all devices: synchronised norm and DDP, a process for each.

    python benchmarks/gpu_parts/ranks.py FILE [PLUGIN]

is what each of its processes runs; the first one leaves the weights in FILE.
"""

import importlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from gpu import ROOT
from gpu_parts.place import Found, Place, loop_steps
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detnet.backbones import build_backbone
from detnet.engine import distributed
from detnet.engine.machine import configure_cuda
from detnet.engine.optim import sgd

_IMAGES, _STEPS, _SECONDS = 4, 3, 200  # of each process, of the run, and at most
# Of the weights, relative to the largest change of one. Two processes came to 1e-5 on a processor,
# to 0.3 with each its own norm, to 0.6 without an exchange of gradients.
_BOUND = 0.002


class _Net(nn.Module):
    """A backbone with synchronised norm, and a loss that is a mean over images.

    Its residual branches say little at first, as trained ones do: norms of drawn ones make of a
    rounding a hundredth of the first step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build_backbone("resnet50", width=0.125, norm="sync")
        for name, layer in self.backbone.named_modules():
            if name.endswith("bn3"):
                nn.init.constant_(layer.get_parameter("weight"), 0.1)
        self.head = nn.Linear(self.backbone.feature_info[-1].channels, 1)

    def forward(self, images: list[Tensor], targets: list[dict[str, Any]]) -> dict[str, Tensor]:
        features = self.backbone(torch.stack(images).float() / 255)
        found = self.head(list(features.values())[-1].mean((2, 3)))[:, 0].float()
        aims = torch.stack([target["aim"] for target in targets])
        return {"loss": (found - aims).square().mean()}


def part_ddp(place: Place, *, processes: int = 0) -> Found:
    """Three steps on all devices are those of one device with all their images.

    Args:
        processes: how many; 0 for one on each device.
    """
    devices = torch.get_device_module(place.device).device_count()
    count = processes or devices
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pt"
        ranks = [
            _start(file, place, rank, count, local=rank % devices, port=port)
            for rank in range(count)
        ]
        try:
            told = [rank.communicate(timeout=_SECONDS)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
        for rank, text in zip(ranks, told, strict=True):
            if rank.returncode:
                raise RuntimeError((text.strip() or "no word").splitlines()[-1])
        found = torch.load(file, map_location="cpu", weights_only=True)
    model = _trained(place, rank=0, count=1, images=_IMAGES * count)
    torch.manual_seed(0)
    before, expected = dict(_Net().named_parameters()), dict(model.named_parameters())
    changed = max((expected[n].cpu() - each).abs().max().item() for n, each in before.items())
    away = max((expected[n].cpu() - found[n]).abs().max().item() for n in before)
    line = (
        f"{count} process{'es' if count > 1 else ''}: weights within {away / changed:.1e} of the "
        "largest change of one"
    )
    return Found(away <= _BOUND * changed, [line], {"processes": count, "away": away / changed})


def _start(file: Path, place: Place, rank: int, count: int, *, local: int, port: int) -> Any:
    places = {"RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": count, "MASTER_PORT": port}
    environment = {**os.environ, **{name: str(value) for name, value in places.items()}}
    command = [sys.executable, __file__, str(file), *([place.plugin] if place.plugin else [])]
    environment["MASTER_ADDR"] = "127.0.0.1"
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _trained(place: Place, *, rank: int, count: int, images: int) -> nn.Module:
    """The network after the steps on this process's share of the images."""
    configure_cuda(place.device, tf32=False, fixed_size=False)
    torch.manual_seed(0)
    model = _Net().to(place.device)
    wrapped = DistributedDataParallel(model) if distributed.several() else model
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(_STEPS):
        pixels = torch.randint(0, 256, (images, 3, 64, 96), dtype=torch.uint8, generator=generator)
        aims = torch.rand(images, generator=generator)
        mine = slice(rank * images // count, (rank + 1) * images // count)
        batches.append(([*pixels[mine]], [{"aim": aim} for aim in aims[mine]]))
    optimizer = sgd(model, lr=0.001, fused=True)
    for _ in loop_steps(wrapped, batches, optimizer, place, stop=_STEPS):
        pass
    return model


def main() -> None:
    file, *plugins = sys.argv[1:]
    for name in plugins:
        importlib.import_module(name)
    process = distributed.setup()
    place = Place(process.device)
    count = process.world_size
    model = _trained(place, rank=process.rank, count=count, images=_IMAGES * count)
    if process.main:
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, file)
    distributed.barrier()
    distributed.cleanup()
    distributed.leave(0)


if __name__ == "__main__":
    main()
