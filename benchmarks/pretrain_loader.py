"""Images per second of pre-training from files against the same steps on cached tensors.

    python benchmarks/pretrain_loader.py

ResNet-50 at 224, a batch of 16 (`--batch`), JPEGs of 500 × 375 made here with the spectrum of
photographs. Both run `detnet pretrain`'s own steps: bf16 autocast where it is fast, channels_last,
SGD, colours changed on the device. From files, two workers read, decode, crop and flip beside the
step; from tensors, one batch is shown again and again. In turns, each turn with workers of its own
whose start counts too. `ratio` is images per second from files over those from tensors; the promise
is 0.9. `processor_ratio` is the same in seconds of the cores, which other work on the machine moves
less.
"""

import os

# As `detnet` itself does, before torch is loaded: waiting threads leave the cores to the workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gc
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import arguments, compare
from PIL import Image

from detnet.data.classification_transforms import TrainView
from detnet.engine.distributed import Process
from detnet.engine.loop import Batch, train_steps
from detnet.engine.memory import keep_freed_memory
from detnet.engine.optim import Schedule, sgd
from detnet.engine.precision import choose_precision
from detnet.recipes.pretrain import PretrainTask
from detnet.recipes.pretrain_config import make_config

FILES, WIDTH, HEIGHT = 200, 500, 375


def write_pictures(folder: Path) -> int:
    """Writes two classes of pictures whose detail falls with its fineness; their mean bytes."""
    fine = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :])
    sizes = []
    for number in range(FILES):
        random = np.random.default_rng(number)
        noise = np.fft.rfft2(random.standard_normal((3, HEIGHT, WIDTH))) / (fine + 0.004)
        pixels = np.fft.irfft2(noise, s=(HEIGHT, WIDTH)).transpose(1, 2, 0)
        low, high = np.percentile(pixels, (1, 99))
        pixels = ((pixels - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
        place = folder / "train" / str(number % 2) / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place, quality=90)
        sizes.append(place.stat().st_size)
    return round(float(np.mean(sizes)))


def stepper(task: PretrainTask, steps: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """Gives what takes so many steps from files, and what takes them on cached tensors."""
    model, _ = task.make_model(carry=True)
    device = task.process.device
    model = model.to(device).to(memory_format=torch.channels_last)
    optimizer = sgd(model, lr=1e-4)
    autocast = choose_precision("auto", device)

    def run(batches: Iterator[Batch]) -> float:
        loss = 0.0
        for step in train_steps(
            model,
            batches,
            optimizer,
            Schedule(steps, kind="constant", warmup="none"),
            start=0,
            iterations=steps,
            device=device,
            autocast=autocast,
        ):
            loss = step.total
        return loss

    cached = next(task.stream(start=0, stop=1))
    return (
        lambda: processor_s(lambda: run(task.stream(start=0, stop=steps))),
        lambda: processor_s(lambda: run(itertools.repeat(cached))),
    )


def processor_s(work: Callable[[], float]) -> float:
    """Seconds of all cores that work takes, the workers' too, which are gone when it ends."""
    before = os.times()
    work()
    gc.collect()
    return sum(os.times()[:4]) - sum(before[:4])


def reading_ms(folder: Path) -> float:
    """Milliseconds of one core to read, decode and crop one image."""
    files = [BytesIO(path.read_bytes()) for path in sorted(folder.rglob("*.jpg"))]
    view = TrainView()
    began = time.process_time()
    for number, content in enumerate(files):
        view(folder, np.random.default_rng(number), content)
    return 1000 * (time.process_time() - began) / len(files)


def main() -> None:
    options = arguments(__doc__ or "", batch=16, steps=24, workers=2)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        mean_bytes = write_pictures(folder)
        changes = {"data": place, "batch_size": options.batch, "workers": options.workers}
        config = make_config(None, {**changes, "backbone": "resnet50", "val_split": "none"})
        task = PretrainTask(config, Process(0, 1, 0, device))
        read_ms = reading_ms(folder)
        files, tensors = stepper(task, options.steps)
        images = options.batch * options.steps
        facts: dict[str, Any] = {
            "batch": options.batch,
            "steps": options.steps,
            "workers": options.workers,
            "jpeg_bytes": mean_bytes,
            "read_ms": round(read_ms, 3),
            "target": str(device),
        }
        facts["processor_ratio"] = round(tensors() / files(), 3)
        line = compare("pretrain_loader", files, tensors, repeats=options.repeats, facts=facts)
    print(
        f"{images / line['ours_s']:.1f} images/s from files, "
        f"{images / line['theirs_s']:.1f} on cached tensors; {read_ms:.2f} ms to read one; "
        f"processor time {facts['processor_ratio']:.3f}"
    )


if __name__ == "__main__":
    main()
