"""Images run in order, together where their sizes agree, and not more than can be finished."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.inference.server.meters import Meters
from detnet.inference.server.queue import ImageQueue, SeenImage
from detnet.inference.server.refusals import RefusedRequest
from detnet.inference.server.settings import ServerLimits
from detnet.inference.server.uploads import decode_image
from tests.inference.server.bright import BrightEngine, colours
from tests.inference.server.conftest import file_of

Work = Callable[[ImageQueue], Coroutine[Any, Any, None]]
WIDE, TALL = file_of(colours(96, 64)), file_of(colours(64, 96))


def run(work: Work, engine: BrightEngine | None = None, **limits: Any) -> BrightEngine:
    used = engine or BrightEngine()

    async def main() -> None:
        queue = ImageQueue(used, ServerLimits(**limits), Meters())
        running = asyncio.create_task(queue.run())
        try:
            async with asyncio.timeout(20):
                await work(queue)
        finally:
            running.cancel()

    asyncio.run(main())
    return used


async def all_of(queue: ImageQueue, *contents: bytes, threshold: float = 0.5) -> list[Any]:
    tasks = [asyncio.create_task(queue.detect([each], threshold=threshold)) for each in contents]
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_answers_belong_to_their_images() -> None:
    async def work(queue: ImageQueue) -> None:
        first, second = await queue.detect([WIDE, TALL], threshold=0.5)
        assert isinstance(first, SeenImage)
        assert (first.height, first.width, second.height, second.width) == (64, 96, 96, 64)
        assert len(first.found) == len(second.found) == 2
        assert len((await queue.detect([WIDE], threshold=0.8))[0].found) == 1

    run(work)


def test_without_batches_each_runs_by_itself_in_order() -> None:
    async def work(queue: ImageQueue) -> None:
        await all_of(queue, WIDE, TALL, WIDE, TALL)

    shapes = [[(64, 96, 3)], [(96, 64, 3)]]
    assert run(work).calls == shapes * 2


def test_what_waits_together_runs_together_where_sizes_agree() -> None:
    async def work(queue: ImageQueue) -> None:
        found = await all_of(queue, WIDE, TALL, WIDE, WIDE, TALL, WIDE)
        assert [each[0].width for each in found] == [96, 64, 96, 96, 64, 96]

    calls = run(work, max_batch=3, max_wait_ms=300).calls
    assert calls == [[(64, 96, 3)] * 3, [(96, 64, 3)] * 2, [(64, 96, 3)]]


def test_an_export_gets_as_many_together_as_it_was_made_for() -> None:
    """It would fill up the rest with copies, which take as long."""

    async def work(queue: ImageQueue) -> None:
        await all_of(queue, WIDE, WIDE, WIDE)

    engine = BrightEngine()
    engine.batch = 2
    assert run(work, engine, max_wait_ms=100).calls == [[(64, 96, 3)] * 2, [(64, 96, 3)]]
    assert run(work, max_batch=1, max_wait_ms=100).calls == [[(64, 96, 3)]] * 3


def test_thresholds_are_not_mixed() -> None:
    async def work(queue: ImageQueue) -> None:
        await asyncio.gather(
            all_of(queue, WIDE, threshold=0.5), all_of(queue, WIDE, threshold=0.75)
        )

    assert run(work, max_batch=4, max_wait_ms=100).calls == [[(64, 96, 3)]] * 2


def test_one_waits_for_company_only_so_long() -> None:
    async def work(queue: ImageQueue) -> None:
        start = time.monotonic()
        await queue.detect([WIDE], threshold=0.5)
        assert 0.1 <= time.monotonic() - start < 5

    run(work, max_batch=4, max_wait_ms=100)


def test_a_full_queue_says_so_at_once() -> None:
    async def work(queue: ImageQueue) -> None:
        start = time.monotonic()
        found = await all_of(queue, *[WIDE] * 8)
        refused = [each for each in found if isinstance(each, RefusedRequest)]
        assert len(refused) == 5 and {each.status for each in refused} == {503}
        assert all(each.headers["retry-after"] == "1" for each in refused)
        assert time.monotonic() - start < 5
        with pytest.raises(RefusedRequest, match="4 images in one request; send 3") as error:
            await queue.detect([WIDE] * 4, threshold=0.5)
        assert error.value.status == 413

    run(work, BrightEngine(seconds=0.1), max_queue=3)


def test_nothing_is_accepted_that_would_wait_too_long() -> None:
    async def work(queue: ImageQueue) -> None:
        queue.seconds_per_image = 0.4
        found = await all_of(queue, *[WIDE] * 5)
        refused = [each for each in found if isinstance(each, RefusedRequest)]
        assert len(refused) == 3
        queue.seconds_per_image = 20.0  # slower than what is allowed: one is taken all the same
        assert len(await queue.detect([WIDE], threshold=0.5)) == 1
        assert queue.seconds_per_image < 20

    run(work, BrightEngine(seconds=0.05), max_queue=64, max_delay_s=1.0)


def test_images_that_take_longer_to_decode_than_to_run_are_foreseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(content: bytes, **how: Any) -> Any:
        time.sleep(0.1)
        return decode_image(content, **how)

    monkeypatch.setattr("detnet.inference.server.queue.decode_image", slow)

    async def work(queue: ImageQueue) -> None:
        await all_of(queue, WIDE, WIDE, WIDE)
        found = await all_of(queue, *[WIDE] * 10)
        assert any(isinstance(each, RefusedRequest) and each.status == 503 for each in found)

    run(work, max_delay_s=0.3)


def test_who_leaves_frees_the_place() -> None:
    async def work(queue: ImageQueue) -> None:
        first = asyncio.create_task(queue.detect([WIDE], threshold=0.5))
        leaving = asyncio.create_task(queue.detect([TALL, TALL], threshold=0.5))
        while not queue.engine.calls:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        assert queue.length == 2
        leaving.cancel()
        await asyncio.wait({leaving})
        assert queue.length == 0
        await first
        await queue.detect([WIDE], threshold=0.5)

    assert run(work, BrightEngine(seconds=0.2)).calls == [[(64, 96, 3)]] * 2


def test_a_damaged_image_concerns_its_sender_alone() -> None:
    async def work(queue: ImageQueue) -> None:
        good, bad, other = await all_of(queue, WIDE, WIDE[:150], WIDE)
        assert isinstance(bad, RefusedRequest) and bad.status == 422
        assert len(good[0].found) == len(other[0].found) == 2
        with pytest.raises(RefusedRequest, match=r"image 2 of 2: no image") as error:
            await queue.check([WIDE, b"text"])
        assert error.value.status == 415

    run(work)


def test_an_image_that_the_engine_cannot_run_concerns_its_sender_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Picky(BrightEngine):
        def detect(self, images: Any, *, score_threshold: float) -> Any:
            super().detect(images, score_threshold=score_threshold)
            if any((image == 0).all() for image in images):
                raise InputError("too dark")
            if any((image == 255).all() for image in images):
                raise RuntimeError("of inner things")
            if any((image == 100).all() for image in images):
                np.empty(10**15)
            return super().detect(images, score_threshold=score_threshold)

    dark, white, grey = (file_of(np.full((64, 96, 3), n, np.uint8)) for n in (0, 255, 100))

    async def work(queue: ImageQueue) -> None:
        found = await all_of(queue, WIDE, dark, white, grey, WIDE)
        assert [getattr(each, "status", 200) for each in found] == [200, 422, 500, 503, 200]
        assert "dark" not in str(found[1]) and "inner" not in str(found[2])

    run(work, Picky(), max_batch=4, max_wait_ms=200)
    assert "of inner things" in caplog.text
    (lack,) = [each for each in caplog.records if "out of memory" in each.getMessage()]
    assert lack.exc_info is None and lack.getMessage().endswith("best in int8, take less")


def test_a_closed_queue_takes_nothing() -> None:
    async def work(queue: ImageQueue) -> None:
        queue.closed = True
        with pytest.raises(RefusedRequest, match="about to end"):
            queue.require_places(1)

    run(work)


def test_warming_up_tells_the_time_of_an_image() -> None:
    async def work(queue: ImageQueue) -> None:
        queue.warm_up()
        assert 0.05 <= queue.seconds_per_image < 2

    assert len(run(work, BrightEngine(seconds=0.05)).calls) == 2
