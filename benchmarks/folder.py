"""A folder of pictures through `predict`, decoded, detected and drawn, beside its detector alone.

    python benchmarks/folder.py exported
    python benchmarks/folder.py exported --pictures data/val --images 48 --repeats 3

The pictures are scaled to --height and --width and written as JPEG. In turns the detector gets
their pixels one after the other, and `predict` their folder. Told are images a second of both, and
what an image takes of the processor, which other work on the machine changes less.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import keep, parse
from malformed import picture
from PIL import Image

from detnet.inference.engines.base import Pixels
from detnet.inference.engines.predictor import EnginePredictor
from detnet.inference.media import find_media
from detnet.inference.server.models import open_served
from detnet.inference.stream import predict_files


def write_pictures(folder: Path, source: Path | None, count: int, size: tuple[int, int]) -> None:
    """Writes so many JPEG files of this height and width."""
    folder.mkdir()
    found = sorted(each.path for each in find_media([source], folder)[0]) if source else []
    for number in range(count):
        whole = found[number % len(found)] if found else io.BytesIO(picture("PNG", seed=number))
        with Image.open(whole) as image:
            scaled = image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
        scaled.save(folder / f"{number:04}.jpg", quality=90)


def timed(run: Callable[[], Any], images: int) -> tuple[float, float]:
    """Seconds that an image takes by the clock, and of the processor."""
    start = time.perf_counter(), time.process_time()
    run()
    return (
        (time.perf_counter() - start[0]) / images,
        (time.process_time() - start[1]) / images,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--pictures", type=Path, help="folder of images; soft patches by default")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1216)
    args = parse(parser)
    engine = open_served(args.model, args.engine)
    predictor = EnginePredictor(engine)
    at_once = engine.batch or 1
    with tempfile.TemporaryDirectory() as work:
        inputs = Path(work, "in")
        write_pictures(inputs, args.pictures, args.images, (args.height, args.width))
        pixels: list[Pixels] = []
        for file in sorted(inputs.iterdir()):
            with Image.open(file) as image:
                pixels.append(np.asarray(image))
        objects: list[int] = []

        def alone() -> None:
            for start in range(0, len(pixels), at_once):
                engine.detect(pixels[start : start + at_once], score_threshold=0.5)

        def folder() -> None:
            output = Path(work, f"out{len(objects)}")
            files, _ = find_media([inputs], output)
            done = list(predict_files(predictor, files, output, batch_size=at_once))
            objects.append(sum(one.objects for one in done))

        runs = {"engine": alone, "folder": folder}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for run in runs.values():
            run()
        for _ in range(args.repeats):
            for name, run in runs.items():
                times[name].append(timed(run, args.images))
    clock, processor = (
        {name: statistics.median(own[at] for own in times[name]) for name in runs} for at in (0, 1)
    )
    line = keep(
        "folder",
        model=Path(args.model).name,
        runs_as=f"{engine.name} {engine.precision}",
        size=[args.height, args.width],
        images=args.images,
        objects=objects[-1],
        repeats=args.repeats,
        images_per_s={name: round(1 / own, 3) for name, own in clock.items()},
        processor_s={name: round(own, 5) for name, own in processor.items()},
        share=round(clock["engine"] / clock["folder"], 3),
        processor_share=round(processor["engine"] / processor["folder"], 3),
    )
    pace = line["images_per_s"]
    print(
        f"{line['runs_as']}, {args.height}x{args.width}, {objects[-1]} objects: the folder "
        f"{pace['folder']} images a second, the engine alone {pace['engine']}: {line['share']:.0%} "
        f"(of the processor's time {line['processor_share']:.0%})"
    )


if __name__ == "__main__":
    main()
