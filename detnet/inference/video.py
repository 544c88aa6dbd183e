"""Reads and writes videos, frame by frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detnet.data.images import TooLarge, require_size
from detnet.errors import InputError


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
    """Writes frames as an H.264 MP4 (MPEG-4 where PyAV was built without H.264).

    Its size is the first frame's. Recordings of calls change theirs on the way: later frames are
    scaled to the first, as players show them, rather than lost.

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
