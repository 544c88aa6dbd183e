"""Whether images run faster together: batches of 2, 4 … beside one image at a time, on a processor.

    python benchmarks/batching.py runs/a
    python benchmarks/batching.py runs/a --height 320 --square --roads openvino

The same images of one size go through the network one by one and in batches, in turns, in torch and
as an OpenVINO network that was exported for that batch. Told is the processor's time of an image,
which other work on the machine changes less than the clock, and the clock beside it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import keep, parse
from inference import openvino_request, picture, width_of

from detnet.detectors.export.to_onnx import write_onnx
from detnet.detectors.files import load_model
from detnet.engine.processor import keep_freed_memory
from detnet.inference.fuse import fuse
from detnet.inference.models import find_model

ROADS = ("torch", "openvino")
Run = Callable[[np.ndarray], Any]


def torch_run(model: Any) -> Run:
    fused = fuse(model)

    def run(images: np.ndarray) -> Any:
        with torch.inference_mode():
            return fused(list(torch.from_numpy(images).float() / 255))

    return run


def openvino_run(model: Any, batch: int, folder: Path, threads: int) -> Run:
    file = folder / f"{batch}.onnx"
    write_onnx(fuse(model), file, batch=batch)
    request, _ = openvino_request(str(file), threads)
    return lambda images: request.infer([images])


def measure(runs: dict[int, Run], images: np.ndarray, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of an image by batch, of the processor and by the clock."""
    for batch, run in runs.items():
        run(images[:batch])
    times: dict[int, list[tuple[float, float]]] = {batch: [] for batch in runs}
    for _ in range(repeats):
        for batch, run in runs.items():
            start = time.process_time(), time.perf_counter()
            for at in range(0, len(images), batch):
                run(images[at : at + batch])
            taken = time.process_time() - start[0], time.perf_counter() - start[1]
            times[batch].append((taken[0] / len(images), taken[1] / len(images)))
    return {
        kind: {
            str(batch): round(statistics.median(each[place] for each in own), 5)
            for batch, own in times.items()
        }
        for place, kind in enumerate(("processor_s", "clock_s"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="run folder or .safetensors file")
    parser.add_argument("--threads", type=int, default=2, help="%(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="%(default)s")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4], help="%(default)s")
    parser.add_argument("--height", type=int, default=800, help="%(default)s")
    parser.add_argument("--square", action="store_true", help="as wide as high")
    parser.add_argument("--roads", nargs="+", choices=ROADS, default=ROADS)
    options = parse(parser)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    height, width = options.height, options.height if options.square else width_of(options.height)
    model = load_model(find_model(options.model)).eval()
    model.transform.min_size, model.transform.max_size = (min(height, width),), max(height, width)
    seeds = range(max(options.batches))
    images = np.stack([(picture(height, width, seed=seed) * 255).byte().numpy() for seed in seeds])
    for road in options.roads:
        with tempfile.TemporaryDirectory() as folder:
            runs = {
                batch: torch_run(model)
                if road == "torch"
                else openvino_run(model, batch, Path(folder), options.threads)
                for batch in sorted({1, *options.batches})
            }
            found = measure(runs, images, options.repeats)
        first = found["processor_s"]["1"]
        ratios = {batch: round(first / own, 3) for batch, own in found["processor_s"].items()}
        print(f"{road}, {height}x{width}: times as fast as one at a time, by batch: {ratios}")
        size = {"model": Path(options.model).name, "size": [height, width]}
        keep("batching", road=road, **size, repeats=options.repeats, ratios=ratios, **found)


if __name__ == "__main__":
    main()
