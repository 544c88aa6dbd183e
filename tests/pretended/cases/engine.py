"""Steps ahead of the host, on the device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.engine.loop import Batch
from detnet.engine.optim import Ema, sgd
from detnet.engine.scale import LossScale
from detnet.engine.watch import AHEAD, NonFiniteLoss, StepWatch
from tests.engine.toy import BLACK, FLAT, Run, batch, batches
from tests.pretended.device import place
from tests.pretended.waits import counted, waiting_for_nothing

PLACE = place()


def never(iteration: int) -> bool:
    return False


class OnDevice(Run):
    """The toy's run, on the device; nobody says how many steps ahead: it is asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(fused=True, **options)
        self.model.to(PLACE)
        self.optimizer = sgd(self.model, lr=0.05, fused=True)
        self.ema = Ema(self.model, 0.9)

    def steps(self, iterations: int, source: Any = None, **options: Any) -> Iterator[Any]:
        options = {"device": PLACE, "rests": never, **options}
        return super().steps(iterations, source, **options)


def same(one: OnDevice, other: OnDevice) -> bool:
    bits = one.bits()
    return all(torch.equal(bits[name], value) for name, value in other.bits().items())


def test_an_accelerator_is_given_steps_ahead() -> None:
    run = OnDevice()
    assert StepWatch(run.model, run.optimizer, run.ema, PLACE).ahead == AHEAD == 2
    fetched: list[int] = []

    def noted() -> Iterator[Batch]:
        for number, each in enumerate(batches()):
            fetched.append(number)
            yield each

    told = [(step.iteration, len(fetched)) for step in run.steps(5, noted())]
    assert told == [(1, 3), (2, 4), (3, 5), (4, 5), (5, 5)]


def test_no_step_waits_for_the_device() -> None:
    run, most = OnDevice(), 8
    images = [batch(number) for number in range(most)]
    with waiting_for_nothing(PLACE):
        steps = run.steps(most, iter(images))
        for _ in range(most - AHEAD):
            next(steps)


@pytest.mark.parametrize("kind", [BLACK, FLAT])
@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_bad_step_holds_the_weights_and_all_is_put_back(kind: str, bad: int) -> None:
    run, good = OnDevice(dropout=0.5), OnDevice(dropout=0.5)
    source = [batch(number, kind=kind if number == bad else "well") for number in range(6)]
    torch.manual_seed(3)
    told: list[int] = []
    with pytest.raises(NonFiniteLoss) as caught:
        told.extend(step.iteration for step in run.steps(6, source, clip_norm=1.0))
    random = torch.rand(2, device=PLACE).cpu()
    torch.manual_seed(3)
    list(good.steps(bad, clip_norm=1.0))
    assert torch.equal(random, torch.rand(2, device=PLACE).cpu())
    assert told == list(range(1, bad + 1)) and caught.value.iteration == bad + 1
    assert caught.value.image_ids == [100 * bad, 100 * bad + 1]
    assert run.ema.updates == bad and same(run, good)


def test_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    whole = OnDevice(dropout=0.5)
    list(whole.steps(6))
    torch.manual_seed(5)
    run = OnDevice(dropout=0.5)
    bad = [batch(number, kind=BLACK if number == 2 else "well") for number in range(6)]
    with pytest.raises(NonFiniteLoss) as caught:
        list(run.steps(6, bad))
    run.save(tmp_path / "last.ckpt", caught.value.iteration - 1)
    again = OnDevice(dropout=0.5)
    again.resume(tmp_path / "last.ckpt")
    list(again.steps(6))
    assert same(again, whole)


def test_fp16_finds_its_factor_on_the_device() -> None:
    run, scale = OnDevice(), LossScale(PLACE, start=2.0**14)
    with counted() as waits:
        steps = list(run.steps(8, scale=scale, autocast=torch.float16))
    assert scale.factor.device == PLACE and scale.factor.item() < 2.0**14
    assert steps[-1].total < steps[0].total
    assert not [place for place in waits if "scale" in place[1]]
