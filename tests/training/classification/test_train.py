"""Pre-training: exact resume, best model, images that cannot be read, mixing, two processes."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.backbones import BACKBONES
from detnet.backbones.files import ClassifierInfo, load_classifier
from detnet.engine import checkpoint
from detnet.engine.distributed import Process
from detnet.engine.watch import NonFiniteLoss
from detnet.errors import InputError
from detnet.inference.fuse import fuse
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.network import TrainedClassifier
from detnet.training.classification.train import PretrainTask, pretrain, resume
from tests.training.runs import Kill, assert_same_run, killed_after, metrics, quiet

KEPT = "best.safetensors", "evaluation/scores.json"
TINY: dict[str, Any] = {
    "backbone": "resnet50",
    "width": 0.125,
    "image_size": 32,
    "batch_size": 4,
    "lr": 0.02,
    "lr_batch": 0,
    "iterations": 9,
    "ema": 0.9,
    "mixup": 0.2,
    "label_smoothing": 0.1,
    "workers": 0,
    "log_every": 1,
    "checkpoint_every": 2,
    "precision": "fp32",
    "device": "cpu",
}


def write_pictures(folder: Path, *, train: int, val: int) -> None:
    """Red pictures and green ones, with noise, 40 by 52."""
    for split, count in (("train", train), ("val", val)):
        for label, name in enumerate(("green", "red")):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                random = np.random.default_rng((label, number, count))
                pixels = random.integers(0, 120, (40, 52, 3))
                pixels[..., 1 - label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, train=9, val=4)
    return folder


@pytest.fixture
def tiny(pictures: Path) -> PretrainConfig:
    return PretrainConfig.make(None, {"data": str(pictures), **TINY})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A run of nine steps, two epochs and one step, that was never interrupted."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("whole") / "run"
    assert pretrain(PretrainConfig.make(None, {"data": str(pictures), **TINY}), run, on_event=quiet)
    return run


def test_run_folder_holds_what_it_should(whole: Path) -> None:
    present = {path.name for path in whole.iterdir()}
    assert present == {
        "config.yaml", "environment.json", "metrics.jsonl", "last.ckpt", "best.safetensors",
        "model.safetensors", "evaluation", ".lock",
    }  # fmt: skip
    events = metrics(whole)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["iteration"] for event in steps] == list(range(1, 10))
    assert all(event["loss"] == event["loss_classifier"] > 0 for event in steps)
    evaluations = [event for event in events if event["event"] == "evaluation"]
    assert [event["iteration"] for event in evaluations] == [4, 8, 9]
    for event in evaluations:
        assert event["top1_error"] == pytest.approx(1 - event["top1"])
        assert event["top5_error"] is None and event["val_loss"] > 0  # of two classes
    model, info = load_classifier(whole / "best.safetensors")
    assert info.classes == ("green", "red")
    assert (info.input_size, info.short_side, info.options["width"]) == (32, 37, 0.125)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


@pytest.mark.parametrize(("workers", "after"), [(0, 1), (0, 5), (2, 7)])
def test_resume_equals_uninterrupted(
    whole: Path, tiny: PretrainConfig, tmp_path: Path, workers: int, after: int
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Kill):
        pretrain(replace(tiny, workers=workers), run, on_event=killed_after(after))
    assert not (run / "model.safetensors").exists()
    assert resume(run, on_event=quiet)
    assert_same_run(whole, run, *KEPT)


def test_resume_remembers_what_could_not_be_read(
    tiny: PretrainConfig, pictures: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    (data / "train" / "red" / "3.png").write_text("no image")
    config = replace(tiny, data=str(data))
    notes: list[str] = []
    assert pretrain(config, tmp_path / "a", on_event=lambda e: notes.append(e.get("text", "")))
    told = [note for note in notes if "cannot be read" in note or "takes its place" in note]
    assert len(told) == 2 and "red/3.png: is not an image" in told[0]
    assert told[1] == "1 of 18 images cannot be read so far"
    logged = [event for event in metrics(tmp_path / "a") if event["event"] == "note"]
    assert [event["text"] for event in logged] == told
    run = tmp_path / "b"
    with pytest.raises(Kill):
        pretrain(config, run, on_event=killed_after(7))
    assert resume(run, on_event=quiet)
    assert_same_run(tmp_path / "a", run, *KEPT)


def test_too_many_that_cannot_be_read_end_the_run(
    tiny: PretrainConfig, pictures: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    for number in range(3):
        path = data / "train" / "red" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="2 of 18 images cannot be read, more than 1%; the first"):
        pretrain(replace(tiny, data=str(data), batch_size=2), tmp_path / "run", on_event=quiet)
    for path in (data / "train" / "red").iterdir():
        shutil.copy(pictures / "train" / "red" / path.name, path)
    assert resume(tmp_path / "run", on_event=quiet)  # with the images put right it can go on


def test_a_validation_image_that_cannot_be_read_is_left_out(
    tiny: PretrainConfig, pictures: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    (data / "val" / "red" / "0.png").write_bytes(b"")
    run = tmp_path / "run"
    assert pretrain(replace(tiny, data=str(data), iterations=1), run, on_event=quiet)
    text = (run / "evaluation" / "scores.json").read_text()
    assert '"images": 7' in text and "red/0.png: the file is empty" in text


def test_it_learns(tiny: PretrainConfig, tmp_path: Path) -> None:
    """Red and green are told apart after a hundred steps, colour jitter or not."""
    config = replace(tiny, iterations=100, batch_size=8, lr=0.1, evaluate_every=50, width=0.0625)
    ends: list[dict[str, Any]] = []
    assert pretrain(config, tmp_path / "run", on_event=ends.append)
    assert ends[-1]["event"] == "end" and ends[-1]["best"] >= 7 / 8


def test_the_cost_is_told_before_the_first_step(tiny: PretrainConfig, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    with pytest.raises(Kill):
        pretrain(
            tiny,
            tmp_path / "run",
            on_event=lambda e: (events.append(e), killed_after(1)(e)),  # type: ignore[arg-type]
        )
    before = [event.get("text", "") for event in events if event["event"] == "note"]
    assert any("G multiply-adds an image of 32×32; the run shows 36 images" in t for t in before)
    assert "2 classes" in before


def test_non_finite_loss_stops_before_the_step(tiny: PretrainConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(NonFiniteLoss, match="images") as caught:
        pretrain(replace(tiny, lr=1e25), run, on_event=quiet)
    state = checkpoint.load(run / "last.ckpt")
    assert state["progress"]["iteration"] == caught.value.iteration - 1
    last = metrics(run)[-1]
    assert last["event"] == "failure" and last["images"][0].endswith(".png")


def test_other_images_to_evaluate_on_are_told(
    tiny: PretrainConfig, pictures: Path, tmp_path: Path
) -> None:
    data, run = shutil.copytree(pictures, tmp_path / "data"), tmp_path / "run"
    with pytest.raises(Kill):
        pretrain(replace(tiny, data=str(data)), run, on_event=killed_after(3))
    next((data / "val" / "red").iterdir()).unlink()
    assert resume(run, on_event=quiet)
    told = [event["text"] for event in metrics(run) if event["event"] == "note"]
    assert told == [
        "the images to evaluate on changed: the next evaluation begins a new best model"
    ]


def test_resume_refuses_other_images(tiny: PretrainConfig, pictures: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(pictures, data)
    with pytest.raises(Kill):
        pretrain(replace(tiny, data=str(data)), run, on_event=killed_after(3))
    (data / "train" / "red" / "8.png").unlink()
    with pytest.raises(InputError, match="train: not the images that .*run began with"):
        resume(run, on_event=quiet)


def test_no_validation_split(tiny: PretrainConfig, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    config = replace(tiny, val_split="none", iterations=1)
    assert pretrain(config, tmp_path / "run", on_event=events.append)
    assert any("no validation split" in event.get("text", "") for event in events)
    assert not (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ""}, "no data: give --data"),
        ({"data": "nowhere"}, "nowhere: no such folder"),
        ({"train_split": "training"}, "has no folder 'training' of images.*there are train, val"),
        ({"val_split": "test"}, "has no folder 'test'"),
        ({"best_metric": "AP"}, "best_metric must be one of top1, top5, got 'AP'"),
        ({"best_metric": "top5"}, "top5 takes more than 5 classes, .*train has 2; take top1"),
        ({"backbone": "resnet49"}, "unknown backbone 'resnet49'"),
        ({"accumulate": 3}, "batch_size 4 cannot be divided"),
        ({"width": 9}, "width must lie in"),
        ({"weights": "gone.pth"}, "gone.pth: no such run folder or model file"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_run(
    tiny: PretrainConfig, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        pretrain(replace(tiny, **changes), tmp_path / "run", on_event=quiet)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def begun(config: PretrainConfig) -> tuple[PretrainTask, Any]:
    """A task that has read its data, and its model."""
    task = PretrainTask(config)
    task.resolve(load_weights=True)
    task.read_data(Process(0, 1, torch.device("cpu")))
    return task, task.make_model()[0]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_can_be_pretrained(name: str, tiny: PretrainConfig, tmp_path: Path) -> None:
    """It learns from a batch, and its file gives the same logits, also when it is fused."""
    config = replace(tiny, backbone=name, mixup=0.0)
    task, model = begun(config)
    images, targets = next(task.stream(start=0, stop=1))
    model.train()(images, targets)["loss_classifier"].backward()
    assert all(p.grad is not None for p in model.parameters())
    task.save_model(tmp_path / "a.safetensors", model, None)
    loaded, _ = load_classifier(tmp_path / "a.safetensors")
    inputs = torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        expected = model.eval()(inputs)
        assert torch.equal(loaded(inputs), expected)
        torch.testing.assert_close(fuse(loaded)(inputs), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.processor
def test_the_step_is_half_precision_with_channels_last(tiny: PretrainConfig) -> None:
    """What makes it fast on processors that multiply bf16: neither is lost on the way."""
    task, model = begun(tiny)
    model = model.to(memory_format=torch.channels_last).train()
    seen: list[tuple[torch.dtype, bool]] = []

    def look(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        kept = output.is_contiguous(memory_format=torch.channels_last)
        seen.append((output.dtype, kept))

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            layer.register_forward_hook(look)
    images, targets = next(task.stream(start=0, stop=1))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(images, targets)["loss_classifier"]
    assert loss.dtype == torch.float32
    assert len(seen) > 100 and set(seen) == {(torch.bfloat16, True)}


def test_mixed_images_have_both_targets() -> None:
    """An image's share of the next one counts for both its pixels and its target."""
    info = ClassifierInfo("resnet50", ("a", "b"), {"width": 0.125})
    torch.manual_seed(0)
    model = TrainedClassifier(BACKBONES["resnet50"](width=0.125), info, 0.0).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    base = {"color": (1.0, 1.0, 1.0, 0), "light": (0.0, 0.0, 0.0)}
    targets = [{"label": label, "share": 0.75, **base} for label in (0, 1)]
    found = model(images, targets)["loss_classifier"]
    mean, std = (torch.tensor(v)[:, None, None] for v in (info.pixel_mean, info.pixel_std))
    inputs = (images / 255 - mean) / std
    mixed = 0.75 * inputs + 0.25 * inputs.flip(0)
    logs = model(mixed).log_softmax(1)
    expected = -(0.75 * logs[0, 0] + 0.25 * logs[0, 1] + 0.75 * logs[1, 1] + 0.25 * logs[1, 0]) / 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [part for name, value in TINY.items() for part in (f"--{name}", str(value))]
    options = [part.replace("_", "-") if part.startswith("--") else part for part in options]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "detnet", "pretrain", "--data", str(pictures), "--output", str(run), *options,
        "--norm", "sync",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    events = metrics(run)
    assert sum(event["event"] == "step" for event in events) == 9
    assert [event["event"] for event in events[-2:]] == ["evaluation", "end"]
    assert '"images": 8' in (run / "evaluation" / "scores.json").read_text()
