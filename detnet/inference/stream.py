"""Predicts on a row of files: decodes, detects and draws side by side, and keeps what was found.

While the detector runs, threads of their own decode what comes next and draw what it found before.
Pillow, torch and the runtimes work outside Python's lock. Few pictures are held at any time, and
what is given out and written is in the order of the files.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby, islice, repeat, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detnet.data.images import read_pixels
from detnet.errors import InputError
from detnet.evaluation.results import write_results
from detnet.files import replacing, write_text
from detnet.inference.media import MediaFile
from detnet.inference.prediction import Prediction
from detnet.inference.video import VideoWriter, read_frames, read_info

if TYPE_CHECKING:
    from detnet.inference.models import AnyPredictor

Item = TypeVar("Item")
Result = TypeVar("Result")

JPEG_QUALITY = 92
# That decode, and as many that draw; on two cores the detector needs both.
_THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))


@dataclass(frozen=True)
class PredictedImage:
    """What became of one image, or of one frame of a video.

    Args:
        file: it, or the video it is of.
        objects: how many were found.
        problem: why the file, or the rest of it, was passed over; None if it was not.
    """

    file: MediaFile
    objects: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class _Passing:
    """An image or a frame on its way through the threads.

    Args:
        file: it, or the video it is of.
        pixels: (H, W, 3) uint8, RGB; None where it could not be read.
        problem: why not.
        found: in it.
        entry: its line in `images.json`.
    """

    file: MediaFile
    pixels: Any = None
    problem: InputError | None = None
    found: Any = None
    entry: dict[str, Any] = field(default_factory=dict)


_END = _Passing(MediaFile(Path(), Path(), video=True, asked_for=False))


class PredictionRecords:
    """What `predictions.json`, COCO results, and `images.json`, which image an id is, will hold.

    Args:
        output: the folder of the drawn copies.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._begun = 0
        self._kept: dict[int, tuple[dict[str, Any], list[dict[str, Any]]]] = {}

    def begin(self, found: Prediction, file: MediaFile, **where: Any) -> dict[str, Any]:
        """Gives the next image its number and its line in `images.json`.

        Args:
            where: in the file, of a frame of a video.
        """
        self._begun += 1
        return {
            "id": self._begun,
            "file_name": file.path.name,
            "path": str(file.path),
            "drawn": file.destination.relative_to(self.output).as_posix(),
            "width": found.size[0],
            "height": found.size[1],
            **where,
        }

    def keep(self, found: Prediction, entry: dict[str, Any]) -> None:
        """Keeps what was found in an image whose drawn copy is written; from any thread."""
        self._kept[entry["id"]] = entry, found.to_coco(entry["id"])

    def write(self) -> None:
        """Writes both files, up to the first image that was begun and not kept."""
        numbers = takewhile(self._kept.__contains__, range(1, self._begun + 1))
        kept = [self._kept[number] for number in numbers]
        write_text(self.output / "images.json", json.dumps([entry for entry, _ in kept]))
        write_results(self.output / "predictions.json", [one for _, found in kept for one in found])


def predict_files(
    predictor: "AnyPredictor", files: Sequence[MediaFile], output: Path, *, batch_size: int = 1
) -> Generator[PredictedImage, None, None]:
    """Predicts on every file, writes drawn copies, and yields what became of each image or frame.

    What was found up to an error, or up to where the caller stops, is kept in `predictions.json`.

    Raises:
        InputError: a file that was asked for by its name cannot be read. One met in a folder is
            passed over instead, and its `problem` tells why.
    """
    output.mkdir(parents=True, exist_ok=True)
    Image.init()  # the list of formats fills itself on first use, which threads would do twice
    stream = _Stream(predictor, PredictionRecords(output), batch_size)
    try:
        for video, group in groupby(files, key=lambda file: file.video):
            if not video:
                yield from stream.of_images(group)
                continue
            for file in group:
                yield from stream.of_video(file)
    finally:
        stream.records.write()


