"""Images wait here in order; they are decoded ahead, and run together where that is faster."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import numpy as np

from detnet.engine.memory import is_out_of_memory, out_of_memory_line
from detnet.errors import InputError
from detnet.inference.engines.base import Engine, Found, Pixels
from detnet.inference.server.meters import Meters
from detnet.inference.server.models import usual_score
from detnet.inference.server.refusals import RefusedRequest
from detnet.inference.server.settings import TAKES_LESS, ServerLimits
from detnet.inference.server.uploads import check_image, decode_image

logger = logging.getLogger("detnet.server")
_NEWEST = 0.2  # the last batch's share of the moving average of seconds per image
_NOTHING = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class SeenImage:
    """What was found in one image of a request.

    Args:
        found: surest first.
        height: of the upright image, pixels.
        width: likewise.
    """

    found: Found
    height: int
    width: int


@dataclass(eq=False)
class _Waiting:
    """One image on its way. `content` and then `pixels` are let go of as soon as they are used."""

    content: bytes
    threshold: float
    answer: asyncio.Future[SeenImage]
    pixels: Pixels = field(default_factory=lambda: _NOTHING)


class ImageQueue:
    """Runs the engine on images in the order of their arrival; lives on one event loop.

    Nothing is accepted that would have to wait longer than `limits` say, by the time that images
    took lately: so whatever was accepted can be finished when the server is told to end.

    Args:
        engine: what finds objects; asked by one thread at a time.
        limits: of the queue and of batches.
        meters: what is counted.
        seconds_per_image: a first estimate.
    """

    def __init__(
        self,
        engine: Engine,
        limits: ServerLimits,
        meters: Meters,
        *,
        seconds_per_image: float = 0.0,
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.max_batch = limits.max_batch or engine.batch or 1
        self.seconds_per_image = seconds_per_image
        self._decoding_s = 0.0  # likewise, of its decoding
        self.closed = False
        self._meters = meters
        self._waiting: deque[_Waiting] = deque()
        self._decoded: deque[_Waiting] = deque()
        self._decoding: _Waiting | None = None
        self._running = 0
        self._changed = asyncio.Event()
        # Decoding lets go of Python's lock, so it goes on beside the engine.
        self._readers = ThreadPoolExecutor(2, "read")
        self._runner = ThreadPoolExecutor(1, "detect")
        meters.watch_queue(lambda: self.length)

    @property
    def length(self) -> int:
        """How many images wait; those that run are no longer among them."""
        decoding = self._decoding is not None and not self._decoding.answer.done()
        return len(self._waiting) + len(self._decoded) + decoding

    def require_places(self, count: int) -> None:
        """Refuses images that would find no place, or would have to wait too long.

        Args:
            count: of images that come together.

        Raises:
            RefusedRequest: with the time after which a place may be free.
        """
        limits = self.limits
        each_s = max(self.seconds_per_image, self._decoding_s)  # they go on side by side
        if self.closed:
            raise RefusedRequest(503, "the server is about to end", retry_after_s=1)
        most = max(1, min(limits.max_queue, int(limits.max_delay_s / max(each_s, 1e-9))))
        if count > most:
            raise RefusedRequest(413, f"{count} images in one request; send {most} at most")
        ahead = self.length + self._running
        full = self.length + count > limits.max_queue
        if full or ahead and (ahead + count) * each_s > limits.max_delay_s:
            waits = f"{ahead} images are ahead, {limits.max_delay_s:g} s of waiting too little"
            reason = f"the queue is full: {self.length} images wait" if full else waits
            raise RefusedRequest(503, reason, retry_after_s=count * each_s)

    async def check(self, contents: Sequence[bytes]) -> None:
        """Refuses by their headers images that would not be decoded.

        Raises:
            RefusedRequest: saying why, and which where there are several.
        """
        loop = asyncio.get_running_loop()
        look = partial(check_image, max_pixels=self.limits.max_pixels)
        for number, content in enumerate(contents, 1):
            try:
                await loop.run_in_executor(self._readers, look, content)
            except RefusedRequest as error:
                which = f"image {number} of {len(contents)}: " if len(contents) > 1 else ""
                raise RefusedRequest(error.status, f"{which}{error.reason}") from None

    async def detect(self, contents: Sequence[bytes], *, threshold: float) -> list[SeenImage]:
        """Waits for a turn and finds the objects of several images; cancelled, it frees its places.

        Args:
            contents: image files.
            threshold: objects below it are left out.

        Raises:
            RefusedRequest: the queue is full, or an image is damaged.
        """
        self.require_places(len(contents))
        loop = asyncio.get_running_loop()
        own = [_Waiting(content, threshold, loop.create_future()) for content in contents]
        self._waiting.extend(own)
        self._changed.set()
        try:
            return await asyncio.gather(*(each.answer for each in own))
        finally:
            for each in own:
                each.answer.cancel()
                for place in (self._waiting, self._decoded):
                    with suppress(ValueError):
                        place.remove(each)
            self._changed.set()

    async def run(self) -> None:
        """Decodes and runs what waits, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._decode_all())
            tasks.create_task(self._run_all())

    def warm_up(self) -> None:
        """Runs the engine once, which shows that it can, and how long an image takes."""
        image = np.full((480, 640, 3), 114, np.uint8)
        threshold = usual_score(self.engine)
        self.engine.detect([image], score_threshold=threshold)  # it compiles, and says little
        start = time.perf_counter()
        self.engine.detect([image], score_threshold=threshold)
        self.seconds_per_image = time.perf_counter() - start

    async def _decode_all(self) -> NoReturn:
        ahead = 2 * self.max_batch
        decode = partial(decode_image, max_pixels=self.limits.max_pixels)
        loop = asyncio.get_running_loop()
        while True:
            await self._until(lambda: bool(self._waiting) and len(self._decoded) < ahead)
            image = self._decoding = self._waiting.popleft()
            start = time.perf_counter()
            try:
                image.pixels = await loop.run_in_executor(self._readers, decode, image.content)
            except Exception as error:
                _refuse([image], error)
            finally:
                image.content = b""
                self._decoding = None
                taken_s = time.perf_counter() - start
                self._decoding_s += _NEWEST * (taken_s - self._decoding_s)
            if not image.answer.done():
                self._decoded.append(image)
            self._changed.set()

    async def _run_all(self) -> NoReturn:
        while True:
            await self._until(lambda: bool(self._decoded))
            if self.max_batch > 1:
                with suppress(TimeoutError):  # a while for others to come, from the first one on
                    async with asyncio.timeout(self.limits.max_wait_ms / 1000):
                        await self._until(lambda: not 0 < len(self._group()) < self.max_batch)
            group = self._group()
            for image in group:
                self._decoded.remove(image)
            if not group:
                continue  # the clients have left
            self._running = len(group)
            self._changed.set()  # the next may be decoded
            try:
                await self._run(group)
            finally:
                self._running = 0

    def _group(self) -> list[_Waiting]:
        """The image that waits longest, and others that can run with it without padding."""
        if not self._decoded:
            return []
        sizes = {
            id(each): self.engine.network_size(*each.pixels.shape[:2]) for each in self._decoded
        }
        first = self._decoded[0]
        alike = [
            each
            for each in self._decoded
            if sizes[id(each)] == sizes[id(first)] and each.threshold == first.threshold
        ]
        return alike[: self.max_batch]

    async def _run(self, group: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        call = partial(
            self.engine.detect,
            [image.pixels for image in group],
            score_threshold=group[0].threshold,
        )
        start = time.perf_counter()
        try:
            found = await loop.run_in_executor(self._runner, call)
        except Exception as error:
            if len(group) == 1:
                _refuse(group, error)
                return
            for image in group:  # the others are not to blame
                await self._run([image])
            return
        taken_s = time.perf_counter() - start
        self._meters.batch.observe(len(group))
        self._meters.detect.observe(taken_s)
        each_s = taken_s / len(group)
        self.seconds_per_image += _NEWEST * (each_s - self.seconds_per_image)
        for image, objects in zip(group, found, strict=True):
            if not image.answer.done():
                image.answer.set_result(SeenImage(objects, *image.pixels.shape[:2]))
            image.pixels = _NOTHING

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()


def _refuse(images: Sequence[_Waiting], error: Exception) -> None:
    """Gives an error to whom it concerns; one that is our own goes to the log, not to them."""
    if is_out_of_memory(error):
        logger.error("an image could not be run: %s", out_of_memory_line(error, TAKES_LESS))
        error = RefusedRequest(503, "too little memory for this image now", retry_after_s=10)
    elif isinstance(error, InputError):  # whose message may name files of this machine
        logger.warning("an image was refused: %s", error)
        error = RefusedRequest(422, "the model cannot run this image")
    if not isinstance(error, RefusedRequest):
        logger.error("an image could not be run", exc_info=error)
        error = RefusedRequest(500, "the image could not be run; the server's log says why")
    for image in images:
        if not image.answer.done():
            image.answer.set_exception(error)
