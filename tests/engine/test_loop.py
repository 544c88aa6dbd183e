import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from detnet.engine.loop import Batch, train_steps
from detnet.engine.optim import Schedule, sgd
from detnet.engine.watch import NonFiniteLoss
from tests.engine.toy import BLACK, CPU, FLAT, Run, Toy, batch, batches


def test_steps_tell_what_they_did() -> None:
    run = Run()
    first, *_, last = steps = list(run.steps(5))
    assert [step.iteration for step in steps] == [1, 2, 3, 4, 5]
    assert list(first.losses) == ["loss_box_reg", "loss_classifier"]
    assert first.total == pytest.approx(sum(first.losses.values()))
    assert first.lr == pytest.approx(0.05 * run.schedule.factor(0))
    assert last.lr == pytest.approx(0.05 * run.schedule.factor(4))
    assert first.images == 2 and first.grad_norm > 0
    assert first.data_s >= 0 and first.step_s > 0
    assert last.total < first.total


def test_waiting_for_images_is_told_apart_from_the_step() -> None:
    def slowly() -> Iterator[Batch]:
        for number in range(3):
            time.sleep(0.1)
            yield batch(number)

    def hold(iteration: int) -> None:
        time.sleep(0.4 if iteration == 2 else 0.0)

    model = Toy()
    steps = list(
        train_steps(
            model,
            slowly(),
            sgd(model, lr=0.01),
            Schedule(3),
            start=0,
            iterations=3,
            device=CPU,
            prepare=hold,
        )
    )
    assert all(step.data_s >= 0.1 for step in steps)
    assert steps[2].step_s >= 0.4 > max(step.data_s for step in steps)


def test_settled_batch_norms_train_by_what_evaluation_goes_by() -> None:
    run = Run()
    means, scales = [], []
    for step in run.steps(4, settled=1.5):
        means.append(run.model.norm.running_mean.clone())
        scales.append(run.model.norm.weight.detach().clone())
        assert run.model.training and run.model.norm.training == (step.iteration <= 2)
    # One and a half steps are over when two are.
    assert not torch.equal(means[0], means[1])
    assert torch.equal(means[1], means[2]) and torch.equal(means[1], means[3])
    assert not torch.equal(scales[2], scales[3])

    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    (step,) = run.steps(1, settled=0)
    judge = Toy()
    judge.load_state_dict(before)
    assert step.losses == {name: loss.item() for name, loss in judge.eval()(*batch(0)).items()}


def test_one_step_is_plain_sgd() -> None:
    run, plain = Run(), Toy().train()
    (step,) = run.steps(1)
    losses = plain(*batch(0))
    sum(losses.values()).backward()
    assert step.losses == {name: loss.item() for name, loss in losses.items()}
    with torch.no_grad():
        for parameter in plain.parameters():
            assert parameter.grad is not None
            parameter.sub_(step.lr * (parameter.grad + 1e-4 * parameter))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value)


def test_resume_is_bit_for_bit(tmp_path: Path) -> None:
    """Eight steps equal three, a checkpoint, other work, a new process's objects, and five more."""
    torch.manual_seed(5)
    whole = Run(dropout=0.5)
    expected = [(step.losses, step.lr, step.grad_norm) for step in whole.steps(8)]

    torch.manual_seed(5)
    first = Run(dropout=0.5)
    found = []
    for step in first.steps(8):
        found.append((step.losses, step.lr, step.grad_norm))
        if step.iteration == 3:
            first.save(tmp_path / "last.ckpt", step.iteration)
            break
    torch.rand(7), np.random.rand(7)

    second = Run(dropout=0.5)
    second.resume(tmp_path / "last.ckpt")
    found += [(step.losses, step.lr, step.grad_norm) for step in second.steps(8)]
    assert found == expected
    bits = second.bits()
    assert any(name.startswith("momentum") for name in bits)
    for name, value in whole.bits().items():
        assert torch.equal(bits[name], value), name


def test_work_between_steps_changes_nothing() -> None:
    """Evaluation in between leaves the model in eval mode and averaged weights come and go."""
    undisturbed, disturbed = Run(), Run()
    list(undisturbed.steps(3))
    for _ in disturbed.steps(3):
        with disturbed.ema.applied() as model:
            model.eval()(*batch(9))
    bits = disturbed.bits()
    assert all(torch.equal(bits[name], value) for name, value in undisturbed.bits().items())


