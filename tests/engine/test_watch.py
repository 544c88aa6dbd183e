"""Steps taken ahead of the host: on a processor, by the code that an accelerator runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.engine.loop import Batch
from detnet.engine.watch import NonFiniteLoss, Step
from tests.engine.toy import BLACK, FLAT, Run, batch, batches

AHEAD = 2


def never(iteration: int) -> bool:
    return False


def ahead(run: Run, iterations: int, source: Any = None, **options: Any) -> Iterator[Step]:
    return run.steps(iterations, source, **{"ahead": AHEAD, "rests": never, **options})


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], value) for name, value in other.items())


def test_steps_taken_ahead_are_the_same_steps() -> None:
    waiting, free = Run(fused=True), Run(fused=True)
    expected, found = list(waiting.steps(6)), list(ahead(free, 6))
    assert [(s.iteration, s.losses, s.lr, s.images, s.grad_norm) for s in found] == [
        (s.iteration, s.losses, s.lr, s.images, s.grad_norm) for s in expected
    ]
    bits = free.bits()
    for name, value in waiting.bits().items():
        if name.startswith("ema."):  # another formula of the same average
            torch.testing.assert_close(bits[name], value, rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(bits[name], value), name


def test_batches_are_fetched_before_earlier_steps_are_told() -> None:
    fetched: list[int] = []

    def noted() -> Iterator[Batch]:
        for number, each in enumerate(batches()):
            fetched.append(number)
            yield each

    told = [(step.iteration, len(fetched)) for step in ahead(Run(fused=True), 6, noted())]
    assert told == [(1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (6, 6)]


def test_where_it_rests_nothing_is_under_way() -> None:
    run, plain = Run(fused=True), Run(fused=True)
    for step in ahead(run, 6, rests=lambda iteration: iteration == 4):
        if step.iteration == 4:
            found = run.bits()
    list(ahead(plain, 4))
    assert same(found, plain.bits())


@pytest.mark.parametrize("kind", [BLACK, FLAT])
@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_bad_step_changes_nothing_though_others_follow(kind: str, bad: int) -> None:
    """The first, one in the middle, and the last but one, of which the end tells."""
    run, good = Run(fused=True), Run(fused=True)
    source = [batch(number, kind=kind if number == bad else "well") for number in range(6)]
    told: list[int] = []
    torch.manual_seed(3)
    with pytest.raises(NonFiniteLoss) as caught:
        told.extend(step.iteration for step in ahead(run, 6, source, clip_norm=1.0))
    random = torch.rand(2)
    torch.manual_seed(3)
    list(ahead(good, bad, clip_norm=1.0))
    assert torch.equal(random, torch.rand(2))
    assert told == list(range(1, bad + 1))
    assert caught.value.iteration == bad + 1
    assert caught.value.image_ids == [100 * bad, 100 * bad + 1]
    assert run.ema.updates == bad
    bits = run.bits()
    assert bits.keys() == good.bits().keys() and same(bits, good.bits())


def test_after_a_bad_step_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    whole = Run(dropout=0.5, fused=True)
    list(ahead(whole, 6))

    torch.manual_seed(5)
    run = Run(dropout=0.5, fused=True)
    bad = [batch(number, kind=BLACK if number == 2 else "well") for number in range(6)]
    with pytest.raises(NonFiniteLoss) as caught:
        list(ahead(run, 6, bad))
    run.save(tmp_path / "last.ckpt", caught.value.iteration - 1)
    again = Run(dropout=0.5, fused=True)
    again.resume(tmp_path / "last.ckpt")
    list(ahead(again, 6))
    assert same(again.bits(), whole.bits())


def test_a_loaders_error_comes_after_the_steps_before_it() -> None:
    def broken() -> Iterator[Batch]:
        yield from (batch(number) for number in range(3))
        raise RuntimeError("worker died")

    run, told = Run(fused=True), []
    with pytest.raises(RuntimeError, match="worker died"):
        told.extend(step.iteration for step in ahead(run, 6, broken()))
    assert told == [1, 2, 3]
