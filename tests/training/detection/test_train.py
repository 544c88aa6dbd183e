"""Training: what is written, early stopping, failures, other categories and detectors."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.detectors.files import load_model, read_info
from detnet.engine import checkpoint
from detnet.engine.watch import NonFiniteLoss
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import train
from tests.training.runs import metrics, quiet


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


def test_nothing_random_is_frozen(tiny: TrainConfig, tmp_path: Path) -> None:
    for change in ({"norm": "frozen"}, {"frozen": ["stem"]}):
        with pytest.raises(InputError, match="frozen as drawn at random: give --weights"):
            train(replace(tiny, **change), tmp_path / "run", on_event=quiet)
    with pytest.raises(InputError, match="cannot freeze 'c9'; this backbone's parts: stem, c2"):
        train(replace(tiny, frozen=["c9"]), tmp_path / "run", on_event=quiet)
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


@pytest.mark.parametrize("detector", ["mask_rcnn_fpn", "retinanet", "yolo"])
def test_other_detectors_train(detector: str, tiny: TrainConfig, tmp_path: Path) -> None:
    options = tiny.detector_options if detector == "mask_rcnn_fpn" else {}
    config = replace(tiny, detector=detector, detector_options=options, iterations=2, ema=0.9)
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
