"""A detector's training goes on to the same bits, however it was ended; what cannot go on."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.detectors.files import load_model
from detnet.engine import checkpoint
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.inference.models import find_model
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import resume, train
from detnet.training.settings import write_config
from tests.data.voc_devkit import write_devkit
from tests.training.runs import Kill, assert_same_run, killed_after, metrics, quiet


@pytest.mark.parametrize(("workers", "after"), [(0, 1), (0, 3), (2, 5)])
def test_resume_equals_uninterrupted(
    whole: Path, tiny: TrainConfig, tmp_path: Path, workers: int, after: int
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Kill):
        train(replace(tiny, workers=workers), run, on_event=killed_after(after))
    assert not (run / "model.safetensors").exists()
    assert resume(run, on_event=quiet)
    assert_same_run(whole, run, "best.safetensors")


def test_the_number_of_threads_is_kept_on_resume(tiny: TrainConfig, tmp_path: Path) -> None:
    """Other numbers add up in another order, and the bits would differ."""
    run = tmp_path / "run"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with pytest.raises(Kill):
            train(replace(tiny, iterations=2), run, on_event=killed_after(1))
        assert TrainConfig.read(run / "config.yaml").threads == 1
        torch.set_num_threads(2)
        assert resume(run, on_event=quiet)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def statistics(run: Path) -> dict[str, torch.Tensor]:
    model = checkpoint.load(run / "last.ckpt")["model"]
    return {name: value for name, value in model.items() if name.endswith("running_mean")}


def test_batch_norm_momentum_and_shifts_are_settings(tiny: TrainConfig, tmp_path: Path) -> None:
    usual = replace(
        tiny,
        backbone="shufflenetv2_20",
        detector="retinanet",
        detector_options={},
        val_split="none",
        iterations=1,
        checkpoint_every=1,
    )
    changes: dict[str, Any] = {"norm_momentum": 0.02, "norm_shift": "bias", "iterations": 2}
    ours = replace(usual, bias_lr_factor=2.0, bias_weight_decay=0.0, **changes)
    assert train(usual, tmp_path / "usual", on_event=quiet)
    assert train(ours, tmp_path / "whole", on_event=quiet)
    with pytest.raises(Kill):
        train(ours, tmp_path / "killed", on_event=killed_after(2))
    expected, found = statistics(tmp_path / "usual"), statistics(tmp_path / "killed")
    assert len(found) > 20
    for name, mean in found.items():  # of the first batch, from zero
        torch.testing.assert_close(mean * 5, expected[name])
    assert resume(tmp_path / "killed", on_event=quiet)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")

    kept = TrainConfig.read(tmp_path / "whole" / "config.yaml")
    assert (kept.norm_momentum, kept.norm_shift) == (0.02, "bias")
    model = load_model(tmp_path / "whole" / "model.safetensors")
    biases = [name for name, _ in model.named_parameters() if name.endswith("bias")]
    groups = checkpoint.load(tmp_path / "whole" / "last.ckpt")["optimizer"]["param_groups"]
    assert [(group["initial_lr"], group["weight_decay"]) for group in groups] == [
        (0.02, 1e-4),
        (0.04, 0.0),
    ]
    assert len(groups[1]["params"]) == len(biases)


def test_batch_norms_settle_when_the_settings_say(tiny: TrainConfig, tmp_path: Path) -> None:
    settled = replace(tiny, norm_settled=0.5, iterations=4, val_split="none", checkpoint_every=2)
    with pytest.raises(Kill):
        train(settled, tmp_path / "killed", on_event=killed_after(3))
    before = statistics(tmp_path / "killed")  # after two steps
    assert len(before) > 20 and all(mean.any() for mean in before.values())
    assert resume(tmp_path / "killed", on_event=quiet)
    after = statistics(tmp_path / "killed")
    assert all(torch.equal(mean, after[name]) for name, mean in before.items())
    assert train(settled, tmp_path / "whole", on_event=quiet)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert train(replace(settled, norm_settled=1.0), tmp_path / "never", on_event=quiet)
    never = statistics(tmp_path / "never")
    assert not any(torch.equal(mean, never[name]) for name, mean in before.items())


def test_a_run_is_trained_by_one_process_at_a_time(tiny: TrainConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused: list[str] = []

    def second(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["iteration"] == 4:
            with pytest.raises(InputError, match="another process is training this run") as caught:
                resume(run, on_event=quiet)
            refused.append(str(caught.value))

    assert train(tiny, run, on_event=second)
    assert len(refused) == 1
    assert resume(run, on_event=quiet)  # the lock is gone


def test_resume_of_a_complete_run_changes_nothing(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("[!.]*")}
    notes: list[str] = []
    assert resume(whole, on_event=lambda event: notes.append(event.get("text", "")))
    assert any("complete" in note for note in notes)
    assert before == {path: path.stat().st_mtime_ns for path in whole.glob("[!.]*")}


def test_signal_saves_and_resumes(whole: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    def interrupting(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["iteration"] == 3:
            os.kill(os.getpid(), 15)

    run = tmp_path / "run"
    assert train(tiny, run, on_event=interrupting) is False
    assert checkpoint.load(run / "last.ckpt")["progress"]["iteration"] == 3
    assert resume(run, on_event=quiet)
    assert_same_run(whole, run, "best.safetensors")


def test_signal_in_the_last_evaluation_still_finishes(tiny: TrainConfig, tmp_path: Path) -> None:
    def interrupting(event: dict[str, Any]) -> None:
        if event["event"] == "evaluation" and event["iteration"] == 6:
            os.kill(os.getpid(), 15)

    assert train(tiny, tmp_path / "run", on_event=interrupting) is True
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_kill_after_the_last_checkpoint_is_made_good(
    whole: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    def dying(event: dict[str, Any]) -> None:
        if event["event"] == "end":
            raise Kill

    run = tmp_path / "run"
    with pytest.raises(Kill):
        train(tiny, run, on_event=dying)
    (run / "model.safetensors").unlink()
    RunFolder.open(run).cut_metrics(6)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("".join(line + "\n" for line in lines[:-1]))
    assert resume(run, on_event=quiet)
    assert_same_run(whole, run, "best.safetensors")


def test_resume_needs_no_weights_file(whole: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    shutil.copy(whole / "best.safetensors", start)
    config = replace(tiny, weights=str(start), norm="auto", frozen=["stem"])
    run = tmp_path / "run"
    with pytest.raises(Kill):
        train(config, run, on_event=killed_after(5))
    kept = TrainConfig.read(run / "config.yaml")
    assert (kept.norm, kept.detector_options["channel_order"]) == ("frozen", "rgb")
    start.unlink()
    assert resume(run, on_event=quiet)


def test_a_learning_rate_lowered_between_holds_from_there(
    tiny: TrainConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    course = {"lr": 0.01, "lr_batch": 0, "schedule": "constant", "warmup": "none"}
    often = {"checkpoint_every": 2, "log_every": 1, "iterations": 3, "val_split": "none"}
    with pytest.raises(Kill):
        train(replace(tiny, **course, **often), run, on_event=killed_after(3))
    kept = TrainConfig.read(run / "config.yaml")
    write_config(replace(kept, lr=0.001), run / "config.yaml")
    assert resume(run, on_event=quiet)
    steps = [event["lr"] for event in metrics(run) if event["event"] == "step"]
    assert steps == pytest.approx([0.01, 0.01, 0.001])


def test_a_run_without_a_checkpoint_begins_with_its_weights_again(
    whole: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    config = replace(tiny, weights=str(whole), norm="auto", iterations=2, lr=1e-12, ema=0.0)
    run = tmp_path / "run"
    with pytest.raises(Kill):
        train(config, run, on_event=killed_after(1))
    assert not (run / "last.ckpt").exists()
    assert resume(run, on_event=quiet)
    weight = "backbone.backbone.stages.c6.2.conv3.weight"
    before, after = (load_model(find_model(folder)).state_dict() for folder in (whole, run))
    torch.testing.assert_close(after[weight], before[weight])


def test_resume_refuses_other_data_and_no_run(
    whole: Path, tiny: TrainConfig, scenes: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        resume(tmp_path / "nothing", on_event=quiet)
    with pytest.raises(InputError, match="holds no run"):
        resume(scenes, on_event=quiet)
    run = tmp_path / "run"
    with pytest.raises(Kill):
        train(tiny, run, on_event=killed_after(3))
    path = run / "config.yaml"
    other = tmp_path / "other.json"
    text = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    text["info"] = {"description": "another file"}
    other.write_text(json.dumps(text))
    config = path.read_text().replace("train_annotations: null", f"train_annotations: {other}")
    path.write_text(config.replace("train_images: null", f"train_images: {scenes / 'train'}"))
    with pytest.raises(InputError, match="not the annotations"):
        resume(run, on_event=quiet)


def test_a_mended_validation_annotation_begins_a_new_best(
    tiny: TrainConfig, scenes: Path, tmp_path: Path
) -> None:
    data, run = shutil.copytree(scenes, tmp_path / "data"), tmp_path / "run"
    with pytest.raises(Kill):
        train(replace(tiny, data=str(data)), run, on_event=killed_after(5))
    state = checkpoint.load(run / "last.ckpt")
    assert state["progress"]["iteration"] == 4 and state["progress"]["best"] is not None
    # A score that no later one can reach.
    checkpoint.save(run / "last.ckpt", {**state, "progress": {**state["progress"], "best": 2.0}})
    val = data / "annotations" / "instances_val.json"
    content = json.loads(val.read_text())
    val.write_text(json.dumps({**content, "annotations": content["annotations"][1:]}))
    assert resume(run, on_event=quiet)
    notes = [event["text"] for event in metrics(run) if event["event"] == "note"]
    assert notes == [
        "the annotations to evaluate on changed: the next evaluation begins a new best model"
    ]
    evaluations = [event for event in metrics(run) if event["event"] == "evaluation"]
    assert evaluations[-1]["iteration"] == 6 and evaluations[-1]["best"]
    assert metrics(run)[-1]["best_iteration"] == 6


def test_resume_refuses_classes_in_another_order(tiny: TrainConfig, tmp_path: Path) -> None:
    """VOC's files hold names, and what they are numbered by lies beside them."""
    data, run = write_devkit(tmp_path / "VOCdevkit"), tmp_path / "run"
    labels = data / "labels.txt"
    labels.write_text("bird\ncat\ndog\n")
    with pytest.raises(Kill):
        train(replace(tiny, data=str(data), val_split="none"), run, on_event=killed_after(3))
    labels.write_text("dog\ncat\nbird\n")
    with pytest.raises(InputError, match="class 1 is 'dog', but .*run began with 'bird'; put the"):
        resume(run, on_event=quiet)
    labels.unlink()  # then they are all names, alphabetical
    assert resume(run, on_event=quiet)
