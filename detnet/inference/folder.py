"""Predicts on many files and keeps what was found: drawn copies and COCO records."""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from detnet.data.images import read_image
from detnet.errors import InputError
from detnet.evaluation.results import write_results
from detnet.files import replacing, write_text
from detnet.inference.predictor import Prediction, Predictor, batches
from detnet.inference.sources import Source
from detnet.inference.video import VideoWriter, read_frames, read_info

JPEG_QUALITY = 92


@dataclass(frozen=True)
class Outcome:
    """What became of one image, or of one frame of a video.

    Args:
        source: the file.
        objects: how many were found.
        problem: why the file, or the rest of it, was passed over; None if it was not.
    """

    source: Source
    objects: int = 0
    problem: str | None = None


class PredictionFiles:
    """What `predictions.json`, COCO results, and `images.json`, which image an id is, will hold."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []

    def add(self, found: Prediction, source: Source, output: Path, **where: Any) -> None:
        image_id = len(self.images) + 1
        self.results += found.to_coco(image_id)
        self.images.append(
            {
                "id": image_id,
                "file_name": source.path.name,
                "path": str(source.path),
                "drawn": source.destination.relative_to(output).as_posix(),
                "width": found.size[0],
                "height": found.size[1],
                **where,
            }
        )

    def write(self, output: Path) -> None:
        write_text(output / "images.json", json.dumps(self.images))
        write_results(output / "predictions.json", self.results)


def predict_files(
    predictor: Predictor, sources: Sequence[Source], output: Path, *, batch_size: int = 1
) -> Generator[Outcome, None, None]:
    """Predicts on every source, writes drawn copies, and yields one outcome per image or frame.

    What was found up to an error, or up to where the caller stops, is kept in `predictions.json`.

    Raises:
        InputError: a file that was asked for by its name cannot be read. One met in a folder is
            passed over instead, and its outcome tells why.
    """
    output.mkdir(parents=True, exist_ok=True)
    files = PredictionFiles()
    try:
        for group in _groups(sources, batch_size):
            if group[0].video:
                yield from _predict_video(predictor, group[0], output, files, batch_size)
            else:
                yield from _predict_images(predictor, group, output, files)
    finally:
        files.write(output)


def _groups(sources: Sequence[Source], size: int) -> Iterator[list[Source]]:
    """Neighbouring images in groups of up to `size`, each video alone."""
    group: list[Source] = []
    for source in sources:
        if group and (source.video or len(group) == size):
            yield group
            group = []
        if source.video:
            yield [source]
        else:
            group.append(source)
    if group:
        yield group


def _predict_images(
    predictor: Predictor, group: Sequence[Source], output: Path, files: PredictionFiles
) -> Iterator[Outcome]:
    read: list[tuple[Source, Tensor]] = []
    for source in group:
        try:
            read.append((source, read_image(source.path)))
        except InputError as error:
            if source.asked_for:
                raise
            yield Outcome(source, problem=str(error))
    found = predictor.predict_batch([image for _, image in read])
    for (source, image), prediction in zip(read, found, strict=True):
        source.destination.parent.mkdir(parents=True, exist_ok=True)
        picture = prediction.draw(image)
        with _naming(source.destination), replacing(source.destination) as beside:
            kind = "JPEG" if source.destination.suffix == ".jpg" else "PNG"
            picture.save(beside, kind, quality=JPEG_QUALITY)
        files.add(prediction, source, output)
        yield Outcome(source, objects=len(prediction))


def _predict_video(
    predictor: Predictor, source: Source, output: Path, files: PredictionFiles, batch_size: int
) -> Iterator[Outcome]:
    try:
        info = read_info(source.path)
        source.destination.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(source.destination, rate=info.rate) as writer:
            for frames in batches(read_frames(source.path), batch_size):
                found = predictor.predict_batch([frame.pixels for frame in frames])
                for frame, prediction in zip(frames, found, strict=True):
                    writer.write(np.asarray(prediction.draw(frame.pixels)))
                    place = {"frame": frame.index, "time_s": round(frame.time_s, 4)}
                    files.add(prediction, source, output, **place)
                    yield Outcome(source, objects=len(prediction))
    except InputError as error:
        if source.asked_for:
            raise
        yield Outcome(source, problem=str(error))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Adds the file to an error that does not name one: a write to a full disk only tells why."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
