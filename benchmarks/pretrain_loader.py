"""Images per second of pre-training from files against the same steps on cached tensors.

    python benchmarks/pretrain_loader.py

ResNet-50 at 224, a batch of 16 (`--batch`), JPEGs of 500 × 375 made here with the spectrum of
photographs. Both run `detnet pretrain`'s own steps: bf16 autocast where it is fast, channels_last,
SGD, colours changed on the device. From files, two workers read, decode, crop and flip beside the
step; from tensors, one batch is shown again and again. In turns, each timed after some steps, so
that what is read ahead is the same before and after. `ratio` is images per second from files over
those from tensors; the promise is 0.9. On a CPU, `share` is of the steps on tensors.
`processor_ratio` is the same in seconds of the cores, which
other work on the machine moves less.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from harness import arguments, in_words, keep
from machine import MatrixProduct, Work, count_training, gflops, precision_name, seconds, share
from PIL import Image

from detnet.data.classification.transforms import TrainView
from detnet.engine.distributed import Process
from detnet.engine.loop import Batch, train_steps
from detnet.engine.machine import choose_precision
from detnet.engine.optim import Schedule, sgd
from detnet.engine.processor import keep_freed_memory
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.train import PretrainTask

FILES, WIDTH, HEIGHT = 200, 500, 375
WARM_UP = 4  # steps before the clock is started


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


class Turns:
    """Training steps of one model, on batches from anywhere."""

    def __init__(self, task: PretrainTask, steps: int) -> None:
        self.task, self.steps, self.device = task, steps, task.process.device
        self.dtype = choose_precision("auto", self.device)
        model, _ = task.make_model()
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = sgd(self.model, lr=1e-4)
        self.cached = next(task.stream(start=0, stop=1))

    def on_files(self) -> tuple[float, float]:
        return self._time(self.task.stream(start=0, stop=WARM_UP + self.steps))

    def on_tensors(self) -> tuple[float, float]:
        return self._time(itertools.repeat(self.cached))

    def macs(self) -> int:
        """Of all steps that are timed."""
        images, targets = (part[:1] for part in self.cached)
        one = count_training(lambda: self.model(images, targets)["loss_classifier"].backward())
        self.optimizer.zero_grad()
        return one * len(self.cached[0]) * self.steps

    def _time(self, batches: Iterator[Batch]) -> tuple[float, float]:
        """Seconds, and seconds of all cores in this process, that the steps took."""
        total = WARM_UP + self.steps
        steps = train_steps(
            self.model,
            batches,
            self.optimizer,
            Schedule(total, kind="constant", warmup="none"),
            start=0,
            iterations=total,
            device=self.device,
            autocast=self.dtype,
        )
        for _ in range(WARM_UP):
            next(steps)
        began, busy = time.perf_counter(), time.process_time()
        for _ in steps:
            pass
        return time.perf_counter() - began, time.process_time() - busy


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
        mean_bytes = write_pictures(Path(place))
        changes = {"data": place, "batch_size": options.batch, "workers": options.workers}
        config = PretrainConfig.make(None, {**changes, "backbone": "resnet50", "val_split": "none"})
        task = PretrainTask(config)
        task.resolve(load_weights=True)
        task.read_data(Process(0, 1, device))
        turns = Turns(task, options.steps)
        read_ms = reading_ms(Path(place))
        turns.on_tensors()
        product = MatrixProduct(turns.dtype) if device.type == "cpu" else None
        taken, product_s = [], []
        for _ in range(options.repeats):
            taken.append((*turns.on_files(), *turns.on_tensors()))
            if product is not None:
                product_s.append(seconds(product)[0])
    files_s, files_busy, tensors_s, tensors_busy = (
        statistics.median(values) for values in zip(*taken, strict=True)
    )
    images = options.batch * options.steps
    facts = {"precision": precision_name(turns.dtype)}
    if product is not None:
        pace = gflops(product.macs, statistics.median(product_s))
        facts = share(Work(turns.macs(), turns.dtype), tensors_s, pace)
    line = keep(
        "pretrain_loader",
        ratio=round(tensors_s / files_s, 3),
        processor_ratio=round(tensors_busy / (files_busy + read_ms / 1000 * images), 3),
        files_images_per_s=round(images / files_s, 2),
        tensors_images_per_s=round(images / tensors_s, 2),
        read_ms=round(read_ms, 3),
        batch=options.batch,
        steps=options.steps,
        workers=options.workers,
        repeats=options.repeats,
        jpeg_bytes=mean_bytes,
        target=str(device),
        **facts,
    )
    print(
        f"{line['files_images_per_s']} images/s from files, {line['tensors_images_per_s']} on "
        f"cached tensors: {line['ratio']}; in processor time {line['processor_ratio']}; "
        f"{read_ms:.2f} ms to read one"
    )
    if "share" in line:
        print(in_words(line))


if __name__ == "__main__":
    main()