def test_accumulated_batches_are_one_larger_batch() -> None:
    def halves() -> Iterator[Batch]:
        for images, targets in batches(size=4):
            yield images[:2], targets[:2]
            yield images[2:], targets[2:]

    large, small = Run(norm=False), Run(norm=False)
    expected = list(large.steps(3, batches(size=4)))
    found = list(small.steps(3, halves(), accumulate=2))
    for one, other in zip(expected, found, strict=True):
        assert one.images == other.images == 4
        assert one.losses == pytest.approx(other.losses, rel=1e-5)
    bits = small.bits()
    for name, value in large.bits().items():
        torch.testing.assert_close(bits[name], value, rtol=1e-5, atol=1e-6)


def test_gradient_is_clipped_to_its_whole_norm() -> None:
    free, clipped = Run(), Run()
    (before,) = free.steps(1)
    (step,) = clipped.steps(1, clip_norm=before.grad_norm / 4)
    assert step.grad_norm == before.grad_norm
    for one, other in zip(free.model.parameters(), clipped.model.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(other.grad, one.grad / 4)
    (loose,) = Run().steps(1, clip_norm=before.grad_norm * 4)
    assert loose.grad_norm == before.grad_norm


@pytest.mark.parametrize("kind", [BLACK, FLAT])
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_bad_batch_stops_before_the_step(kind: str, clip_norm: float) -> None:
    run, good = Run(), Run()
    source = [batch(0), batch(1), batch(2, kind=kind), batch(3)]
    taken: list[int] = []
    with pytest.raises(NonFiniteLoss) as caught:
        taken.extend(step.iteration for step in run.steps(4, source, clip_norm=clip_norm))
    list(good.steps(2, clip_norm=clip_norm))
    bits = run.bits()
    assert all(torch.equal(bits[name], value) for name, value in good.bits().items())
    assert taken == [1, 2]
    error = caught.value
    assert (error.iteration, error.image_ids) == (3, [200, 201])
    assert math.isfinite(error.losses["loss_box_reg"])
    said = "loss_classifier is inf" if kind == BLACK else "the gradient is not finite"
    assert said in str(error) and "images 200, 201" in str(error) and "\n" not in str(error)


def test_after_a_bad_batch_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    whole = Run(dropout=0.5)
    list(whole.steps(4))

    torch.manual_seed(5)
    run = Run(dropout=0.5)
    with pytest.raises(NonFiniteLoss) as caught:
        list(run.steps(4, [batch(0), batch(1), batch(2, kind=BLACK)]))
    run.save(tmp_path / "last.ckpt", caught.value.iteration - 1)
    again = Run(dropout=0.5)
    again.resume(tmp_path / "last.ckpt")
    list(again.steps(4))
    bits = again.bits()
    assert all(torch.equal(bits[name], value) for name, value in whole.bits().items())


def test_of_accumulated_batches_only_the_bad_one_is_named() -> None:
    with pytest.raises(NonFiniteLoss, match="iteration 1: loss_classifier is inf.* 100, 101;"):
        list(Run().steps(1, [batch(0), batch(1, kind=BLACK)], accumulate=2))


def test_batches_that_end_too_soon_are_an_error() -> None:
    run = Run()
    with pytest.raises(ValueError, match="ended before step 3 of 4"):
        list(run.steps(4, islice(batches(), 5), accumulate=2))
    assert run.ema.updates == 2


def test_a_loaders_error_is_not_swallowed() -> None:
    def broken() -> Iterator[Batch]:
        yield batch(0)
        raise RuntimeError("worker died")

    with pytest.raises(RuntimeError, match="worker died"):
        list(Run().steps(2, broken()))


class Watcher(Toy):
    """Notes the types at work in the forward pass and in the backward one."""

    def forward(self, images: list[Tensor], targets: list[dict[str, Any]]) -> dict[str, Tensor]:
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        self.types = {"forward": product.dtype}
        losses = super().forward(images, targets)

        def note(_: Tensor) -> None:
            self.types["backward"] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

        next(iter(losses.values())).register_hook(note)
        return losses


@pytest.mark.processor
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_autocast_covers_the_forward_pass_only(autocast: torch.dtype | None) -> None:
    model = Watcher()
    list(
        train_steps(
            model,
            batches(),
            sgd(model, lr=0.01),
            Schedule(1),
            start=0,
            iterations=1,
            device=CPU,
            autocast=autocast,
        )
    )
    forward = autocast or torch.float32
    assert model.types == {"forward": forward, "backward": torch.float32}
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