class _Stream:
    """A detector with threads before and after it.

    Args:
        batch_size: images that it gets at once.
    """

    def __init__(
        self, predictor: "AnyPredictor", records: PredictionRecords, batch_size: int
    ) -> None:
        self.records = records
        self._predictor = predictor
        self._batch_size = batch_size
        self._ahead = batch_size + _THREADS  # so that a whole batch waits while another is run

    def of_images(self, files: Iterable[MediaFile]) -> Iterator[PredictedImage]:
        with ThreadPoolExecutor(_THREADS) as drawers, _dropping(_THREADS) as readers:
            read = self._in_order(lambda file: readers.submit(_read, file), files)
            found = self._detect(read)
            yield from self._in_order(lambda one: drawers.submit(self._keep_image, one), found)

    def of_video(self, file: MediaFile) -> Iterator[PredictedImage]:
        """The frames are decoded one after the other, and coded so; only drawing is not."""
        try:
            info = read_info(file.path)
            file.destination.parent.mkdir(parents=True, exist_ok=True)
            with (
                closing(_read_pictures(file)) as pictures,
                VideoWriter(file.destination, rate=info.rate) as writer,
                ThreadPoolExecutor(1) as coder,
                ThreadPoolExecutor(_THREADS) as drawers,
                _dropping(1) as reader,
            ):
                read = self._in_order(lambda it: reader.submit(next, it, _END), repeat(pictures))
                found = self._detect(takewhile(lambda one: one is not _END, read))
                drawn = self._in_order(lambda one: drawers.submit(_drawn, one), found)
                yield from self._in_order(
                    lambda one: coder.submit(self._keep_frame, writer, *one), drawn
                )
        except InputError as error:
            if file.asked_for:
                raise
            yield PredictedImage(file, problem=str(error))

    def _in_order(
        self, begin: Callable[[Item], "Future[Result]"], items: Iterable[Item]
    ) -> Iterator[Result]:
        return in_order(begin, items, ahead=self._ahead)

    def _detect(self, pictures: Iterable[_Passing]) -> Iterator[_Passing]:
        """Adds what was found; pictures that could not be read pass, unless they were asked for."""
        for group in batches(pictures, self._batch_size):
            refused = [one.problem is not None and one.file.asked_for for one in group]
            end = refused.index(True) if any(refused) else len(group)
            whole = group[:end]
            given = [one.pixels for one in whole if one.problem is None]
            found = iter(self._predictor.predict_batch(given))
            for one in whole:
                if one.problem is None:
                    prediction = next(found)
                    entry = self.records.begin(prediction, one.file, **one.entry)
                    one = replace(one, found=prediction, entry=entry)
                yield one
            if end < len(group) and (problem := group[end].problem):
                raise problem

    def _keep_image(self, one: _Passing) -> PredictedImage:
        if one.problem is not None:
            return PredictedImage(one.file, problem=str(one.problem))
        place = one.file.destination
        place.parent.mkdir(parents=True, exist_ok=True)
        drawn = one.found.draw(one.pixels)
        with replacing(place) as beside:
            drawn.save(beside, "JPEG" if place.suffix == ".jpg" else "PNG", quality=JPEG_QUALITY)
        self.records.keep(one.found, one.entry)
        return PredictedImage(one.file, objects=len(one.found))

    def _keep_frame(self, writer: VideoWriter, one: _Passing, drawn: Any) -> PredictedImage:
        writer.write(drawn)
        self.records.keep(one.found, one.entry)
        return PredictedImage(one.file, objects=len(one.found))


def _read(file: MediaFile) -> _Passing:
    try:
        return _Passing(file, read_pixels(file.path))
    except InputError as error:
        return _Passing(file, problem=error)


def _read_pictures(file: MediaFile) -> Generator[_Passing, None, None]:
    for frame in read_frames(file.path):
        where = {"frame": frame.index, "time_s": round(frame.time_s, 4)}
        yield _Passing(file, frame.pixels, entry=where)


def _drawn(one: _Passing) -> tuple[_Passing, NDArray[np.uint8]]:
    return one, np.asarray(one.found.draw(one.pixels))


@contextmanager
def _dropping(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that, at the end, leave what they have not begun."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(
    begin: Callable[[Item], "Future[Result]"], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    """Yields what becomes of each item, in their order, while up to `ahead` more are worked on.

    Where the items end with an `InputError`, it is raised after what came of those before.

    Args:
        begin: hands an item to a thread.
        ahead: how many may wait to be taken.
    """
    waiting: deque[Future[Result]] = deque()
    iterator, failed = iter(items), None
    while True:
        try:
            waiting.append(begin(next(iterator)))
        except StopIteration:
            break
        except InputError as error:
            failed = error
            break
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
    if failed is not None:
        raise failed


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cuts what comes into lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
