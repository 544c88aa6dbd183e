"""Carrying a run out: to the same bits after whatever ends it, the best kept, mistakes told."""

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from detnet.engine.checkpoint import load
from detnet.engine.watch import NonFiniteLoss
from detnet.errors import InputError
from detnet.training.run import run_task
from detnet.training.run_state import OnEvent
from tests.engine.toy import BLACK, FLAT
from tests.training.toy_task import CONFIG, PER_EPOCH, ToyTask, carry_out, different, events_of

Event = dict[str, Any]


class Killed(Exception):
    """Nothing is saved on the way out."""


def at(kind: str, iteration: int, what: Any) -> OnEvent:
    """Does something at one event."""

    def on_event(event: Event) -> None:
        if event["event"] == kind and event["iteration"] == iteration:
            what()

    return on_event


def die() -> None:
    raise Killed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps, two epochs, that was never interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    complete, _ = carry_out(run)
    assert complete
    return run


def test_what_happened_is_told_and_written(whole: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    assert carry_out(tmp_path / "run", on_event=told.append)[0]
    assert different(tmp_path / "run", whole) == []
    steps = ["progress"] * PER_EPOCH
    assert [event["event"] for event in told] == [
        *(["note"] * 4), "start", "note", *steps, "evaluation", *steps, "evaluation", "end",
    ]  # fmt: skip
    assert [event["text"] for event in told[:4]] == [
        "all made up", "all settled", "a toy", "learning rate 0.05"
    ]  # fmt: skip
    start = next(event for event in told if event["event"] == "start")
    expected = {"iteration": 0, "iterations": 8, "per_epoch": 4, "images": 16, "val_images": 5}
    assert expected.items() <= start.items() and start["processes"] == 1
    written = events_of(tmp_path / "run")
    assert [e["iteration"] for e in written if e["event"] == "step"] == list(range(1, 9))
    assert [e["iteration"] for e in written if e["event"] == "evaluation"] == [4, 8]
    first = written[0]
    assert (first["epoch"], first["lr"]) == (0.25, pytest.approx(0.05 * 0.3))
    assert first["loss"] == pytest.approx(first["loss_box_reg"] + first["loss_classifier"])
    assert written[1] == {"event": "note", "iteration": 1, "text": "first note of 0"}
    assert written[-1]["event"] == "end" and written[-1]["iteration"] == 8


def test_each_step_is_prepared_by_its_number(tmp_path: Path) -> None:
    _, task = carry_out(tmp_path / "run", changes={"accumulate": 2})
    assert task.prepared == list(range(8))
    assert len(task.shown) == 8 * 4 and task.shown[:4] == [0, 1, 100, 101]


def test_what_is_logged_and_saved_when(tmp_path: Path) -> None:
    saved: list[tuple[int, int]] = []

    def look(event: Event) -> None:
        if event["event"] == "progress" and (tmp_path / "run/last.ckpt").exists():
            progress = load(tmp_path / "run/last.ckpt")["progress"]
            saved.append((event["iteration"], progress["iteration"]))

    changes = {"log_every": 3, "checkpoint_every": 3, "evaluate_every": 0.5, "iterations": 7}
    carry_out(tmp_path / "run", on_event=look, changes=changes)
    events = events_of(tmp_path / "run")
    assert [e["iteration"] for e in events if e["event"] == "step"] == [3, 6, 7]
    assert [e["iteration"] for e in events if e["event"] == "evaluation"] == [2, 4, 6, 7]
    # Seen at a step, before what that step saves: after evaluations, and every third.
    assert saved == [(3, 2), (4, 3), (5, 4), (6, 4), (7, 6)]


@pytest.mark.parametrize("after", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_killed_run_comes_to_the_same_bits(after: int, accumulate: int, tmp_path: Path) -> None:
    changes = {"accumulate": accumulate}
    assert carry_out(tmp_path / "whole", changes=changes)[0]
    run = tmp_path / "run"
    with pytest.raises(Killed):
        carry_out(run, on_event=at("progress", after, die), changes=changes)
    assert not (run / "model.safetensors").exists()
    torch.rand(3)  # other work in between
    complete, task = carry_out(run, resume=True, changes=changes)
    assert complete and different(run, tmp_path / "whole") == []
    saved = (after - 1) // 2 * 2
    assert task.prepared == list(range(saved, 8))
    assert task.carried == (saved == 0)  # without a checkpoint it begins with its weights again
    assert task.given == ({"rank": 0, "steps": saved} if saved else None)


def test_a_board_shows_each_step_once_after_a_kill(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    changes = {"tensorboard": True, "checkpoint_every": 4}
    with pytest.raises(Killed):
        carry_out(tmp_path / "run", changes=changes, on_event=at("progress", 7, die))
    assert carry_out(tmp_path / "run", changes=changes, resume=True)[0]
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("step/loss")] == list(range(1, 9))
    assert [event.step for event in events.Scalars("evaluation/score")] == [4, 8]


def test_a_signal_ends_it_between_two_steps(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stop = at("progress", 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert carry_out(run, on_event=stop)[0] is False
    assert load(run / "last.ckpt")["progress"]["iteration"] == 3
    assert events_of(run)[-1]["event"] == "step"
    complete, task = carry_out(run, resume=True)
    assert complete and task.prepared[0] == 3
    assert different(run, whole) == []


def test_slow_steps_are_kept_by_the_clock(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detnet.training.run._LONGEST_S", 0)
    run, changes = tmp_path / "run", {"checkpoint_every": 100}
    with pytest.raises(Killed):
        carry_out(run, changes=changes, on_event=at("progress", 3, die))
    assert load(run / "last.ckpt")["progress"]["iteration"] == 2
    assert carry_out(run, resume=True)[0]
    assert different(run, whole) == []


def test_a_signal_at_the_last_step_still_finishes(whole: Path, tmp_path: Path) -> None:
    stop = at("progress", 8, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert carry_out(tmp_path / "run", on_event=stop)[0] is True
    assert different(tmp_path / "run", whole) == []


def test_a_kill_at_the_very_end_is_made_good(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        carry_out(run, on_event=at("evaluation", 8, die))  # before the last checkpoint
    assert carry_out(run, resume=True)[0]
    assert different(run, whole) == []
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))  # behind it, before the final model
    (run / "model.safetensors").unlink()
    complete, task = carry_out(run, resume=True)
    assert complete and task.prepared == []
    assert events_of(run) == events_of(whole)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_complete_run_is_left_as_it_is(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("[!.]*")}
    told: list[Event] = []
    complete, task = carry_out(whole, resume=True, on_event=told.append)
    assert complete and task.prepared == []
    text = f"{whole} is complete at iteration 8; to train on, begin a run with --weights {whole}"
    assert told[-1]["text"] == text
    assert {path: path.stat().st_mtime_ns for path in whole.glob("[!.]*")} == before


def test_a_complete_run_is_not_made_longer(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("[!.]*")}
    with pytest.raises(InputError, match="ended at iteration 8, its settings now say 12; to train"):
        carry_out(whole, resume=True, changes={"iterations": 12})
    assert {path: path.stat().st_mtime_ns for path in whole.glob("[!.]*")} == before


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run, refused = tmp_path / "run", list[str]()

    def second() -> None:
        with pytest.raises(InputError, match="another process is training this run") as caught:
            carry_out(run, resume=True)
        refused.append(str(caught.value))

    with pytest.raises(Killed):
        carry_out(run, on_event=lambda e: (at("progress", 4, second)(e), at("progress", 5, die)(e)))
    assert len(refused) == 1
    assert carry_out(run, resume=True)[0]  # however it ended, the lock is gone


@pytest.mark.parametrize("kind", [BLACK, FLAT])
def test_a_loss_that_is_not_finite_keeps_the_state_before_it(
    kind: str, whole: Path, tmp_path: Path
) -> None:
    run, told = tmp_path / "run", list[Event]()
    with pytest.raises(NonFiniteLoss) as caught:
        carry_out(run, kinds={5: kind}, on_event=told.append)
    assert caught.value.iteration == 6
    assert load(run / "last.ckpt")["progress"]["iteration"] == 5  # not one of those saved anyway
    names = [f"{500 + n}.jpg" for n in range(4)]
    assert events_of(run)[-1] == {"event": "failure", "iteration": 6, "images": names}
    assert told[-1]["text"] == f"images of the batch: {', '.join(names)}"
    assert carry_out(run, resume=True)[0]  # the batch is mended
    found, expected = load(run / "last.ckpt"), load(whole / "last.ckpt")
    for name, value in expected["model"].items():
        assert torch.equal(found["model"][name], value), name
    assert torch.equal(found["rng"][0]["torch"], expected["rng"][0]["torch"])
    assert events_of(run) == events_of(whole)  # the failure is cut out


def test_data_that_cannot_be_read_save_what_is_there(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(InputError, match="image 5: cannot be read"):
        carry_out(run, kinds={5: "unreadable"})
    assert load(run / "last.ckpt")["progress"]["iteration"] == 5
    assert carry_out(run, resume=True)[0]
    assert events_of(run) == events_of(whole)


def judging(scores: list[float | None]) -> Any:
    """Gives these scores, one each time it is asked."""
    left: Iterator[float | None] = iter(scores)
    return lambda model: next(left)


def test_the_best_model_is_kept_and_not_the_last(tmp_path: Path) -> None:
    run, told = tmp_path / "run", list[Event]()
    changes = {"evaluate_every": 0.5}
    scores = [None, 0.3, 0.5, 0.5]
    _, task = carry_out(run, judge=judging(scores), changes=changes, on_event=told.append)
    evaluations = [event for event in told if event["event"] == "evaluation"]
    assert [event["best"] for event in evaluations] == [False, True, True, False]
    assert [event["score"] for event in evaluations] == scores
    best, last = load_file(run / "best.safetensors"), load_file(run / "model.safetensors")
    averaged = load(run / "last.ckpt")["ema"]["average"]
    for name, value in best.items():
        assert torch.equal(value, task.judged[2][name])  # what is kept is what was judged
        assert torch.equal(last[name], averaged[name])
    assert not torch.equal(best["conv.weight"], last["conv.weight"])
    assert json.loads((run / "evaluation" / "scores.json").read_text()) == 0.5
    end = told[-1]
    assert (end["best"], end["best_iteration"], end["stopped_early"]) == (0.5, 6, False)


def test_the_averages_are_judged_and_the_weights_come_back(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stop = at("evaluation", 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert carry_out(run, on_event=stop)[0] is False
    state = load(run / "last.ckpt")
    for name, value in load_file(run / "best.safetensors").items():
        assert torch.equal(value, state["ema"]["average"][name]), name
    assert not torch.equal(state["ema"]["average"]["conv.weight"], state["model"]["conv.weight"])
    _, task = carry_out(tmp_path / "plain", changes={"ema": 0.0})
    state, best = load(tmp_path / "plain/last.ckpt"), load_file(tmp_path / "plain/best.safetensors")
    judged = task.judged[state["progress"]["best_iteration"] // PER_EPOCH - 1]
    assert state["ema"] is None and len(task.judged) == 2
    assert all(torch.equal(best[name], value) for name, value in judged.items())


def test_evaluations_that_get_no_better_stop_it(tmp_path: Path) -> None:
    run, told = tmp_path / "run", list[Event]()
    changes = {"iterations": 80, "patience": 2}
    scores = [0.1, 0.4, 0.4, 0.5, 0.2, None]
    assert carry_out(run, judge=judging(scores), changes=changes, on_event=told.append)[0]
    end = told[-1]
    assert end["event"] == "end" and end["stopped_early"] and end["iteration"] == 6 * PER_EPOCH
    assert (end["best"], end["best_iteration"]) == (0.5, 4 * PER_EPOCH)
    again, task = carry_out(run, resume=True, changes=changes, judge=judging([]))
    assert again and task.prepared == []  # it stays stopped


def test_without_any_score_nothing_gets_worse(tmp_path: Path) -> None:
    judge = judging([None] * 5 + [0.5, 0.4, 0.3])
    told: list[Event] = []
    changes = {"iterations": 80, "patience": 2}
    carry_out(tmp_path / "run", judge=judge, changes=changes, on_event=told.append)
    assert told[-1]["iteration"] == 8 * PER_EPOCH and told[-1]["best_iteration"] == 6 * PER_EPOCH


def test_how_long_it_was_no_better_outlives_a_kill(tmp_path: Path) -> None:
    run, changes = tmp_path / "run", {"iterations": 80, "patience": 2}
    with pytest.raises(Killed):
        judge = judging([0.5, 0.4])
        carry_out(run, judge=judge, changes=changes, on_event=at("progress", 10, die))
    told: list[Event] = []
    judge = judging([0.4])
    assert carry_out(run, resume=True, judge=judge, changes=changes, on_event=told.append)[0]
    assert told[-1]["stopped_early"] and told[-1]["iteration"] == 3 * PER_EPOCH
    assert (told[-1]["best"], told[-1]["best_iteration"]) == (0.5, PER_EPOCH)
    assert told[-1]["seconds"] > 0


def test_without_a_validation_split_nothing_is_judged(tmp_path: Path) -> None:
    _, task = carry_out(tmp_path / "run", val=0)
    assert task.judged == [] and not (tmp_path / "run/best.safetensors").exists()
    end = events_of(tmp_path / "run")[-1]
    assert end["best"] is None and end["stopped_early"] is False


def test_the_seed_decides_all_random_numbers(whole: Path, tmp_path: Path) -> None:
    torch.rand(3), np.random.rand(3), random.random()
    carry_out(tmp_path / "same")
    assert different(tmp_path / "same", whole) == []  # the generators' states among them
    carry_out(tmp_path / "run", changes={"seed": 1})
    found, same = (load_file(run / "model.safetensors") for run in (tmp_path / "run", whole))
    assert not torch.equal(found["conv.weight"], same["conv.weight"])


def ask_for_too_much() -> None:
    torch.empty(10**15)


def fail_as_cuda() -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 15.77 GiB "
        "of which 10.88 MiB is free."
    )


@pytest.mark.parametrize(
    ("need", "told"),
    [
        (fail_as_cuda, "2.50 GiB more were asked for, 11 MiB of 15.77 GiB are free"),
        (ask_for_too_much, "3725290.30 GiB more were asked for, .+ are free"),
    ],
)
def test_a_device_out_of_memory_is_one_line(
    need: Callable[[], None], told: str, whole: Path, tmp_path: Path
) -> None:
    """In the sixth step; the checkpoint before it stands, and the run can be gone on with."""

    class Large(ToyTask):
        def before_step(self, model: nn.Module, iteration: int) -> None:
            super().before_step(model, iteration)
            if iteration == 5:
                need()

    run = tmp_path / "run"
    message = (
        f"^cpu: out of memory: {told}; 4 images were computed at once: accumulate 2 takes half as "
        "many for the same step; a smaller batch_size, smaller images or bf16 take less, too$"
    )
    with pytest.raises(InputError, match=message):
        run_task(Large(CONFIG), run, resume=False, on_event=lambda event: None)
    assert load(run / "last.ckpt")["progress"]["iteration"] == 4
    assert carry_out(run, resume=True)[0] and different(run, whole) == []
