"""Training: exact resume, best model, early stopping, failures, other categories."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.detectors.files import load_model, read_info
from detnet.engine import checkpoint
from detnet.engine.runs import RunFolder
from detnet.engine.watch import NonFiniteLoss
from detnet.errors import InputError
from detnet.inference.models import find_model
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import resume, train

CLOCKS = ("images_per_s", "data_s", "step_s", "seconds")


class Kill(Exception):
    """Stands for kill -9: nothing is saved on the way out."""


def quiet(event: dict[str, Any]) -> None:
    pass


def killed_after(iteration: int):  # noqa: ANN201
    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["iteration"] == iteration:
            raise Kill

    return on_event


def metrics(run: Path) -> list[dict[str, Any]]:
    events = RunFolder.open(run).read_metrics()
    return [{k: v for k, v in event.items() if k not in CLOCKS} for event in events]


def assert_same_run(one: Path, other: Path, *, best: bool = True) -> None:
    assert metrics(one) == metrics(other)
    for name in ("model.safetensors", "best.safetensors") if best else ("model.safetensors",):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    a, b = (checkpoint.load(run / "last.ckpt") for run in (one, other))
    for key in ("model", "ema", "optimizer", "rng"):
        assert_equal_trees(a[key], b[key])
    del a["progress"]["seconds"], b["progress"]["seconds"]
    assert a["progress"] == b["progress"]


def assert_equal_trees(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal_trees(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal_trees(x, y)
    else:
        assert a == b


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A run of six steps that was never interrupted."""
    from detnet.training.detection.config import TrainConfig
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    assert train(TrainConfig.make(None, {"data": str(scenes), **TINY}), folder, on_event=quiet)
    return folder


def test_run_folder_holds_what_it_should(whole: Path) -> None:
    present = {path.name for path in whole.iterdir()}
    assert present == {
        "config.yaml", "environment.json", "metrics.jsonl", "last.ckpt", "best.safetensors",
        "model.safetensors", "evaluation", ".lock",
    }  # fmt: skip
    steps = [event for event in metrics(whole) if event["event"] == "step"]
    assert [event["iteration"] for event in steps] == [1, 2, 3, 4, 5, 6]
    evaluations = [event for event in metrics(whole) if event["event"] == "evaluation"]
    assert [event["iteration"] for event in evaluations] == [4, 6]
    assert all(event["val_loss"] > 0 for event in evaluations)
    scores = json.loads((whole / "evaluation" / "scores.json").read_text())
    assert scores["AP"] is not None and "large" in scores["by_iou_and_size"]
    assert [c["name"] for c in read_info(whole / "best.safetensors").categories]


def test_warm_up_and_losses(whole: Path) -> None:
    steps = [event for event in metrics(whole) if event["event"] == "step"]
    assert steps[0]["lr"] == pytest.approx(0.02 * 0.3)
    assert steps[2]["lr"] == pytest.approx(0.02)
    assert steps[4]["lr"] == pytest.approx(0.002)
    names = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
    assert steps[0]["loss"] == pytest.approx(sum(steps[0][name] for name in names))


@pytest.mark.parametrize(("workers", "after"), [(0, 1), (0, 3), (2, 5)])
def test_resume_equals_uninterrupted(
    whole: Path, tiny: TrainConfig, tmp_path: Path, workers: int, after: int
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Kill):
        train(replace(tiny, workers=workers), run, on_event=killed_after(after))
    assert not (run / "model.safetensors").exists()
    assert resume(run, on_event=quiet)
    assert_same_run(whole, run)


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
    assert_same_run(tmp_path / "whole", tmp_path / "killed", best=False)

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
    assert_same_run(whole, run)


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
    assert_same_run(whole, run)


