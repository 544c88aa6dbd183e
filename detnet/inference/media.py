"""Predicts on files and folders of them, and keeps what was found: drawn copies, COCO records."""

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detnet.data.images import IMAGE_SUFFIXES, TooLarge, listening, opened, read_image, require_size
from detnet.errors import InputError
from detnet.evaluation.results import write_results
from detnet.files import replacing, write_text
from detnet.inference.prediction import Prediction
from detnet.inference.predictor import Predictor


@dataclass(frozen=True)
class VideoFrame:
    """One picture of a video.

    Args:
        index: 0, 1, … as shown.
        time_s: when it is shown, seconds from the start.
        pixels: (H, W, 3) uint8, RGB, upright.
    """

    index: int
    time_s: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says; `frames` is 0 where it does not."""

    frames: int
    rate: Fraction


def read_info(path: Path) -> VideoInfo:
    """Reads a video's length and frames per second.

    Raises:
        InputError: the `video` extra is missing, the file is no video, or its pictures are larger
            than images may be.
    """
    with _open(path) as (_, stream):
        _require_size(path, stream)
        return VideoInfo(frames=int(stream.frames), rate=stream.average_rate or Fraction(25))


def read_frames(path: Path) -> Iterator[VideoFrame]:
    """Yields the frames of a video's first picture stream.

    Raises:
        InputError: as `read_info`, and when the file is damaged further on.
    """
    with _open(path) as (container, stream):
        _require_size(path, stream)
        stream.thread_type = "AUTO"
        rate = stream.average_rate or Fraction(25)
        for index, frame in enumerate(container.decode(stream)):
            time_s = float(index / rate) if frame.time is None else float(frame.time)
            _require_size(path, frame)  # it may change on the way
            pixels = frame.to_ndarray(format="rgb24")
            # Telephones store pictures as the sensor lies and say how to turn them.
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            yield VideoFrame(index, time_s, np.ascontiguousarray(np.rot90(pixels, turns)))


class VideoWriter:
    """Writes frames of one size as an H.264 MP4 (MPEG-4 where PyAV was built without H.264).

    Use it as a context manager; what was written up to an error can be played, too.

    Raises:
        InputError: the `video` extra is missing.
    """

    def __init__(self, path: Path, *, rate: Fraction) -> None:
        self.path = path
        self._av = _import_av()
        # Encoders want small numerators and denominators.
        self._rate = rate.limit_denominator(1001)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> "VideoWriter":
        self._container = self._av.open(str(self.path), mode="w")
        return self

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Appends a frame, (H, W, 3) uint8 in RGB; an odd row or column is repeated once."""
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:  # the colour planes have half the resolution
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._start(pixels.shape[1], pixels.shape[0])
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, *_: object) -> None:
        try:
            if self._stream is not None:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()
            if self._stream is None:
                self.path.unlink(missing_ok=True)

    def _start(self, width: int, height: int) -> Any:
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        return stream


def _require_size(path: Path, picture: Any) -> None:
    try:
        require_size(picture.width, picture.height)
    except TooLarge as error:
        raise InputError(f"{path}: {error}") from None


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("videos need the video extra: pip install 'detnet[video]'") from error
    return av


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    av = _import_av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video stream")
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        raise InputError(f"{path}: cannot be read as a video ({error.strerror})") from error


Item = TypeVar("Item")

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
JPEG_QUALITY = 92


@dataclass(frozen=True)
class MediaFile:
    """One file to predict on.

    Args:
        path: of the image or video.
        destination: of the drawn copy, below the output folder.
        video: whether it is a video.
        asked_for: named itself rather than met in a folder, so that it may not be passed over.
    """

    path: Path
    destination: Path
    video: bool
    asked_for: bool


def find_media(paths: Sequence[Path], output: Path) -> tuple[list[MediaFile], list[Path]]:
    """Lists the images and videos among files and folders, folders with all that is below them.

    What the output folder holds is passed over, so that running twice does not draw on drawings.

    Args:
        paths: files and folders.
        output: where drawn copies go: as in the folder given, under their names; the second of two
            that would get the same name is numbered.

    Returns:
        The files, in the order of `paths` and by name within folders, each file once; and the
        files in folders that are neither image nor video by their suffix.

    Raises:
        InputError: a path that does not exist, a file that is neither image nor video, an output
            folder that is the input's, or nothing to predict on.
    """
    found: list[tuple[Path, Path, bool]] = []
    skipped: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside, others = _search(path, output)
            found += [(file, file.relative_to(path), False) for file in inside]
            skipped += others
        elif path.exists():
            if not _is_video(path):
                _require_image(path)
            found.append((path, Path(path.name), True))
        else:
            raise InputError(f"{path}: no such file or folder")
    if not found:
        where = ", ".join(map(str, paths))
        raise InputError(f"{where}: no image or video found ({len(skipped)} other files)")
    return _with_destinations(found, output), skipped


def _search(folder: Path, output: Path) -> tuple[list[Path], list[Path]]:
    inside: list[Path] = []
    others: list[Path] = []
    root, out = folder.resolve(), output.resolve()
    if root == out:
        raise InputError(f"{folder}: is the output folder too; choose another --output")
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or (root in out.parents and out in file.resolve().parents):
            continue
        (inside if _is_known(file) else others).append(file)
    return inside, others


