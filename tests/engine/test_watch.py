"""Steps taken ahead of the host: on a processor, by the code that an accelerator runs."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.engine.loop import Batch
from detnet.engine.scale import LossScale
from detnet.engine.watch import NonFiniteLoss, Step
from tests.engine.toy import BLACK, CPU, FLAT, Run, batch, batches

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


def test_a_loss_that_is_too_large_for_fp16_is_scaled_down_and_no_failure() -> None:
    run = Run(fused=True)
    scale = LossScale(CPU, start=2.0**14)
    steps = list(ahead(run, 8, scale=scale, autocast=torch.float16))
    skipped = [step.iteration for step in steps if not math.isfinite(step.grad_norm)]
    assert skipped == list(range(1, len(skipped) + 1)) and 0 < len(skipped) < 5
    assert [step.iteration for step in steps] == list(range(1, 9))
    assert scale.factor == 2.0 ** (14 - len(skipped))
    assert steps[-1].total < steps[0].total
    assert all(value.isfinite().all() for value in run.bits().values())


@pytest.mark.parametrize("steps", [0, AHEAD])
def test_a_scaled_loss_gives_the_same_steps(steps: int) -> None:
    plain, scaled = Run(fused=True), Run(fused=True)
    expected = [step.grad_norm for step in plain.steps(5, ahead=steps)]
    scale = LossScale(CPU, start=2.0**8, patience=2)
    assert [s.grad_norm for s in scaled.steps(5, ahead=steps, scale=scale)] == expected
    assert scale.factor == 2.0**10
    bits = scaled.bits()
    for name, value in plain.bits().items():
        torch.testing.assert_close(bits[name], value, rtol=1e-6, atol=1e-6)


def test_a_gradient_that_is_never_finite_is_a_failure() -> None:
    run, good = Run(fused=True), Run(fused=True)
    source = [batch(0), *(batch(number, kind=FLAT) for number in range(1, 90))]
    with pytest.raises(NonFiniteLoss, match="the gradient is not finite") as caught:
        list(ahead(run, 90, source, scale=LossScale(CPU)))
    assert caught.value.iteration == 62  # the first step, sixty that are skipped, and this
    list(ahead(good, 1, scale=LossScale(CPU)))
    assert torch.equal(run.model.conv.weight, good.model.conv.weight)


def test_a_scale_is_put_back() -> None:
    scale, again = LossScale(CPU, start=8.0), LossScale(CPU)
    scale.update(torch.tensor(0.0))
    scale.update(torch.tensor(1.0))
    again.load_state({name: value.clone() for name, value in scale.state().items()})
    assert again.factor == 4.0 and again.state().keys() == scale.state().keys()