def test_resume_needs_no_weights_file(whole: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    import shutil

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


def test_nothing_random_is_frozen(tiny: TrainConfig, tmp_path: Path) -> None:
    for change in ({"norm": "frozen"}, {"frozen": ["stem"]}):
        with pytest.raises(InputError, match="frozen as drawn at random: give --weights"):
            train(replace(tiny, **change), tmp_path / "run", on_event=quiet)
    assert not (tmp_path / "run").exists()


def test_early_stopping(tiny: TrainConfig, tmp_path: Path) -> None:
    """With a learning rate of nothing no evaluation is better than the first."""
    config = replace(tiny, lr=1e-12, iterations=100, patience=2, ema=0.0, val_loss=False)
    events: list[dict[str, Any]] = []
    assert train(config, tmp_path / "run", on_event=events.append)
    assert events[-1]["stopped_early"]
    best = [e["iteration"] for e in events if e["event"] == "evaluation" and e["best"]]
    assert events[-1]["iteration"] == best[-1] + 8  # two evaluations of four steps later


def test_non_finite_loss_stops_before_the_step(tiny: TrainConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(NonFiniteLoss, match="images") as caught:
        train(replace(tiny, lr=1e9, clip_norm=0.0, warmup="none"), run, on_event=quiet)
    state = checkpoint.load(run / "last.ckpt")
    assert state["progress"]["iteration"] == caught.value.iteration - 1
    last = metrics(run)[-1]
    assert last["event"] == "failure" and last["images"]


def test_output_is_never_overwritten(whole: Path, tiny: TrainConfig) -> None:
    before = (whole / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="holds a run already"):
        train(tiny, whole, on_event=quiet)
    assert (whole / "metrics.jsonl").read_bytes() == before


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


def test_fine_tuning_on_other_categories(
    whole: Path, tiny: TrainConfig, scenes: Path, tmp_path: Path
) -> None:
    """Everything but the class layers is carried over, and it says so."""
    truth = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    renamed = {1: 40, 2: 7, 3: 90}
    truth["categories"] = [{"id": i, "name": f"kind {i}"} for i in renamed.values()]
    truth["annotations"] = [
        {**a, "category_id": renamed[a["category_id"]]}
        for a in truth["annotations"]
        if a["category_id"] in renamed
    ]
    path = tmp_path / "other.json"
    path.write_text(json.dumps(truth))
    events: list[dict[str, Any]] = []
    config = replace(
        tiny,
        train_annotations=str(path),
        train_images=str(scenes / "train"),
        val_split="none",
        weights=str(whole),
        iterations=1,
        lr=1e-12,
        norm="auto",
        ema=0.0,
    )
    assert train(config, tmp_path / "run", on_event=events.append)
    notes = [event.get("text", "") for event in events]
    fresh = [line.strip() for line in notes if line.strip().startswith("fresh")]
    assert fresh == ["fresh, roi_heads: box_predictor.cls_score, box_predictor.bbox_pred"]
    assert any(line.split() == ["roi_heads", "4", "4", "4", "0"] for line in notes), notes
    before = load_model(whole / "best.safetensors").state_dict()
    after = load_model(tmp_path / "run" / "model.safetensors")
    assert after.info.options["norm"] == "frozen"
    assert [c["id"] for c in after.info.categories] == [7, 40, 90]
    weight = "backbone.backbone.stages.c6.2.conv3.weight"
    torch.testing.assert_close(after.state_dict()[weight], before[weight])


@pytest.mark.parametrize("detector", ["mask_rcnn_fpn", "retinanet"])
def test_other_detectors_train(detector: str, tiny: TrainConfig, tmp_path: Path) -> None:
    options = tiny.detector_options if detector == "mask_rcnn_fpn" else {}
    config = replace(tiny, detector=detector, detector_options=options, iterations=2)
    assert train(config, tmp_path / "run", on_event=quiet)
    evaluation, end = metrics(tmp_path / "run")[-2:]
    assert end["event"] == "end"
    assert ("segm_AP" in evaluation) == (detector == "mask_rcnn_fpn")


def test_tensorboard_is_written_too(tiny: TrainConfig, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = replace(tiny, tensorboard=True, iterations=2)
    assert train(config, tmp_path / "run", on_event=quiet)
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("step/loss")] == [1, 2]
    assert [e.step for e in events.Scalars("evaluation/AP")] == [2]


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++"))), reason="needs a C++ compiler")
def test_a_compiled_network_has_the_same_losses(tiny: TrainConfig, tmp_path: Path) -> None:
    """Backbone and pyramid, under a detector that draws no samples: those follow roundings."""
    shared: dict[str, Any] = {
        "detector": "retinanet", "detector_options": {}, "val_split": "none", "iterations": 3,
        "epochs": None,
    }  # fmt: skip
    config = replace(tiny, **shared)
    for name, compiled in (("plain", False), ("compiled", True)):
        assert train(replace(config, compile=compiled), tmp_path / name, on_event=quiet)
    losses = [
        [event["loss"] for event in metrics(tmp_path / name) if event["event"] == "step"]
        for name in ("plain", "compiled")
    ]
    assert len(losses[0]) == 3 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    states = [
        checkpoint.load(tmp_path / name / "last.ckpt")["model"] for name in ("plain", "compiled")
    ]
    assert states[0].keys() == states[1].keys()
    assert (tmp_path / "compiled" / "model.safetensors").is_file()


def test_without_a_compiler_it_is_said_at_once(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match="compile needs a C\\+\\+ compiler"):
        train(replace(tiny, compile=True), tmp_path / "run", on_event=quiet)
    assert not (tmp_path / "run").exists()


def test_fp16_is_for_gpus(tiny: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fp16 is for GPUs"):
        train(replace(tiny, precision="fp16"), tmp_path / "run", on_event=quiet)
    assert not (tmp_path / "run").exists()