def _require_image(path: Path) -> None:
    """Reads the file's header only, so that the mistake shows before a model is loaded."""
    try:
        with listening(), opened(path):
            pass
    except TooLarge as error:
        raise InputError(f"{path}: {error}") from None
    except Image.UnidentifiedImageError as error:
        videos = ", ".join(VIDEO_SUFFIXES)
        raise InputError(f"{path}: neither an image nor a video ({videos})") from error


def _with_destinations(found: Sequence[tuple[Path, Path, bool]], output: Path) -> list[MediaFile]:
    files: dict[Path, MediaFile] = {}
    taken: set[str] = set()
    for path, name, asked_for in found:
        real = path.resolve()
        if real in files:
            continue
        name = name.with_suffix(_drawn_suffix(path))
        number = 1
        unique = name
        while str(unique).lower() in taken:  # some file systems do not tell A.jpg from a.jpg
            number += 1
            unique = name.with_stem(f"{name.stem}-{number}")
        taken.add(str(unique).lower())
        files[real] = MediaFile(path, output / unique, _is_video(path), asked_for)
    inside = output.resolve()
    for file in files.values():
        place = file.destination.resolve()
        if place in files:
            raise InputError(f"{file.path}: would be overwritten; choose another --output")
        if inside not in place.parents:
            raise InputError(
                f"{file.destination}: a link there leads out of {output}; remove it, or choose "
                "another --output"
            )
    return list(files.values())


def _drawn_suffix(path: Path) -> str:
    if _is_video(path):
        return ".mp4"
    return ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or _is_video(path)


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


class PredictionRecords:
    """What `predictions.json`, COCO results, and `images.json`, which image an id is, will hold."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []

    def add(self, found: Prediction, file: MediaFile, output: Path, **where: Any) -> None:
        image_id = len(self.images) + 1
        self.results += found.to_coco(image_id)
        self.images.append(
            {
                "id": image_id,
                "file_name": file.path.name,
                "path": str(file.path),
                "drawn": file.destination.relative_to(output).as_posix(),
                "width": found.size[0],
                "height": found.size[1],
                **where,
            }
        )

    def write(self, output: Path) -> None:
        write_text(output / "images.json", json.dumps(self.images))
        write_results(output / "predictions.json", self.results)


def predict_files(
    predictor: Predictor, files: Sequence[MediaFile], output: Path, *, batch_size: int = 1
) -> Generator[PredictedImage, None, None]:
    """Predicts on every file, writes drawn copies, and yields what became of each image or frame.

    What was found up to an error, or up to where the caller stops, is kept in `predictions.json`.

    Raises:
        InputError: a file that was asked for by its name cannot be read. One met in a folder is
            passed over instead, and its `problem` tells why.
    """
    output.mkdir(parents=True, exist_ok=True)
    records = PredictionRecords()
    try:
        for group in _groups(files, batch_size):
            if group[0].video:
                yield from _predict_video(predictor, group[0], output, records, batch_size)
            else:
                yield from _predict_images(predictor, group, output, records)
    finally:
        records.write(output)


def _groups(files: Sequence[MediaFile], size: int) -> Iterator[list[MediaFile]]:
    """Neighbouring images in groups of up to `size`, each video alone."""
    for video, group in groupby(files, key=lambda file: file.video):
        yield from batches(group, 1 if video else size)


def _predict_images(
    predictor: Predictor, images: Sequence[MediaFile], output: Path, records: PredictionRecords
) -> Iterator[PredictedImage]:
    read: list[tuple[MediaFile, Tensor]] = []
    for file in images:
        try:
            read.append((file, read_image(file.path)))
        except InputError as error:
            if file.asked_for:
                raise
            yield PredictedImage(file, problem=str(error))
    found = predictor.predict_batch([image for _, image in read])
    for (file, image), prediction in zip(read, found, strict=True):
        file.destination.parent.mkdir(parents=True, exist_ok=True)
        picture = prediction.draw(image)
        with replacing(file.destination) as beside:
            kind = "JPEG" if file.destination.suffix == ".jpg" else "PNG"
            picture.save(beside, kind, quality=JPEG_QUALITY)
        records.add(prediction, file, output)
        yield PredictedImage(file, objects=len(prediction))


def _predict_video(
    predictor: Predictor, file: MediaFile, output: Path, records: PredictionRecords, batch_size: int
) -> Iterator[PredictedImage]:
    try:
        info = read_info(file.path)
        file.destination.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(file.destination, rate=info.rate) as writer:
            for frames in batches(read_frames(file.path), batch_size):
                found = predictor.predict_batch([frame.pixels for frame in frames])
                for frame, prediction in zip(frames, found, strict=True):
                    writer.write(np.asarray(prediction.draw(frame.pixels)))
                    place = {"frame": frame.index, "time_s": round(frame.time_s, 4)}
                    records.add(prediction, file, output, **place)
                    yield PredictedImage(file, objects=len(prediction))
    except InputError as error:
        if file.asked_for:
            raise
        yield PredictedImage(file, problem=str(error))


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cuts what comes into lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
