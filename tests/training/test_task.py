from typing import Any

import pytest

from detnet.training.detection.config import TrainConfig
from detnet.training.task import learning_rate, training_schedule, unreached


def test_epochs_and_fractions_become_steps() -> None:
    config = TrainConfig.make(None, {"epochs": 2.5, "steps": [0.5, 0.9], "evaluate_every": 0.5})
    schedule = training_schedule(config, batches_per_epoch=20)
    assert (schedule.per_epoch, schedule.total) == (20, 50)
    assert schedule.evaluations == {10, 20, 30, 40, 50}
    assert schedule.lr.steps == (25, 45)


@pytest.mark.parametrize(("epochs", "batches", "steps"), [
    (0.07, 100, 7), (1.1, 10, 11), (2.01, 100, 201), (12.0, 7330, 87_960), (1e-9, 100, 1),
    (0.071, 100, 8), (100.0, 999_999, 99_999_900),
])  # fmt: skip
def test_epochs_are_rounded_up_and_their_noise_is_not(
    epochs: float, batches: int, steps: int
) -> None:
    config = TrainConfig.make(None, {"epochs": epochs})
    assert training_schedule(config, batches_per_epoch=batches).total == steps


def test_steps_can_be_iterations_and_the_last_step_is_evaluated() -> None:
    config = TrainConfig.make(None, {"iterations": 50, "steps": [30, 48], "evaluate_every": 2})
    schedule = training_schedule(config, batches_per_epoch=20)
    assert schedule.evaluations == {40, 50}
    assert schedule.lr.steps == (30, 48)


def test_the_papers_course() -> None:
    schedule = training_schedule(TrainConfig.make(None, {}), batches_per_epoch=7330)
    factors = [schedule.lr.factor(i) for i in (0, 499, 500, 119_999, 120_000, 160_000)]
    assert factors == pytest.approx([0.3, 0.3, 1, 1, 0.1, 0.01])
    assert schedule.total == 180_000


def test_accumulated_batches_make_one_step() -> None:
    schedule = training_schedule(
        TrainConfig.make(None, {"epochs": 3, "accumulate": 4}), batches_per_epoch=21
    )
    assert (schedule.per_epoch, schedule.total) == (5, 15)


def test_learning_rate_is_scaled_and_says_so() -> None:
    assert learning_rate(TrainConfig.make(None, {"batch_size": 8})) == (
        0.01,
        "learning rate 0.01: 0.02 for 16 images, scaled to 8",
    )
    taken = learning_rate(TrainConfig.make(None, {"batch_size": 8, "lr_batch": 0}))
    assert taken == (0.02, "learning rate 0.02")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"iterations": 500}, ["warmup_iterations 500 lasts to the end of 500 iterations"]),
        ({"iterations": 500, "warmup": "none"}, []),
        ({"iterations": 600, "steps": [0.5, 600, 700]}, ["steps 600, 700 are not reached in 600"]),
        ({"schedule": "cosine"}, []),
        ({"schedule": "cosine", "steps": [0.5]}, ["steps have no meaning under schedule cosine"]),
    ],
)
def test_what_a_run_does_not_reach_is_said(changes: dict[str, Any], said: list[str]) -> None:
    config = TrainConfig.make(None, changes)
    found = unreached(config, training_schedule(config, batches_per_epoch=20))
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))
